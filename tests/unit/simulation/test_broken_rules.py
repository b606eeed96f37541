"""Tests of the tests: a protocol with one rule broken must be caught, or the schedules prove nothing about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sinkworker.bell import SocketBell
from sinkworker.checkpoint.store import CheckpointStore
from sinkworker.checkpoint.watch import Watch
from sinkworker.connectors.lifecycle import Connector
from sinkworker.connectors.registry import Registry
from sinkworker.database import StoredEvent
from sinkworker.delivery.deliver import Delivery, HeldLane
from sinkworker.delivery.exact import ExactWork
from sinkworker.delivery.idempotent import IdempotentWork
from sinkworker.delivery.window import InFlight, Window
from sinkworker.errors import Stale, Unavailable, Undeliverable
from sinkworker.exactly_once.guard import Guard
from sinkworker.exactly_once.marks import Mark
from sinkworker.ledger.contract import Batch, Claim, Granted, Survey, Tenure, Watermark
from sinkworker.ledger.memory import Lane, MemoryLedger, State
from sinkworker.logs import Troubles
from sinkworker.model import Cursor, Epoch, LaneNumber, Position
from sinkworker.scheduling.lanes import Lanes
from sinkworker.scheduling.means import Means
from sinkworker.scheduling.tenure import ActiveTenure
from tests.unit.simulation import test_scenarios
from tests.unit.simulation.kafka import Outlet
from tests.unit.simulation.transactions import ExactOutlet
from tests.unit.simulation.transactions import Lane as Transactions
from tests.unit.simulation.world import CLEAN, LEASE_MS, Faults, Rules, World

PATIENCE = 1000
"""Seeds within which a broken rule has to be noticed."""

LOSES_DATA = Faults(rollback=0.03, evict=0.01, empty=0.004, pause=0.01)
DIES = Faults(kill=0.03, pause=0.02, lost_call=0.01)
UNDELIVERABLE = Faults(undeliverable=True, kill=0.02)
REFUSES = Faults(refusal=True, pause=0.01)
POISON = Faults(poison=0.2)
RESETS = Faults(reset=0.05, pause=0.02, second=0.01)
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
        return self.read


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


class OldCheckpointsCount(CheckpointStore):
    def _cursor_of(self, event: StoredEvent) -> Cursor | None:
        return Cursor.decode(json.loads(event.metadata)["sinkworker"]["cursor"])


class WritesForAnyGeneration(Watch):
    """A coordinator that is slow writes what it saw of a generation that is over."""

    def _vouches_for(self, watermark: Watermark) -> bool:
        return True


class EpochFromTheLedger(ActiveTenure):
    def take_over(self) -> None:
        super().take_over()
        found = self._means.ledger.watermark()
        self.epoch = Epoch(1 if found is None else found.epoch + 1)


class ChecksNoDatabase(ActiveTenure):
    def _check_database(self, cursor: Cursor) -> None:
        """R8 is not kept."""


class PurgedAndKept(Outlet):
    """Goes on with a producer in whose sequence there is a gap."""

    def discard(self) -> None:
        if self._producer is not None:
            self._producer.cut(self._rng)


class BuriesUnawaited(IdempotentWork):
    def _send_aside(self, producer: Any, flight: InFlight, letter: Any) -> None:
        producer.send(InFlight(flight.batch), letter)


class BuriesNothing(IdempotentWork):
    def _bury(self, *_: Any) -> None:
        """P5 is not kept: the record is dropped."""


class TakesRefusalForConfirmation(Delivery):
    """A lane got as far as the record that it was stopped at."""

    def remember_confirmed(self, held: Any) -> None:
        for flight in held.window.in_flight:
            flight.unconfirmed.clear()
            flight.outstanding = 0
        super().remember_confirmed(held)


class ProgressNotStored(Registry):
    def report_drained(self, connector_id: str, *_: Any) -> Connector:
        connector = self.get(connector_id)
        assert connector is not None
        return connector


class EndsAtOnce(ActiveTenure):
    """Closes the epoch with lanes still held."""

    def __init__(self, means: Means, connector_id: str, bell: SocketBell, troubles: Troubles) -> None:
        super().__init__(replace(means, drain_timeout_s=-1.0), connector_id, bell, troubles)


class GoesOnAfterARefusedDispatch(ActiveTenure):
    def _dispatch(self) -> None:
        try:
            super()._dispatch()
        except Stale:
            ledger: Any = self._means.ledger
            self._counter = ledger._world.ledger.state.counter


class HandsNothingOutAfterAFailure(MemoryLedger):
    def condemn(self, claim: Claim, reason: str, done: Cursor | None = None, at: Position | None = None) -> None:
        super().condemn(claim, reason, done)


class KeepsTheFirstReasonFound(MemoryLedger):
    def condemn(self, claim: Claim, reason: str, done: Cursor | None = None, at: Position | None = None) -> None:
        super().condemn(claim, self.state.failure or reason, done, at)


class KeepsWhatIsBuffered(Lanes):
    def take(self, limit: Cursor | None = None) -> list[Batch]:
        return super().take() if limit is None else []

    def holds(self, limit: Cursor) -> bool:
        return False


BROKEN = {
    "no dispatch counter (R1)": (Rules(ledger=NoDispatchCounter), LOSES_DATA),
    "an evicted key looks empty (R1)": (Rules(ledger=NoIntegrityCheck), Faults(evict=0.03)),
    "progress is kept over a generation (R3)": (Rules(ledger=ProgressKept), RESETS),
    "checkpoints of an old generation count (R3)": (Rules(store=OldCheckpointsCount), RESETS),
    "a late checkpoint of an old generation (R3)": (Rules(watch=WritesForAnyGeneration), RESETS),
    "a purged producer is used again (R5)": (Rules(outlet=PurgedAndKept), REFUSES),
    "dead letters are not awaited": (Rules(work=BuriesUnawaited), UNDELIVERABLE),
    "delivery goes on behind what was not put aside": (Rules(work=BuriesNothing), UNDELIVERABLE),
    "a refused record counts as delivered (P1)": (Rules(delivery=TakesRefusalForConfirmation), POISON),
    "lanes stop where they are for another's record (P5)": (Rules(ledger=HandsNothingOutAfterAFailure), POISON),
    "the reason that was found first is kept (P5)": (Rules(ledger=KeepsTheFirstReasonFound), POISON),
    "what waits for room is not dispatched before a stop for a record (P5)": (Rules(lanes=KeepsWhatIsBuffered), POISON),
    "checkpoints are forced (R8)": (Rules(checks_expectation=False), DOUBLES),
    "progress is not stored at a stop (R9)": (Rules(registry=ProgressNotStored), CLEAN),
    "claims are not awaited at a stop (R9)": (Rules(tenure=EndsAtOnce), CLEAN),
    "a refused dispatch does not end the epoch (R10)": (Rules(tenure=GoesOnAfterARefusedDispatch), LOSES_DATA),
    "the frontier is the read position": (Rules(lanes=FrontierAtReadPosition), Faults()),
    "the watermark ignores the mailboxes": (Rules(ledger=WatermarkIgnoresMailboxes), Faults()),
    "acknowledged before confirmed": (Rules(window=AcksTooEarly), DIES),
    "frontier and batches in two steps": (Rules(ledger=DispatchInTwoSteps), Faults()),
    "older epochs may go on (P7)": (Rules(ledger=StaleEpochsAccepted), DOUBLES),
}


EXACTLY = Faults(exactly_once=True, kill=0.01, pause=0.03)
EXACTLY_UNDELIVERABLE = replace(UNDELIVERABLE, exactly_once=True)
EXACTLY_RESETS = replace(RESETS, exactly_once=True)


class FencesNobody(Transactions):
    fences = False


class GoesOnAfterAnUnknownOutcome(ExactOutlet):
    def close_lane(self, granted: Granted) -> None:
        """The producer and what it believes are kept."""


class GoesOnBehindARefusal(Transactions):
    def abort(self, timeout_s: float) -> bool:
        if self.refusal is not None:
            at = Position(self.refusal.record.position - 1)
            self.mark = Mark(Cursor(at, at))
        return super().abort(timeout_s)


class BuriesApart(ExactWork):
    """A dead letter does not wait for the transaction."""

    def _bury(
        self, turn: Any, flight: InFlight, origin: Any, reason: Undeliverable, aimed_at: str | None = None
    ) -> None:
        outlet: Any = self._outlet
        if not turn.lane.in_transaction:
            turn.lane.begin()
        outlet._broker.take(outlet.letter_topic(), outlet.letter(flight.batch, origin, reason))


class ClosesNothing(Guard):
    """The last generation's lanes stay open, and those that a stop left with batches as well."""

    def close(self, checkpoint: Cursor | None) -> None:
        pass

    def fence(self, timeout_s: float) -> dict[LaneNumber, Cursor]:
        return {}


