"""The ledger's contract kept with a dict: the executable specification, and what random schedules run against.

The Lua scripts follow this file transition by transition; a differential test holds the two together.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from sinkworker.errors import Stale
from sinkworker.ledger.contract import (
    FIRST_RESEND_MS,
    LONGEST_RESEND_MS,
    Activation,
    Batch,
    Claim,
    Closed,
    Granted,
    Reaped,
    Survey,
    Taken,
    Tenure,
    Watermark,
)
from sinkworker.model import Cursor, Epoch, LaneNumber, Position


@dataclass
class Lane:
    """One lane's mailbox and who may work on it."""

    head: int = 1
    """Number of the oldest batch not acknowledged."""
    tail: int = 0
    """Number of the newest batch; the mailbox is empty when it is head - 1."""
    activation: int = 0
    token: str = ""
    deadline_ms: int = 0
    """When a held lane's claim runs out."""
    due_ms: int = 0
    """When a waiting lane's activation is sent again."""
    resends: int = 0
    condemned: bool = False
    """A worker has found that it cannot go on."""

    @property
    def depth(self) -> int:
        return self.tail - self.head + 1

    def activate(self, due_ms: int) -> int:
        self.activation += 1
        self.token = ""
        self.due_ms = due_ms
        self.resends = 0
        return self.activation


@dataclass
class State:
    """Everything the store holds for one connector. Tests copy it to roll a store back, and empty parts of it."""

    tenure: Tenure | None = None
    counter: int = 0
    frontier: Cursor = Cursor.BEGINNING
    lanes: dict[LaneNumber, Lane] = field(default_factory=dict)
    batches: dict[tuple[LaneNumber, int], Batch] = field(default_factory=dict)
    batch_total: int = 0
    """How many batches there must be: one evicted key must not look like an empty mailbox (R1)."""
    progress: dict[LaneNumber, Cursor] = field(default_factory=dict)
    progress_total: int = 0
    """How many lanes have progress, for the same reason."""
    acked_records: int = 0
    failure: str = ""
    limit: Cursor | None = None
    """What is handed out ends before it; there with a failure."""
    trouble: tuple[LaneNumber, str] | None = None
    """The lane that complained last, and of what, until it acknowledges something."""
    quiesced: bool = False
    closed: bool = False


