"""Transformations through real processes: what arrives, and what a function that fails costs (contract §6)."""

from __future__ import annotations

import base64
import json

import pytest
from kurrentdbclient import NewEvent, StreamState

from sinkworker.connectors.lifecycle import State
from tests.oracle import consume
from tests.processes import eventually
from tests.system import Flow, System

HIDES = """
function transform(record) {
  const { applicant, ...rest } = record.value;
  record.value = { ...rest, applicant: `${applicant[0]}***` };
  record.schemaInfo.subject = "Hidden";
  record.headers.stream = record.streamId;
}
"""


def function(body: str) -> dict[str, str]:
    return {"transformer:enabled": "true", "transformer:function": base64.b64encode(body.encode()).decode()}


def failing_at(number: int, how: str) -> dict[str, str]:
    return function(f"function transform(record) {{\n  if (record.value.number === {number}) {{ {how} }}\n}}")


@pytest.mark.check("A43")
def test_records_arrive_transformed_in_order_and_others_as_they_were(system: System) -> None:
    """A43"""
    flow = Flow(system, system.topic())
    flow.create(**function(HIDES))
    flow.append(300)
    other = NewEvent(type="Scanned", data=b"\x00\x01", content_type="application/octet-stream")
    system.client.append_to_stream(f"{flow.prefix}-0", current_version=StreamState.ANY, events=[other])
    flow.start()
    verdict = flow.delivered()
    assert (verdict.missing, verdict.unexpected, verdict.out_of_order, verdict.duplicates) == ([], [], [], 0)
    found = consume(system.servers, flow.topic)
    by_id = {message.record_id: message for message in found}
    for event in flow.log():
        message = by_id[str(event.id)]
        if event.type == "Scanned":
            assert message.value == event.data
            assert "esdb-record-is-transformed" not in message.headers
            continue
        assert json.loads(message.value or b"") == {"number": json.loads(event.data)["number"], "applicant": "x***"}
        assert {
            "esdb-record-is-transformed": b"true",
            "esdb-record-schema-subject": b"Hidden",
            "esdb-record-headers-stream": event.stream_name.encode(),
            "esdb-record-headers-tenant": b"north",
        }.items() <= message.headers.items()


@pytest.mark.check("A44")
@pytest.mark.parametrize(
    ("how", "says"),
    [
        pytest.param("null.x", "TypeError: Cannot read properties of null (reading 'x') (line 2, column", id="throws"),
        pytest.param("return {}", "transform returned a value (object)", id="returns", marks=pytest.mark.long),
        pytest.param("while (true);", "did not come to an end within 1 s", id="loops", marks=pytest.mark.long),
        pytest.param(
            "'x'.repeat(2 ** 29 - 30).split('')", "used more memory than it may", id="eats", marks=pytest.mark.long
        ),
    ],
)
def test_a_record_that_fails_stops_the_connector_and_a_corrected_function_goes_on_there(
    system: System, how: str, says: str
) -> None:
    """A44"""
    flow = Flow(system, system.topic(partitions=1))
    flow.create(**failing_at(131, how))
    flow.append(200)
    flow.start()
    eventually(lambda: flow.connector.error is not None and flow.connector.state is State.STOPPED, within_s=40)
    error = flow.connector.error
    assert error is not None
    guilty = flow.log()[130]
    assert error.code == "transform-failed"
    assert f"Record {guilty.id} of stream '{guilty.stream_name}' at position {guilty.commit_position}" in error.message
    assert says in error.message
    before = [str(event.id) for event in flow.log()[:130]]
    assert [message.record_id for message in consume(system.servers, flow.topic)] == before

    system.registry.reconfigure(flow.id, dict(function("function transform(record) { record.headers.corrected = 1 }")))
    flow.start()
    log = flow.log()
    eventually(lambda: flow.position >= log[-1].commit_position, within_s=40)
    after = consume(system.servers, flow.topic)[130:]
    assert list(dict.fromkeys([*before, *(each.record_id for each in after)])) == [str(event.id) for event in log]
    assert all(each.headers["esdb-record-headers-corrected"] == b"1" for each in after)
    # What had been acknowledged is not sent again; of the batch with the record in it, what precedes it is (P3).
    assert len(after) <= 70 + 50
    assert flow.connector.error is None