BROKEN |= {
    "nobody is fenced (X2)": (Rules(lane=FencesNobody), EXACTLY),
    "an unknown outcome is taken for none (X2)": (Rules(exact_outlet=GoesOnAfterAnUnknownOutcome), EXACTLY),
    "a lane goes on behind a refusal (X3)": (Rules(lane=GoesOnBehindARefusal), EXACTLY_UNDELIVERABLE),
    "dead letters are apart from the transaction (X3)": (Rules(exact_work=BuriesApart), EXACTLY_UNDELIVERABLE),
    "the last generation is not closed (X4)": (Rules(guard=ClosesNothing), EXACTLY_RESETS),
}

RARE = ("dead letters are not awaited", "the last generation is not closed (X4)")
"""What it takes many schedules to notice."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in RARE else name for name in BROKEN]
)
def test_a_broken_rule_is_noticed(name: str) -> None:
    rules, faults = BROKEN[name]
    for seed in range(PATIENCE):
        world = World(seed, faults, rules, lease_ms=60_000 if faults is CLEAN else LEASE_MS)
        try:
            world.run()
        except (AssertionError, KeyError, ValueError):
            return  # a promise was broken, or the code met a state that it rules out
        if faults is CLEAN and world.duplicates:
            return  # P3
    pytest.fail(f"{PATIENCE} schedules did not notice: {name}")


def test_epochs_that_come_from_the_ledger_are_noticed() -> None:
    with pytest.raises(AssertionError):
        test_scenarios.roll_redis_back(EpochFromTheLedger)


def test_progress_that_is_not_missed_is_noticed() -> None:
    def believes_in_the_checkpoint(
        found: dict[LaneNumber, Mark | None], _: Connector, checkpoint: Cursor
    ) -> dict[LaneNumber, Cursor]:
        return {lane: checkpoint for lane, mark in found.items() if mark is None}

    with pytest.raises(AssertionError, match="P4"):  # X5
        test_scenarios.forget_progress(believes_in_the_checkpoint)


class AsksOnlyRedis(Guard):
    def fence(self, timeout_s: float) -> dict[LaneNumber, Cursor]:
        return {}


def test_a_stop_that_trusts_redis_about_the_lanes_is_noticed() -> None:
    with pytest.raises(AssertionError, match="P4"):  # R9
        test_scenarios.forget_after_a_hasty_stop(Rules(guard=AsksOnlyRedis))
    with pytest.raises(AssertionError, match="P4"):
        test_scenarios.commit_behind_a_takeover(Rules(guard=AsksOnlyRedis))


class CommitsUnderAnyClaim(ExactWork):
    def _confirm_claim(self, held: HeldLane) -> None:
        """A lane that was opened is used at once."""


def test_a_lane_that_goes_on_behind_a_stop_is_noticed() -> None:
    with pytest.raises(AssertionError, match="P4"):  # R9
        test_scenarios.wake_after_a_stop(Rules(exact_work=CommitsUnderAnyClaim))


class RenewsNothing(ActiveTenure):
    def _with_renewals(self, batches: Sequence[Batch], now: float) -> Sequence[Batch]:
        return batches


def test_marks_that_are_not_renewed_are_noticed() -> None:
    with pytest.raises(AssertionError, match="progress-lost"):  # X5
        test_scenarios.let_idle_lanes_wait(RenewsNothing, 0.1)


def test_a_database_that_is_not_checked_is_noticed() -> None:
    with pytest.raises(AssertionError):
        test_scenarios.restore_database(ChecksNoDatabase)