class MemoryLedger:
    """One connector's ledger in this process. `store` may be shared by several instances, as clients share a Redis."""

    def __init__(self, now_ms: Callable[[], int], lease_ms: int = 10_000) -> None:
        self.state = State()
        self._now_ms = now_ms
        self._lease_ms = lease_ms

    def snapshot(self) -> State:
        return copy.deepcopy(self.state)

    def restore(self, snapshot: State) -> None:
        self.state = copy.deepcopy(snapshot)

    # -- the scheduler's transitions

    def takeover(self, tenure: Tenure, checkpoint: Cursor, progress: Mapping[LaneNumber, Cursor]) -> Taken:
        old = self.state
        if old.tenure and tenure.epoch <= old.tenure.epoch and not self._discards(old.tenure, tenure):
            raise Stale(f"Epoch {tenure.epoch} is not newer than {old.tenure.epoch}.")
        kept = dict(old.progress) if self._keeps_progress(old, tenure) else {}
        for lane, cursor in progress.items():
            kept[lane] = max(cursor, kept.get(lane, cursor))
        self.state = State(
            tenure=tenure,
            frontier=checkpoint,
            lanes={LaneNumber(number): Lane() for number in range(tenure.layout.lanes)},
            progress=kept,
            progress_total=len(kept),
        )
        return Taken(self.state.counter, dict(kept))

    def _discards(self, old: Tenure, new: Tenure) -> bool:
        return new.discards and new.generation != old.generation

    def _keeps_progress(self, old: State, tenure: Tenure) -> bool:
        # R3: progress counts only within its generation and layout.
        return (
            old.tenure is not None and old.tenure.generation == tenure.generation and old.tenure.layout == tenure.layout
        )

    def dispatch(self, epoch: Epoch, counter: int, frontier: Cursor, batches: Sequence[Batch]) -> Survey:
        state = self._owned(epoch)
        self._check_unchanged(state, counter)
        if state.quiesced:
            raise Stale(f"Epoch {epoch} is ending.")
        if any(batch.lane not in state.lanes for batch in batches):
            raise Stale("The ledger has other lanes than this scheduler.")
        fresh: list[Activation] = []
        for batch in batches:
            lane = state.lanes[batch.lane]
            lane.tail += 1
            state.batches[batch.lane, lane.tail] = replace(batch, number=lane.tail)
            state.batch_total += 1
            if lane.depth == 1 and not lane.token and self._waits(batch.lane):
                number = lane.activate(self._now_ms() + FIRST_RESEND_MS)
                fresh.append(Activation(batch.lane, number))
        state.frontier = frontier
        state.counter += 1
        return self._survey(fresh)

    def advance(self, epoch: Epoch, counter: int, frontier: Cursor) -> Survey:
        return self.dispatch(epoch, counter, frontier, ())

    def _check_unchanged(self, state: State, counter: int) -> None:
        # R1: a store that lost or rolled back data is noticed before it can hurt.
        if state.counter != counter:
            raise Stale(f"The ledger counts {state.counter} dispatches, this scheduler made {counter}.")
        if not self._whole(state):
            raise Stale("The ledger has lost a key.")

    def _survey(self, activations: Sequence[Activation] = ()) -> Survey:
        state = self.state
        return Survey(
            counter=state.counter,
            mailboxes={number: lane.depth for number, lane in state.lanes.items() if lane.depth},
            in_flight_bytes=self._bytes(),
            activations=tuple(activations),
            held=self._held(),
            failure=state.failure,
            limit=state.limit,
            going_on=sum(1 for number, lane in state.lanes.items() if lane.token or self._waits(number)),
            trouble=state.trouble[1] if state.trouble else "",
        )

    def quiesce(self, epoch: Epoch) -> int:
        state = self._owned(epoch)
        if not self._whole(state):
            raise Stale("The ledger has lost a key.")
        state.quiesced = True
        return self._held()

    def close(self, epoch: Epoch) -> Closed:
        state = self._owned(epoch)
        if not self._whole(state):
            raise Stale("The ledger has lost a key.")
        state.quiesced = True
        state.closed = True
        return Closed(self._low(), dict(state.progress), state.failure)

    # -- the worker's transitions

    def claim(self, epoch: Epoch, activation: Activation, token: str) -> Granted:
        state = self._open(epoch)
        lane = state.lanes.get(activation.lane)
        current = lane is not None and lane.activation == activation.number and lane.token in ("", token)
        if lane is None or not current or state.quiesced:
            raise Stale(f"Activation {activation.number} of lane {activation.lane} is over.")
        if state.failure and not self._waits(activation.lane):
            raise Stale(f"Activation {activation.number} of lane {activation.lane} is over.")
        assert state.tenure is not None
        lane.token = token
        self._renew(lane)
        tenure = state.tenure
        return Granted(Claim(epoch, activation.lane, token), tenure.generation, tenure.layout, tenure.settings)

    def next(self, claim: Claim, after: int, limit: int) -> list[Batch]:
        state, lane = self._held_lane(claim)
        batches = self._waiting(state, claim.lane, after, limit)
        self._renew(lane)
        return batches

    def _waiting(self, state: State, number: LaneNumber, after: int, limit: int) -> list[Batch]:
        """Batches by number, never by index: what `after` names may have been acknowledged meanwhile (R2)."""
        lane = state.lanes[number]
        first = max(after + 1, lane.head)
        wanted = [(number, each) for each in range(first, min(first + limit - 1, lane.tail) + 1)]
        if not all(key in state.batches for key in wanted):
            raise Stale(f"The ledger has lost batches of lane {number}.")
        if state.quiesced:
            return []
        return list(itertools.takewhile(partial(self._is_before_limit, state), [state.batches[key] for key in wanted]))

    def ack(self, claim: Claim, number: int) -> None:
        self.ack_and_next(claim, [number], number, 0)

    def ack_and_next(self, claim: Claim, numbers: Sequence[int], after: int, limit: int) -> list[Batch]:
        state, lane = self._held_lane(claim)
        keys = [(claim.lane, number) for number in numbers]
        if not self._are_heads(lane, numbers) or not all(key in state.batches for key in keys):
            raise Stale(f"Batches {list(numbers)} are not the head of lane {claim.lane}.")
        following = self._waiting(state, claim.lane, max([after, *numbers]), limit)
        for key in keys:
            self._remove(state, lane, key)
        if keys and state.trouble is not None and state.trouble[0] == claim.lane:
            state.trouble = None
            self._wake_resting(state)
        self._renew(lane)
        return following

    def _wake_resting(self, state: State) -> None:
        """What the lanes waited for is back: the reaper need not wait for the end of their delays."""
        for lane in state.lanes.values():
            if not lane.token:
                lane.due_ms = min(lane.due_ms, self._now_ms())

    def _are_heads(self, lane: Lane, numbers: Sequence[int]) -> bool:
        return list(numbers) == list(range(lane.head, lane.head + len(numbers)))

    def _remove(self, state: State, lane: Lane, key: tuple[LaneNumber, int]) -> None:
        batch = state.batches.pop(key)
        lane.head = batch.number + 1
        state.batch_total -= 1
        state.acked_records += batch.count
        state.progress_total += batch.lane not in state.progress
        state.progress[batch.lane] = batch.last

    def release(self, claim: Claim) -> Activation | None:
        state, lane = self._held_lane(claim)
        lane.token = ""
        if state.quiesced or not self._waits(claim.lane):
            return None
        return Activation(claim.lane, lane.activate(self._now_ms() + FIRST_RESEND_MS))

    def complain(self, claim: Claim, trouble: str) -> None:
        state, _ = self._held_lane(claim)
        state.trouble = (claim.lane, trouble)

    def fail(self, claim: Claim, delay_ms: int, trouble: str = "") -> None:
        state, lane = self._held_lane(claim)
        lane.activate(self._now_ms() + delay_ms)
        if trouble:
            state.trouble = (claim.lane, trouble)

    def condemn(self, claim: Claim, reason: str, done: Cursor | None = None, at: Position | None = None) -> None:
        state, lane = self._held_lane(claim)
        lane.activate(0)
        lane.condemned = True
        if done is not None and done > state.progress.get(claim.lane, Cursor.BEGINNING):
            state.progress_total += claim.lane not in state.progress
            state.progress[claim.lane] = done
        limit = Cursor.BEGINNING if at is None else Cursor(at, at)
        if state.limit is None or (at is not None and limit < state.limit):
            state.failure = reason
        state.limit = limit if state.limit is None else min(limit, state.limit)

    # -- the coordinator's transitions

    def reap(self) -> Reaped:
        state, now = self.state, self._now_ms()
        activations: list[Activation] = []
        expired: list[LaneNumber] = []
        if state.tenure is None or state.closed or len(state.lanes) != state.tenure.layout.lanes:
            return Reaped()
        for number, lane in state.lanes.items():
            waits = not state.quiesced and self._waits(number)
            # What lies further ahead than it was ever set is of a clock that has been put back since.
            if lane.due_ms > now + LONGEST_RESEND_MS:
                lane.due_ms = now
            lane.deadline_ms = min(lane.deadline_ms, now + self._lease_ms)
            if lane.token:
                if lane.deadline_ms > now:
                    continue
                expired.append(number)
                lane.activate(now + FIRST_RESEND_MS)
            elif waits and lane.due_ms <= now:
                # The same activation again: a new number would turn a slow queue into a livelock.
                lane.due_ms = now + min(FIRST_RESEND_MS << min(lane.resends, 10), LONGEST_RESEND_MS)
                lane.resends += 1
            else:
                continue
            if waits:
                activations.append(Activation(number, lane.activation))
        return Reaped(tuple(activations), tuple(expired), state.tenure.epoch)

    def watermark(self) -> Watermark | None:
        state = self.state
        if state.tenure is None or not self._whole(state):
            return None
        return Watermark(
            epoch=state.tenure.epoch,
            generation=state.tenure.generation,
            cursor=self._low(),
            frontier=state.frontier,
            acked_records=state.acked_records,
            in_flight_batches=state.batch_total,
            in_flight_bytes=self._bytes(),
            held=self._held(),
        )

    # -- what they share

    def _owned(self, epoch: Epoch) -> State:
        state = self.state
        if state.tenure is None or state.tenure.epoch != epoch:
            raise Stale(f"Epoch {epoch} is not current.")
        return state

    def _open(self, epoch: Epoch) -> State:
        state = self._owned(epoch)
        if state.closed:
            raise Stale(f"Epoch {epoch} is over.")
        return state

    def _held_lane(self, claim: Claim) -> tuple[State, Lane]:
        state = self._open(claim.epoch)
        lane = state.lanes.get(claim.lane)
        if lane is None or not self._is_holder(lane, claim):
            raise Stale(f"Lane {claim.lane} is no longer held under this claim.")
        return state, lane

    def _is_holder(self, lane: Lane, claim: Claim) -> bool:
        return bool(lane.token) and lane.token == claim.token  # R2

    def _waits(self, number: LaneNumber) -> bool:
        """Whether the lane has something that a worker may be handed."""
        state = self.state
        lane = state.lanes[number]
        if not lane.depth:
            return False
        if not state.failure:
            return True
        return not lane.condemned and self._is_before_limit(state, state.batches.get((number, lane.head)))

    def _is_before_limit(self, state: State, batch: Batch | None) -> bool:
        return batch is not None and (state.limit is None or batch.before < state.limit)

    def _renew(self, lane: Lane) -> None:
        lane.deadline_ms = self._now_ms() + self._lease_ms

    def _whole(self, state: State) -> bool:
        assert state.tenure is not None
        return (
            len(state.lanes) == state.tenure.layout.lanes
            and len(state.batches) == state.batch_total == sum(lane.depth for lane in state.lanes.values())
            and len(state.progress) == state.progress_total
        )

    def _low(self) -> Cursor:
        """The watermark: never over a gap, never computed (P1).

        The frontier may lie before every mailbox: a lane's last batch can be acknowledged while the scheduler still
        buffers the lane's next record and dispatches other lanes.
        """
        heads = [self.state.batches[number, lane.head] for number, lane in self.state.lanes.items() if lane.depth]
        return min([self.state.frontier, *(batch.before for batch in heads)])

    def _bytes(self) -> int:
        return sum(len(batch.payload) for batch in self.state.batches.values())

    def _held(self) -> int:
        return sum(1 for lane in self.state.lanes.values() if lane.token)
