"""How a flow ends that was disturbed."""

from __future__ import annotations

from sinkworker.connectors.lifecycle import State
from tests.oracle import Verdict
from tests.system import Flow


def outcome(flow: Flow) -> Verdict:
    """Everything that is appended arrives, in order, and the connector runs without an error (P1, P2)."""
    assert flow.appending is not None
    flow.appending.join()
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert flow.connector.state is State.RUNNING
    assert flow.connector.error is None
    return verdict
