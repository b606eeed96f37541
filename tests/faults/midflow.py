"""How a flow is disturbed for a while, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from sinkworker.connectors.lifecycle import State
from tests.chaos.witness import Arrivals
from tests.oracle import Verdict
from tests.processes import eventually
from tests.system import PARTITIONS, Flow, System

GOES_ON_WITHIN_S = 15.0
"""The bound on standing still."""


def lasts(seconds: float) -> None:
    """A fault goes on for so long."""
    ends_at = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= ends_at, within_s=seconds + 10)


def arrives(flow: Flow, arrivals: Arrivals, within_s: float) -> None:
    """All that is appended by now is in the topic before long: the bound on standing still."""
    due = flow.appended
    eventually(lambda: len({each.record_id for each in arrivals.seen}) >= due, within_s=within_s)


def outcome(flow: Flow) -> Verdict:
    """Everything that is appended arrives, in order, and the connector runs without an error (P1, P2)."""
    assert flow.appending is not None
    flow.appending.join()
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert flow.connector.state is State.RUNNING
    eventually(lambda: flow.connector.error is None)  # what it waited for is taken back at the scheduler's next look
    return verdict


@contextlib.contextmanager
def asleep(flow: Flow) -> Iterator[None]:
    """Inside, the pool process of every worker sleeps, one of them at least with a lane claimed."""
    children = [child for worker in flow.system.workers for child in worker.children()]

    def send(number: int) -> None:
        for child in children:
            os.kill(child, number)

    def claiming() -> bool:
        flow.append(20)
        send(signal.SIGSTOP)
        # Looks twice: what a process asked for before it stopped may not have been done the first time.
        if claims(flow) and claims(flow):
            return True
        send(signal.SIGCONT)
        return False

    eventually(claiming)
    try:
        yield
    finally:
        send(signal.SIGCONT)


def claims(flow: Flow) -> int:
    """How many of the connector's lanes are claimed: whose field ends with a token."""
    lanes: list[bytes] = flow.system.redis.hvals(f"sink:{{{flow.id}}}:lanes")  # type: ignore[assignment]
    return sum(not lane.endswith(b" ") for lane in lanes)


def expired_lanes(system: System) -> int:
    """How often the coordinator has taken lanes from a worker that no longer renews its claim."""
    return system.roles["coordinator"].log.read_text().count("a worker fell silent")


@contextlib.contextmanager
def watched(flow: Flow) -> Iterator[Arrivals]:
    """Inside, records keep arriving, and a consumer sees what comes of them. In the end every promise holds."""
    arrivals = Arrivals(flow.system.servers, flow.topic, PARTITIONS)
    arrivals.start()
    try:
        with flow.load(pause_s=0.1):
            yield arrivals
            arrives(flow, arrivals, GOES_ON_WITHIN_S)
        verdict = flow.delivered()
        assert verdict.holds, verdict
        eventually(lambda: flow.connector.error is None)
    finally:
        arrivals.stop(0)


def repeats(arrivals: Arrivals) -> int:
    return len(arrivals.seen) - len({each.record_id for each in arrivals.seen})
