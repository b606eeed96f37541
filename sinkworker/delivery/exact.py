"""An activation that delivers exactly once: one lane after the other, its batches in one transaction with its mark."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sinkworker.bell import pause
from sinkworker.delivery.deliver import (
    NO_PROGRESS_TRIES,
    POLL_S,
    Delivery,
    HeldLane,
    LetGo,
    Outlet,
    Refused,
    unburied,
    undeliverable,
)
from sinkworker.delivery.window import InFlight
from sinkworker.errors import KafkaUnavailable, Misconfigured, OtherRelease, Transient, Undeliverable
from sinkworker.exactly_once.marks import Mark
from sinkworker.exactly_once.transactions import PATIENCE_S, Broken, LaneTransactions
from sinkworker.ledger.contract import Batch, Granted
from sinkworker.model import Cursor, Layout
from sinkworker.outgoing import Origin, Outgoing, Unfit

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""After so long without a word Kafka is asked whether the topic is still there: in a transaction the client library
waits for one that is gone, until the transaction is over."""

LONGEST_S = 10.0
"""How long a transaction is kept open while messages are made, which a transformation or a regular expression may take
its time for: the brokers abort one after `TRANSACTION_TIMEOUT_MS`."""

ABORT_S = 1.0
"""How long an abort may take before the producer is given up instead. The next one's opening aborts as well."""


class TransactionalOutlet(Outlet, Protocol):
    """An outlet that has a transactional producer for each lane."""

    def open_all(self, granted: Sequence[Granted]) -> None:
        """Open those lanes that are not, at the same time. What goes wrong is left to `lane`."""

    def lane(self, granted: Granted) -> LaneTransactions:
        """The lane's open producer; where there is none, a new one, which fences all others (X2).

        Raises Stale where its generation is over, KafkaUnavailable, and Misconfigured where its progress is lost.
        """

    def close_lane(self, granted: Granted) -> None:
        """Give its producer up; the next use opens the lane anew."""

    def check_topic(self, granted: Granted) -> None:
        """Raises Misconfigured where the topic that has the progress is not the one that the generation began with."""

    def letter_topic(self) -> str:
        """The dead-letter topic, known to be there. Raises KafkaUnavailable or Misconfigured."""

    def messages_after(self, batch: Batch, layout: Layout, after: Cursor) -> Iterator[Outgoing | Unfit]:
        """`messages` of the records behind a cursor."""

    def cursor_of(self, batch: Batch, origin: Origin) -> Cursor:
        """Just after that record of the batch."""


@dataclass(slots=True)
class _Turn:
    """What a lane was handed, on its way into transactions."""

    held: HeldLane
    lane: LaneTransactions
    flights: Sequence[InFlight]
    one_by_one: bool
    """Every record in a transaction of its own."""
    sent: list[tuple[InFlight, Outgoing]] = field(default_factory=list)
    """What the transaction has of the connector's own topic."""
    found: bool = False
    """The record that Kafka refuses is found, and has become a dead letter."""
    letters: list[tuple[Undeliverable, str]] = field(default_factory=list)
    """The dead letters in the transaction, by their reasons and topic (X3)."""
    committed: bool = False
    """Something has been committed in this turn."""
    unusable: bool = False
    """Nothing more can be committed over the lane's producer."""
    begun: float = float("inf")
    """When its last transaction was."""
    patience_s: float = PATIENCE_S
    """How long Kafka may be silent before the lane's producer is given up."""

    @property
    def reached(self) -> Cursor:
        assert self.lane.mark is not None
        return self.lane.mark.cursor

    @property
    def is_long(self) -> bool:
        """Whether its last transaction was begun long ago."""
        return time.monotonic() - self.begun > LONGEST_S

    def complete(self) -> None:
        """Whatever the lane's mark covers is delivered. A batch without records is there to have the mark committed."""
        for flight in self.flights:
            renewed = self.committed or flight.batch.count > 0
            flight.complete = renewed and flight.batch.last <= self.reached


