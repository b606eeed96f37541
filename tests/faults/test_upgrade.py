"""Two releases side by side: an upgrade role by role loses and repeats nothing, and what an older process cannot read
it leaves to a newer one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kurrentdbclient import NewEvent, StreamState

from sinkworker.connectors import streams
from sinkworker.connectors.lifecycle import State
from tests.processes import HOME, eventually
from tests.releases import next_one, previous
from tests.system import IN_FLIGHT, UNHURRIED_S, Flow, Role, System

pytestmark = pytest.mark.long

WORKER = ["celery", "-A", "tasks", "worker"]

TRIES_S = 120.0
"""A lane whose batches a worker cannot read comes again after a second or two, to that one as often as to another."""

IN_ORDER = ("worker-0", "worker-1", "coordinator", "scheduler")
"""As the README has it."""

ORDERS = {
    "as documented": IN_ORDER,
    "the other way round": IN_ORDER[::-1],
    "the scheduler amid": ("worker-1", "scheduler", "worker-0", "coordinator"),
}


def of_release(home: Path, *roles: str) -> dict[str, dict[str, str]]:
    return {role: {"PYTHONPATH": str(home)} for role in roles}


def start_another(system: System, name: str, home: Path) -> Role:
    argv = WORKER if name == "worker" else ["sinkworker", name]
    role = system.another(name, argv, PYTHONPATH=str(home))
    system.roles[role.name] = role
    role.start()
    eventually(role.ready, within_s=30)
    return role


def delivers_what_is_there(flow: Flow) -> None:
    """Everything that the log holds by now is delivered before long."""
    last = eventually(flow.log)[-1].commit_position
    eventually(lambda: flow.position >= last, within_s=40)


def code_of(flow: Flow) -> str:
    """Of what the connector waits for."""
    error = flow.connector.error
    return "" if error is None else error.code


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("back", [False, True], ids=["to this release", "back to the previous one"])
def test_a_rolling_upgrade_under_load_loses_and_repeats_nothing(
    tmp_path: Path, order: Sequence[str], back: bool
) -> None:
    before, after = (HOME, previous(tmp_path)) if back else (previous(tmp_path), HOME)
    with System(tmp_path, of_release(before, *IN_ORDER), SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S) as system:
        flow = system.flow()
        with flow.load():
            delivers_what_is_there(flow)
            for name in order:
                role = system.roles[name]
                assert role.stop() == 0
                role.environ = {**role.environ, "PYTHONPATH": str(after)}
                role.start()
                eventually(role.ready, within_s=30)
                delivers_what_is_there(flow)
        verdict = flow.delivered()
        assert verdict.holds, verdict
        assert verdict.duplicates == 0  # P3
        eventually(lambda: code_of(flow) == "")  # a worker that has just started may have been slow to reach Kafka
        flow.stop()


def test_batches_that_only_a_newer_worker_can_read_wait_for_one(tmp_path: Path) -> None:
    newer = next_one(tmp_path, ("sinkworker/ledger/payload.py", "VERSION = 2", "VERSION = 3"))
    with System(tmp_path, of_release(newer, "scheduler"), workers=1, SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S) as system:
        flow = system.flow()
        flow.append(500)
        eventually(lambda: code_of(flow) == "other-release")
        assert flow.connector.state is State.RUNNING
        assert flow.connector.error is not None
        assert "has version 3, this worker knows 2" in flow.connector.error.message
        start_another(system, "worker", newer)
        verdict = flow.delivered(within_s=TRIES_S)
        assert verdict.holds, verdict
        assert verdict.duplicates == 0
        eventually(lambda: code_of(flow) == "")


def test_a_ledger_of_a_newer_release_is_left_to_it(tmp_path: Path) -> None:
    newer = next_one(
        tmp_path,
        ("sinkworker/ledger/scripts/_shared.lua", "local FORMAT = '1'", "local FORMAT = '2'"),
        ("sinkworker/ledger/payload.py", "VERSION = 2", "VERSION = 3"),
        ("tasks/app.py", 'QUEUE = "sinkworker"', 'QUEUE = "sinkworker-2"'),
    )
    with System(tmp_path, workers=1, SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S) as system:
        older, coordinator = system.roles["scheduler"], system.roles["coordinator"]
        flow = system.flow()
        with flow.load():
            start_another(system, "worker", newer)
            start_another(system, "coordinator", newer)
            scheduler = start_another(system, "scheduler", newer)
            eventually(lambda: scheduler.said("standing by"))
            assert older.stop() == 0  # an orderly handover: the ledger is made anew, and nothing is sent twice
            delivers_what_is_there(flow)
            eventually(lambda: coordinator.said("has format 2, this release knows 1"))

            older.start()
            eventually(lambda: older.said("standing by"))
            scheduler.kill()
            eventually(lambda: code_of(flow) == "other-release", within_s=30)
            assert flow.connector.state is State.RUNNING
            scheduler.start()
            eventually(lambda: code_of(flow) == "", within_s=30)
            delivers_what_is_there(flow)
        verdict = flow.delivered()
        assert verdict.holds, verdict
        assert verdict.duplicates <= IN_FLIGHT  # P3: of the one crash


def test_a_connector_that_only_a_newer_release_understands_is_handed_over_to_it(tmp_path: Path) -> None:
    newer = next_one(tmp_path, ("sinkworker/connectors/lifecycle.py", "VERSION = 2", "VERSION = 3"))
    with System(tmp_path, workers=1, SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S) as system:
        flow = system.flow()
        with flow.load():
            for name in ("worker", "coordinator", "scheduler"):
                scheduler = start_another(system, name, newer)
            eventually(lambda: scheduler.said("standing by"))
            data = {"version": 3, "time": datetime.now(UTC).isoformat(), "name": "of tomorrow"}
            event = NewEvent(type="$sinkworker-renamed", data=json.dumps(data).encode())
            system.client.append_to_stream(streams.of_connector(flow.id), current_version=StreamState.ANY, events=event)
            eventually(lambda: scheduler.said("running from position"), within_s=30)
            for name in ("scheduler", "coordinator"):
                eventually(lambda role=system.roles[name]: role.said("has version 3, this release knows 2"))  # type: ignore[misc]
            delivers_what_is_there(flow)
        verdict = flow.delivered()
        assert verdict.holds, verdict
        assert verdict.duplicates == 0
