"""Two schedulers and two coordinators at once, while one process after the other sleeps or goes: P1, P2, P3 and P7."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from sinkworker.connectors.lifecycle import State
from sinkworker.scheduling.scheduler import LEASE_S
from tests.faults.midflow import GOES_ON_WITHIN_S, arrives, lasts, repeats, watched
from tests.processes import eventually
from tests.system import IN_FLIGHT, UNHURRIED_S, Flow, Role, System

FIGHTS = 10
SEEN_S = 3.0
"""By then each scheduler has looked at every connector."""

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), workers=2, SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S) as running:
        yield running


@pytest.fixture(scope="module")
def pairs(system: System) -> Iterator[dict[str, Role]]:
    """Every role of the system, and a second one of those that it has only one of."""
    seconds = [system.another(name, ["sinkworker", name]) for name in ("scheduler", "coordinator")]
    try:
        for second in seconds:
            second.start()
            eventually(second.ready, within_s=30)
        yield {**system.roles, **{second.name: second for second in seconds}}
    finally:
        for second in seconds:
            second.destroy()


@pytest.fixture
def flow(system: System, pairs: dict[str, Role]) -> Iterator[Flow]:
    flow = system.flow()
    yield flow
    flow.stop()


@pytest.mark.parametrize("kind", ["scheduler", "coordinator", "worker"])
def test_each_sleeps_past_every_lease_and_wakes(pairs: dict[str, Role], flow: Flow, kind: str) -> None:
    """One process of the role after the other, its children too; meanwhile the other does its work."""
    roles = [role for name, role in pairs.items() if kind in name]
    assert len(roles) == 2
    with watched(flow) as arrivals:
        for role in roles:
            asleep = [role.pid, *role.children()]
            for pid in asleep:
                os.kill(pid, signal.SIGSTOP)
            try:
                lasts(LEASE_S + 1)
                arrives(flow, arrivals, GOES_ON_WITHIN_S)
            finally:
                for pid in asleep:
                    os.kill(pid, signal.SIGCONT)
            arrives(flow, arrivals, GOES_ON_WITHIN_S)
    assert repeats(arrivals) <= len(roles) * IN_FLIGHT  # P3


def test_a_rolling_restart_of_all_of_them_repeats_nothing(pairs: dict[str, Role], flow: Flow) -> None:
    with watched(flow) as arrivals:
        for role in pairs.values():
            assert role.stop() == 0
            role.start()
            eventually(role.ready, within_s=30)
            arrives(flow, arrivals, GOES_ON_WITHIN_S)
    assert repeats(arrivals) == 0  # P3


def test_a_connector_that_failed_and_runs_again_is_stood_by_for(system: System, pairs: dict[str, Role]) -> None:
    """By the scheduler that saw it fail, too, where another one has tried it again with success."""
    flow = Flow(system, f"loans-{uuid.uuid4().hex[:8]}")
    flow.create()
    flow.start()
    flow.append(20)
    eventually(lambda: flow.connector.error is not None and flow.connector.error.code == "topic-missing")
    eventually(lambda: flow.connector.state is State.STOPPED)
    lasts(SEEN_S)  # by both
    system.create_topic(flow.topic)
    first = pairs["scheduler"]
    assert first.stop() == 0
    first.start()  # which tries it once more
    eventually(lambda: flow.connector.state is State.RUNNING, within_s=30)
    lasts(SEEN_S)
    first.kill()
    try:
        flow.append(20)
        assert flow.delivered(within_s=LEASE_S + GOES_ON_WITHIN_S).holds
    finally:
        first.start()
        eventually(first.ready, within_s=30)
    flow.stop()


def test_two_schedulers_that_take_the_connector_from_each_other(
    system: System, pairs: dict[str, Role], flow: Flow
) -> None:
    """The lease is politeness: without it each takes over from the other."""
    with watched(flow) as arrivals:
        for _ in range(FIGHTS):
            epoch = flow.connector.epoch
            while flow.connector.epoch == epoch:
                system.redis.delete(f"sink:{{{flow.id}}}:scheduler")
        arrives(flow, arrivals, 2 * GOES_ON_WITHIN_S)
    assert repeats(arrivals) <= FIGHTS * IN_FLIGHT