class ExactWork:
    """The work of a `Delivery` in transactions: what is committed is marked so by Kafka, acknowledged or not (X2).

    A transaction takes all batches that the lane was handed, unless to make their messages takes long. Where Kafka
    refuses a record in it, each record gets a transaction of its own, so that the guilty one is found and everything
    before it is committed (R7, X3).
    """

    def __init__(self, delivery: Delivery, outlet: TransactionalOutlet) -> None:
        self._delivery = delivery
        self._outlet = outlet
        self._lane: LaneTransactions | None = None
        """That of the lane whose turn it is."""
        self._looked_in: float | None = None
        """The silence, by its beginning, in which the topic was last asked for."""
        self._confirmations = 0

    def run(self) -> None:
        """See `Work.run`."""
        self._open_lanes()
        while self._delivery.lanes:
            for held in list(self._delivery.lanes.values()):
                self._delivery.turn(held)

    def _open_lanes(self) -> None:
        self._delivery.silent_since = time.monotonic()  # to open a lane is to wait for Kafka
        self._outlet.open_all([held.granted for held in self._delivery.lanes.values()])
        self._delivery.silent_since = None
        self._delivery.keep_claims()

    def deliver(self, held: HeldLane) -> None:
        """See `Work.deliver`: it is all delivered then."""
        delivery = self._delivery
        flights = list(iter(held.window.start, None))
        one_by_one, tries = False, 0
        while not all(flight.complete for flight in flights):
            delivery.silent_since = time.monotonic()
            lane = self._lane = self._outlet.lane(held.granted)
            delivery.silent_since = None
            # Opening may have taken longer than the claim lasted. Then it has fenced the new owner, who will open the
            # lane again: progress is the lane's, so that costs no record. A stop that fenced the lane and recorded how
            # far it is has ended the epoch before: nothing may be committed until the claim is known to hold (R9).
            if lane.untried:
                self._confirm_claim(held)
            self._delivery.keep_claims()
            turn = _Turn(held, lane, flights, one_by_one, patience_s=PATIENCE_S * 2**tries)
            before = turn.reached
            try:
                self._transact(turn)
                one_by_one = one_by_one and not turn.found
            except (Undeliverable, Misconfigured):
                assert lane.mark is not None
                held.done = lane.mark.cursor
                if turn.unusable:
                    self._outlet.close_lane(held.granted)
                raise
            except OtherRelease:
                delivery.acknowledge_confirmed(held)
                raise
            except (Refused, Broken) as exc:
                tries = 1 if turn.reached > before else tries + 1
                trouble = exc if isinstance(exc, Broken) else _refusal(lane)
                # Nothing can be committed while the brokers' time runs out over records that the filter drops.
                one_by_one = one_by_one or isinstance(exc, Refused) or (tries > 1 and turn.is_long and not lane.stuck)
                if isinstance(exc, Broken) or not lane.abort(ABORT_S):
                    self._outlet.close_lane(held.granted)
                if tries > NO_PROGRESS_TRIES:
                    raise LetGo(trouble, delivery.back_off_ms()) from exc
                log.info("%s The lane goes on from its mark.", trouble, extra={**delivery.fields, "lane": lane.number})
            finally:
                self._lane = None

    def _transact(self, turn: _Turn) -> None:
        """Deliver the batches from where the lane's mark is.

        Returns early behind a refused record that was found: the rest can go together again. Raises Undeliverable for
        the record that stops the connector, once everything before it is committed; Refused or Broken where the lane
        has to be tried again from its mark.
        """
        turn.complete()
        for flight in turn.flights:
            if flight.complete:
                continue
            last: Origin | None = None
            try:
                for message in self._outlet.messages_after(flight.batch, turn.held.granted.layout, turn.reached):
                    self._hand_over(turn, flight, message)
                    last = message.origin
                    if turn.one_by_one or (turn.lane.in_transaction and turn.is_long):
                        self._commit(turn, self._outlet.cursor_of(flight.batch, last))
                    if turn.found:
                        return
            except (Undeliverable, Misconfigured, OtherRelease):
                if turn.unusable:
                    raise  # what is before was committed record by record
                if last is not None:
                    self._commit(turn, self._outlet.cursor_of(flight.batch, last))
                elif flight is not turn.flights[0]:
                    self._commit(turn, flight.batch.before)
                raise
        if not all(flight.complete for flight in turn.flights):
            self._commit(turn, turn.flights[-1].batch.last)

    def _hand_over(self, turn: _Turn, flight: InFlight, message: Outgoing | Unfit) -> None:
        """Into the transaction with it, as a record or as a dead letter."""
        if isinstance(message, Unfit):
            self._bury(turn, flight, message.origin, message.reason)
            return
        if flight.first_position is None:
            flight.first_position = message.position
        try:
            self._send(turn, message)
        except Refused:
            refusal = turn.lane.refusal
            if not turn.one_by_one or refusal is None or not refusal.permanent:
                raise
            reason = undeliverable(refusal, self._outlet)
            if self._outlet.dead_letters is None or not refusal.blames_record:
                self._give_up(turn)
                raise reason from None
            self._abort(turn)
            self._bury(turn, flight, message.origin, reason, message.topic)
            turn.found = True
        else:
            turn.sent.append((flight, message))

    def _bury(
        self, turn: _Turn, flight: InFlight, origin: Origin, reason: Undeliverable, aimed_at: str | None = None
    ) -> None:
        """The record's dead letter is of the same transaction (X3)."""
        try:
            topic = self._outlet.letter_topic()
        except Misconfigured as exc:
            assert self._outlet.dead_letters is not None
            raise unburied(reason, self._outlet.dead_letters.topic, str(exc)) from exc
        try:
            self._send(turn, self._outlet.letter(flight.batch, origin, reason, aimed_at))
        except Refused:
            refusal = turn.lane.refusal
            if not turn.one_by_one or refusal is None or not refusal.permanent:
                raise
            self._give_up(turn)
            raise unburied(reason, topic, f"{refusal.error.str()} ({refusal.error.name()}).") from None
        turn.letters.append((reason, topic))

    def _send(self, turn: _Turn, message: Outgoing) -> None:
        lane = turn.lane
        if not lane.in_transaction:
            self._begin(turn)
        # R6: until one record is confirmed on a partition, no other of this producer may be on its way there.
        alone = turn.one_by_one or not lane.primed(message)
        while not lane.send(message):
            self._serve(turn)
        if alone:
            self._flush(turn)
        elif time.monotonic() - turn.held.contact > self._delivery.bounds.lease_s / 3:
            self._serve(turn)

    def _begin(self, turn: _Turn) -> None:
        turn.begun = time.monotonic()
        turn.lane.begin()
        self._heard(turn.lane)

    def _commit(self, turn: _Turn, cursor: Cursor) -> None:
        """Commit what was sent, and that the lane is delivered up to `cursor`."""
        lane = turn.lane
        self._flush(turn)
        self._outlet.check_topic(turn.held.granted)
        if not lane.in_transaction:
            self._begin(turn)
        self._heard(lane)
        begun = time.monotonic()
        while not lane.commit(Mark(max(cursor, turn.reached))):
            self._await(turn, begun)
        self._heard(lane)
        for flight, message in turn.sent:
            flight.produced += 1
            flight.created_s.append(message.created_s)
        for reason, topic in turn.letters:
            self._delivery.put_aside(reason, topic)
        turn.sent.clear()
        turn.letters.clear()
        turn.committed = True
        turn.complete()

    def _abort(self, turn: _Turn) -> None:
        """Give up a transaction that has nothing but a refused record."""
        if not turn.lane.abort(ABORT_S):
            raise Broken("Kafka does not confirm that a transaction is aborted.")

    def _give_up(self, turn: _Turn) -> None:
        """The same where nothing follows: then it does not matter that an abort fails, as it does where the brokers did
        not even let the topic into the transaction.
        """
        turn.unusable = not turn.lane.abort(ABORT_S)

    def _flush(self, turn: _Turn) -> None:
        while turn.lane.outstanding or turn.lane.refusal is not None:
            self._serve(turn, at_once=True)

    def _serve(self, turn: _Turn, *, at_once: bool = False) -> None:
        """Serve reports for a moment, keep the claims alive, and see whether Kafka refused or fell silent."""
        lane = turn.lane
        # From the first look in vain: making a message may take long, too.
        since = self._delivery.silent_since or time.monotonic()
        lane.poll(POLL_S, at_once=at_once)
        if lane.refusal is not None:
            raise Refused
        if lane.confirmations != self._confirmations or not lane.outstanding:
            self._heard(lane)
            self._delivery.keep_claims()
        else:
            self._await(turn, since)

    def _await(self, turn: _Turn, since: float) -> None:
        self._delivery.silent_since = since
        self._delivery.check_silence(turn.lane)
        if self._delivery.silent_s > turn.patience_s:
            # The next one tries at once. Brokers that are only slow are given twice as long then.
            turn.lane.stuck = True
            raise Broken(f"Kafka has not confirmed anything for {turn.patience_s:.0f} s.")
        self._delivery.keep_claims()
        if self._delivery.silent_s > LOOK_S and self._looked_in != since:
            self._looked_in = since
            with contextlib.suppress(KafkaUnavailable):
                self._outlet.check_topic(turn.held.granted)

    def _heard(self, lane: LaneTransactions) -> None:
        self._confirmations = lane.confirmations
        self._delivery.heard()

    def _confirm_claim(self, held: HeldLane) -> None:
        now = time.monotonic()
        while held.contact < now:
            self._delivery.keep_claims(after_s=0.0)

    def rest(self, seconds: float) -> None:
        """See `Work.rest`."""
        if self._lane is None:
            pause(seconds)
        else:
            self._lane.poll(seconds)


def _refusal(lane: LaneTransactions) -> Transient:
    assert lane.refusal is not None
    return Transient(str(lane.refusal), code=lane.refusal.error.name())
