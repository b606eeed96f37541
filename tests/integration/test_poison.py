"""A record that cannot be delivered, in the middle of a backlog: all that is before it arrives, then it stops (P5)."""

from __future__ import annotations

import base64
import itertools

import pytest
from kurrentdbclient import NewEvent, StreamState

from sinkworker.connectors.lifecycle import State
from tests.oracle import consume, passed_by
from tests.processes import eventually
from tests.system import Flow, System


def function(body: str) -> dict[str, str]:
    source = base64.b64encode(f"function transform(record) {{ {body} }}".encode()).decode()
    return {"transformer:enabled": "true", "transformer:function": source}


FAILING = "if (record.value.poison) null.x"
FAILING_FUNCTION = function(FAILING)
SLOWLY_FAILING_FUNCTION = function(f"{FAILING}; const end = Date.now() + 5; while (Date.now() < end);")

MENDED_FUNCTION = {"transformer:enabled": "false"}

ATTEMPTS = 5
"""So often at most until the record's lane is not the last one to be delivered."""

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
    flow, poison = poisoned(system, stream, settings)
    flow.start()
    assert_stopped_behind_everything_before(flow, poison, code)

    system.registry.reconfigure(flow.id, mended)
    flow.start()
    verdict = flow.delivered()
    assert verdict.missing == []
    assert verdict.duplicates == 0  # P3


@pytest.mark.long
def test_a_scheduler_that_ends_meanwhile_leaves_the_rest_to_the_next(system: System) -> None:
    """A rolling restart: nobody has asked that the connector stop, and the record found may not be the first."""
    scheduler = system.roles["scheduler"]
    for _ in range(ATTEMPTS):
        flow, poison = poisoned(system, "7", SLOWLY_FAILING_FUNCTION)
        flow.start()
        eventually(lambda poison=poison: scheduler.said(poison), within_s=40)  # type: ignore[misc]
        assert scheduler.stop() == 0
        stopped = flow.connector.state is State.STOPPED  # its lane may have come last
        scheduler.start()
        eventually(scheduler.ready, within_s=30)
        if not stopped:
            break
    assert not stopped
    assert_stopped_behind_everything_before(flow, poison, "transform-failed")


def poisoned(system: System, stream: str, settings: dict[str, str]) -> tuple[Flow, str]:
    """A flow, not yet started, in the middle of whose backlog is a record of that stream that cannot be delivered."""
    flow = Flow(system, system.topic())
    flow.create(**settings)
    flow.append(1500, per_append=50)
    poison = NewEvent(type="Requested", data=b'{"poison": true}')
    system.client.append_to_stream(f"{flow.prefix}-{stream}", current_version=StreamState.ANY, events=[poison])
    flow.append(1500, per_append=50)
    return flow, str(poison.id)


def assert_stopped_behind_everything_before(flow: Flow, poison: str, code: str) -> None:
    eventually(lambda: flow.connector.error is not None and flow.connector.state is State.STOPPED, within_s=40)
    error = flow.connector.error
    assert error is not None
    assert error.code == code
    assert poison in error.message
    assert passed_by(flow.log(), consume(flow.system.servers, flow.topic), poison) == ([], [])
    for worker in flow.system.workers:
        said = [line for line in worker.log.read_text().splitlines() if f"connector={flow.id} " in line]
        since = list(itertools.dropwhile(lambda line: poison not in line, said))
        assert not any("records are delivered again" in line for line in since), said
