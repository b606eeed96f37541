"""Dead letters through real processes: what comes where, and what stops a connector all the same (an addition)."""

from __future__ import annotations

import json

import pytest

from sinkworker.connectors.lifecycle import State
from sinkworker.metrics.recorder import recorded
from tests.integration.test_transforms import failing_at, function
from tests.oracle import consume, judge
from tests.processes import eventually
from tests.system import Flow, System

DEAD_LETTERS = {"errors:policy": "deadLetter"}
SWELLS = "record.value = 'x'.repeat(11000000)"
"""Into what even the client library does not take."""


def test_what_kafka_or_the_function_refuses_goes_aside_as_it_was_and_all_else_arrives_in_order(system: System) -> None:
    flow, dead = Flow(system, system.topic(partitions=2)), system.topic(partitions=3)
    refuses = f"""function transform(record) {{
        if (record.value.number === 7) null.x;
        if (record.value.number === 131) {SWELLS};
    }}"""
    flow.create(**DEAD_LETTERS, **{"errors:deadLetterTopic": dead}, **function(refuses))
    flow.append(200)
    log = flow.log()
    failed, large = (next(event for event in log if number(event.data) == guilty) for guilty in (7, 131))
    flow.start()
    eventually(lambda: flow.position >= log[-1].commit_position, within_s=40)  # P1: only what is confirmed
    verdict = judge(
        [event for event in log if event.id not in {failed.id, large.id}], consume(system.servers, flow.topic)
    )
    assert (verdict.missing, verdict.unexpected, verdict.out_of_order) == ([], [], [])
    letters = {message.record_id: message for message in consume(system.servers, dead)}
    assert letters.keys() == {str(failed.id), str(large.id)}
    for event, code in ((large, "MSG_SIZE_TOO_LARGE"), (failed, "transform-failed")):
        letter = letters[str(event.id)]
        assert (letter.value, letter.key) == (event.data, event.stream_name.encode())
        assert letter.headers["sinkworker-error-code"] == code.encode()
        assert letter.headers["sinkworker-error-topic"] == flow.topic.encode()
        assert str(event.id).encode() in letter.headers["sinkworker-error-message"]
        assert letter.headers["esdb-record-log-position"] == b"%d" % event.commit_position
        eventually(lambda code=code: counted(flow, f"kurrent_sink_errors_total|{code}"))  # type: ignore[misc]
    assert counted(flow, "sinkworker_dead_letters_total") >= 2
    assert flow.connector.state is State.RUNNING
    assert any(worker.said(f"It is in the dead-letter topic '{dead}'") for worker in system.workers)


@pytest.mark.long
def test_a_dead_letter_topic_that_is_missing_stops_the_connector_with_both_reasons(system: System) -> None:
    flow = Flow(system, system.topic(partitions=1))
    flow.create(**DEAD_LETTERS, **{"errors:deadLetterTopic": "nowhere"}, **failing_at(21, "null.x"))
    flow.append(40)
    flow.start()
    eventually(lambda: flow.connector.error is not None and flow.connector.state is State.STOPPED, within_s=40)
    error, guilty = flow.connector.error, flow.log()[20]
    assert error is not None
    assert error.code == "dead-letter-refused"
    assert f"Record {guilty.id} " in error.message
    assert "The topic 'nowhere' does not exist" in error.message
    before = [str(event.id) for event in flow.log()[:20]]
    assert list(dict.fromkeys(each.record_id for each in consume(system.servers, flow.topic))) == before


def number(data: bytes) -> int:
    return int(json.loads(data)["number"])


def counted(flow: Flow, name: str) -> float:
    """What all processes have told of a count."""
    return recorded(flow.system.redis, flow.id)[0].get(name, 0)
