"""A record that cannot be delivered, in the middle of a backlog: all that is before it arrives, then it stops (P5)."""

from __future__ import annotations

import base64

import pytest
from kurrentdbclient import NewEvent, StreamState

from sinkworker.connectors.lifecycle import State
from tests.oracle import consume, passed_by
from tests.processes import eventually
from tests.system import Flow, System

FAILS = base64.b64encode(b"function transform(record) { if (record.value.poison) null.x }").decode()
FAILING_FUNCTION = {"transformer:enabled": "true", "transformer:function": FAILS}

MENDED_FUNCTION = {"transformer:enabled": "false"}

HANGS_ON = "a" * 40 + "!"
HANGING_KEY = {"partitionKeyExtraction:expression": r"^((?:\w|-)+|(?:a|aa|.)+b)$"}
MENDED_KEY = {"partitionKeyExtraction:expression": "^(.*)$"}


@pytest.mark.parametrize(
    ("stream", "settings", "code", "mended"),
    [
        pytest.param("7", FAILING_FUNCTION, "transform-failed", MENDED_FUNCTION, id="a worker finds it"),
        pytest.param(HANGS_ON, HANGING_KEY, "regex-timeout", MENDED_KEY, id="the scheduler finds it"),
    ],
)
def test_all_that_is_before_a_record_that_stops_the_connector_arrives(
    system: System, stream: str, settings: dict[str, str], code: str, mended: dict[str, str]
) -> None:
    flow = Flow(system, system.topic())
    flow.create(**settings)
    flow.append(1500, per_append=50)
    poison = NewEvent(type="Requested", data=b'{"poison": true}')
    system.client.append_to_stream(f"{flow.prefix}-{stream}", current_version=StreamState.ANY, events=[poison])
    flow.append(1500, per_append=50)
    flow.start()
    eventually(lambda: flow.connector.error is not None and flow.connector.state is State.STOPPED, within_s=40)
    error = flow.connector.error
    assert error is not None
    assert error.code == code
    assert str(poison.id) in error.message
    assert passed_by(flow.log(), consume(system.servers, flow.topic), str(poison.id)) == ([], [])

    system.registry.reconfigure(flow.id, mended)
    flow.start()
    verdict = flow.delivered()
    assert verdict.missing == []
    assert verdict.duplicates == 0  # P3
