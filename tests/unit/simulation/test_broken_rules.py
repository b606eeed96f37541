"""Tests of the tests: a protocol with one rule broken must be caught, or the schedules prove nothing about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sinkworker.delivery.deliver import Delivery
from sinkworker.delivery.window import InFlight, Window
from sinkworker.errors import Unavailable
from sinkworker.ledger.contract import Batch, Survey, Tenure
from sinkworker.ledger.memory import Lane, MemoryLedger, State
from sinkworker.model import Cursor, Epoch, LaneNumber
from sinkworker.scheduling.lanes import Lanes
from tests.unit.simulation.kafka import Outlet
from tests.unit.simulation.world import Faults, Rules, World

PATIENCE = 1000
"""Seeds within which a broken rule has to be noticed."""

LOSES_DATA = Faults(rollback=0.03, evict=0.01, empty=0.004, pause=0.01)
DIES = Faults(kill=0.03, pause=0.02, lost_call=0.01)
REFUSES = Faults(refusal=True, pause=0.01)
RESETS = Faults(reset=0.02, pause=0.02, second=0.01)
DOUBLES = Faults(second=0.03, pause=0.03, rollback=0.02)


class NoDispatchCounter(MemoryLedger):
    def _check_unchanged(self, state: State, counter: int) -> None:
        if not self._whole(state):
            super()._check_unchanged(state, counter)


class NoIntegrityCheck(MemoryLedger):
    """A key that was evicted looks like an empty one."""

    def _whole(self, state: State) -> bool:
        return True

    def _low(self) -> Cursor:
        batches = self.state.batches.values()
        return min((batch.before for batch in batches), default=self.state.frontier)

    def dispatch(self, epoch: Epoch, counter: int, frontier: Cursor, batches: Sequence[Batch]) -> Survey:
        if not self.state.batches:
            for lane in self.state.lanes.values():
                lane.head, lane.tail = 1, 0
        assert self.state.tenure is not None
        for number in range(self.state.tenure.layout.lanes):
            self.state.lanes.setdefault(LaneNumber(number), Lane())
        return super().dispatch(epoch, counter, frontier, batches)


class ProgressKept(MemoryLedger):
    def _keeps_progress(self, old: State, tenure: Tenure) -> bool:
        return True


class AcksTooEarly(Window):
    """Acknowledges what was produced, confirmed or not."""

    def ackable(self) -> list[InFlight]:
        return [flight for flight in self._in_flight if flight.complete]


class FrontierAtReadPosition(Lanes):
    @property
    def frontier(self) -> Cursor:
        return self._read


class WatermarkIgnoresMailboxes(MemoryLedger):
    def _low(self) -> Cursor:
        return self.state.frontier


class DispatchInTwoSteps(MemoryLedger):
    """The frontier first, the batches after it: the scheduler may die between the two."""

    calls = 0

    def dispatch(self, epoch: Epoch, counter: int, frontier: Cursor, batches: Sequence[Batch]) -> Survey:
        self.calls += 1
        if batches and self.calls % 20 == 0:
            super().dispatch(epoch, counter, frontier, ())
            raise Unavailable("The scheduler died.")
        return super().dispatch(epoch, counter, frontier, batches)


class StaleEpochsAccepted(MemoryLedger):
    def _owned(self, epoch: Epoch) -> State:
        return self.state if self.state.tenure is not None else super()._owned(epoch)

    def _check_unchanged(self, state: State, counter: int) -> None:
        pass


class NothingPurged(Outlet):
    purges = False


class GoesOnAfterRefusal(Delivery):
    """Keeps a producer in whose sequence there is a gap."""

    def _after_refusal(self, outlet: Any) -> None:
        producer: Any = outlet.producer
        producer.refusal = None
        producer._refused = None
        for held in self._lanes.values():
            held.window, held.handed, held.drained = Window(1), 0, False


BROKEN = {
    "no dispatch counter (R1)": (Rules(ledger=NoDispatchCounter), LOSES_DATA),
    "an evicted key looks empty (R1)": (Rules(ledger=NoIntegrityCheck), Faults(evict=0.03)),
    "progress is kept over a generation (R3)": (Rules(ledger=ProgressKept), RESETS),
    "checkpoints of an old generation count (R3)": (Rules(honours_old_generations=True), RESETS),
    "epochs come from the ledger (R4)": (Rules(epochs_from_the_ledger=True), DOUBLES),
    "letting go without purging (R5)": (Rules(outlet=NothingPurged, gapless=False), REFUSES),
    "a producer goes on after a gap (R5)": (Rules(delivery=GoesOnAfterRefusal, gapless=False), REFUSES),
    "checkpoints are forced (R8)": (Rules(checks_expectation=False), DOUBLES),
    "the frontier is the read position": (Rules(lanes=FrontierAtReadPosition), Faults()),
    "the watermark ignores the mailboxes": (Rules(ledger=WatermarkIgnoresMailboxes), Faults()),
    "acknowledged before confirmed": (Rules(window=AcksTooEarly), DIES),
    "frontier and batches in two steps": (Rules(ledger=DispatchInTwoSteps), Faults()),
    "older epochs may go on (P7)": (Rules(ledger=StaleEpochsAccepted), DOUBLES),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_noticed(name: str) -> None:
    rules, faults = BROKEN[name]
    for seed in range(PATIENCE):
        try:
            World(seed, faults, rules).run()
        except (AssertionError, KeyError, ValueError):
            return  # a promise was broken, or the code met a state that it rules out
    pytest.fail(f"{PATIENCE} schedules did not notice: {name}")
