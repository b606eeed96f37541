"""How a flow is disturbed for a while, and how it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from sinkworker.connectors.lifecycle import State
from tests.chaos.witness import Arrivals
from tests.oracle import Verdict
from tests.processes import eventually
from tests.system import PARTITIONS, Flow

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
