"""One activation: claim lanes, have their batches delivered, acknowledge what Kafka has confirmed, let go."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from sinkworker.crashpoints import CrashPoint, reach
from sinkworker.delivery.producer import LaneProducer
from sinkworker.delivery.window import InFlight, Window
from sinkworker.errors import (
    Full,
    KafkaUnavailable,
    Misconfigured,
    OtherRelease,
    SinkworkerError,
    Stale,
    Transient,
    Unavailable,
    Undeliverable,
    exhausted,
)
from sinkworker.ledger.contract import Activation, Batch, Claim, Granted, Ledger
from sinkworker.model import Cursor, Epoch, LaneNumber, Layout, Place, Position, SettingsId
from sinkworker.outgoing import Link, Origin, Outgoing, Refusal, Unfit

log = logging.getLogger(__name__)

BATCHES_PER_ACTIVATION = 16
"""Most batches of a lane that one activation delivers before it lets others have the worker."""

POLL_S = 0.05
LEDGER_RETRY_S = 0.2

NO_PROGRESS_TRIES = 3
"""Times that a fresh producer is tried on the same batch after an error that blames no record."""

COMPLAINT_S = 5.0
"""After so long without a confirmation the ledger is told what the lanes wait for, so that the connector says it."""

FIRST_BACK_OFF_MS = 1_000
LONGEST_BACK_OFF_MS = 5_000
"""Also how long records may wait that Kafka would take again: the first lane that delivers wakes the others."""


class Talk(Protocol):
    """What a producer tells of its brokers."""

    @property
    def link(self) -> Link:
        """What its connections have met."""


class Aside(Protocol):
    """Where a connector's dead letters go."""

    topic: str

    @property
    def producer(self) -> LaneProducer:
        """The long-lived producer for them; a new one after the outlet's `discard`."""


class Outlet(Protocol):
    """Where a connector's records go: its settings made ready for producing, and the producers that go with them."""

    in_flight_batches: int
    has_many_topics: bool
    """What is wrong with one record's topic need not be with another's."""
    failures: int
    """Activations in a row that Kafka did not confirm anything for: what the back-off grows with."""

    @property
    def dead_letters(self) -> Aside | None:
        """None where a record that can never be delivered stops the connector."""

    def discard(self) -> None:
        """Purge and close all producers (R5)."""

    def work(self, delivery: Delivery) -> Work:
        """How records are brought there in one activation."""

    def messages(self, batch: Batch, layout: Layout) -> Iterator[Outgoing | Unfit]:
        """The batch's records as Kafka messages, in order. One that cannot be built is Unfit, or raises Undeliverable
        where there are no dead letters. Raises OtherRelease for a batch that this release cannot read.
        """

    def cursors(self, batch: Batch) -> Iterator[Cursor]:
        """Just after each of the batch's records, in order, kept back by the filter or not."""

    def letter(self, batch: Batch, origin: Origin, reason: Undeliverable, aimed_at: str | None = None) -> Outgoing:
        """That record of the batch as a dead letter, once the producer for them has been made.

        `aimed_at`: the topic that it was for, where it has come so far.
        """


class Work(Protocol):
    """The one half of an activation, which talks to Kafka. The other half, `Delivery`, talks to the ledger."""

    def run(self) -> None:
        """Until no lane is held any more; raises what ends a delivery otherwise."""

    def deliver(self, held: HeldLane) -> None:
        """Take what the lane was handed on its way, as far as that may start.

        Raises Undeliverable or Misconfigured for the record that the lane cannot go on from, once everything of the
        lane before it is confirmed.
        """

    def rest(self, seconds: float) -> None:
        """Pass the time."""


class LetGo(Exception):
    """Inside an activation: stop working on every lane; they are activated again after the delay."""

    def __init__(self, reason: SinkworkerError | None, delay_ms: int = 0) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.delay_ms = delay_ms


class Refused(Exception):
    """Inside an activation: the producer met a refusal and must not go on."""


@dataclass(slots=True)
class HeldLane:
    granted: Granted
    window: Window
    contact: float
    """Monotonic time of the last answer to a call under this claim, which renewed it."""
    handed: int = 0
    drained: bool = False
    """The ledger had nothing more to hand out when it was asked last."""
    confirmed: set[Place] = field(default_factory=set)
    """Records that are confirmed, of batches that are not acknowledged and are produced again."""
    done: Cursor | None = None
    """Everything of the lane up to there is confirmed; None before it is needed."""

    @property
    def claim(self) -> Claim:
        return self.granted.claim


@dataclass(slots=True)
class Delivered:
    """What an activation did: the readable result of its task."""

    batches: int = 0
    records: int = 0
    first_position: int | None = None
    last_position: int | None = None
    lanes: list[int] = field(default_factory=list)
    again: list[Activation] = field(default_factory=list)
    """Activations to send for lanes that still have work."""

    def count(self, flight: InFlight) -> None:
        batch = flight.batch
        self.batches += 1
        self.records += flight.produced
        positions = (flight.first_position, self.first_position)
        self.first_position = min((each for each in positions if each is not None), default=None)
        self.last_position = max(batch.last.commit, self.last_position or 0)

    def summary(self) -> dict[str, Any]:
        """JSON for Flower: counts and positions, no payloads."""
        return {
            "lanes": self.lanes,
            "batches": self.batches,
            "records": self.records,
            "first_position": self.first_position,
            "last_position": self.last_position,
        }


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long an activation may take, in seconds."""

    activation_s: float = 2.0
    """After this much work it asks for no more batches."""
    delivery_timeout_s: float = 30.0
    """Without any confirmation for this long it purges its producer and lets go."""
    drain_timeout_s: float = 3.0
    """How long confirmations are awaited once the process has been told to stop."""
    lease_s: float = 10.0
    """How long a claim lasts without a word to the ledger."""


class Delivery:
    """One activation of one or several lanes of a connector, from claim to release.

    `run` answers what was delivered. It raises Transient when Kafka did not confirm in time, Undeliverable when a
    record stops the connector (P5), Unavailable when the ledger was lost, OtherRelease when another worker has to go
    on; in each case the lanes are free again, and nothing is acknowledged that Kafka has not confirmed (P1).
    """

    def __init__(
        self,
        ledger: Ledger,
        outlet: Callable[[SettingsId], Outlet],
        bounds: Bounds,
        stopping: Callable[[], bool] = lambda: False,
        fields: Mapping[str, object] = MappingProxyType({}),
        acknowledged: Callable[[InFlight], None] = lambda _: None,
        put_aside: Callable[[Undeliverable, str], None] = lambda _reason, _topic: None,
    ) -> None:
        """`fields` are those of its log lines; `acknowledged` is told of every batch that is, `put_aside` of every
        record that was confirmed by the dead-letter topic.
        """
        self._ledger = ledger
        self._outlet_for = outlet
        self.bounds = bounds
        self._stopping = stopping
        self.fields = fields
        self._acknowledged = acknowledged
        self.put_aside = put_aside
        self.lanes: dict[LaneNumber, HeldLane] = {}
        self._outlet: Outlet | None = None
        self._work: Work | None = None
        self._reason: SinkworkerError | None = None
        """Why a lane was condemned."""
        self.done = Delivered()
        self._complained = False
        self.tries = 0
        """Refusals since something was last acknowledged."""
        self.silent_since: float | None = None

    @property
    def silent_s(self) -> float:
        """How long it has been waiting for Kafka without a word; 0 while it is not. May be asked from any thread."""
        since = self.silent_since
        return 0.0 if since is None else time.monotonic() - since

    def heard(self) -> None:
        """Kafka has confirmed something, or nothing is awaited."""
        self.silent_since = None
        self._complained = False

    def run(self, epoch: Epoch, activations: Sequence[Activation]) -> Delivered:
        try:
            for activation in activations:
                self._claim(epoch, activation)
            if self.lanes:
                self._open().run()
        except LetGo as exc:
            self._free_all(exc.delay_ms, exc.reason)
            if exc.reason is not None:
                raise exc.reason from exc
        except (Undeliverable, Misconfigured) as exc:
            self._condemn_all(exc)
            raise
        except OtherRelease as exc:
            self._free_all(FIRST_BACK_OFF_MS, exc)
            raise
        except SinkworkerError as exc:
            self._free_all(self.back_off_ms(), exc)
            raise
        except Exception as exc:
            if (shortage := exhausted(exc)) is not None:
                self._free_all(self.back_off_ms(), shortage)
                raise shortage from exc
            log.exception("a bug stops the connector", extra=self.fields)
            reason = SinkworkerError(f"Unexpected {type(exc).__name__}: {exc}.")
            self._condemn_all(reason)  # P5: it would happen again and again
            raise reason from exc
        if self._reason is not None:
            raise self._reason
        return self.done

    # -- claiming and letting go

    def _claim(self, epoch: Epoch, activation: Activation) -> None:
        try:
            granted = self._ledger.claim(epoch, activation, secrets.token_hex(8))
        except Stale as exc:
            log.debug("%s", exc)  # a second copy of the task, or an old one: both are usual
            return
        self.lanes[activation.lane] = HeldLane(granted, Window(1), time.monotonic())
        self.done.lanes.append(activation.lane)

    def _open(self) -> Work:
        settings = next(iter(self.lanes.values())).granted.settings
        self._outlet = self._outlet_for(settings)
        for held in self.lanes.values():
            held.window = Window(self._outlet.in_flight_batches)
        self._started = time.monotonic()
        self._work = self._outlet.work(self)
        return self._work

    def _release(self, held: HeldLane) -> None:
        """Free a lane with nothing in flight; what its mailbox holds by now is for another activation."""
        del self.lanes[held.claim.lane]
        with contextlib.suppress(Stale, Unavailable):  # not told: the lease runs out and the reaper takes over
            again = self._ledger.release(held.claim)
            if again is not None:
                self.done.again.append(again)

    def _free_all(self, delay_ms: int, reason: SinkworkerError | None = None) -> None:
        """Free every lane, and say what the trouble is.

        What the producer may still send belongs to the claims, so it is purged first (R5).
        """
        if self._outlet is not None and any(not held.window.idle for held in self.lanes.values()):
            self._outlet.discard()
        for held in list(self.lanes.values()):
            if delay_ms:
                del self.lanes[held.claim.lane]
                with contextlib.suppress(Stale, Unavailable, Full):
                    self._ledger.fail(held.claim, delay_ms, "" if reason is None else _as_json(reason))
            else:
                self._release(held)

    def back_off_ms(self) -> int:
        """How long a lane rests after trouble: longer each time, until Kafka confirms something again."""
        if self._outlet is None:
            return FIRST_BACK_OFF_MS
        self._outlet.failures += 1
        return min(FIRST_BACK_OFF_MS << min(self._outlet.failures - 1, 10), LONGEST_BACK_OFF_MS)

    def _condemn_all(self, reason: SinkworkerError) -> None:
        """The connector cannot go on, and that is not about one record, or nobody knows about which.

        The first record that these lanes have left is named all the same: there it goes on.
        """
        if self._outlet is not None and any(not held.window.idle for held in self.lanes.values()):
            self._outlet.discard()
        if not isinstance(reason, Undeliverable):  # which names its record
            left = min(filter(None, map(self._first_left, self.lanes.values())), default=None)
            if left is not None:
                reason.message += f" The first record that waits is {left.record_id} at position {left.commit}."
        for held in list(self.lanes.values()):
            self.condemn(held, reason)

    def _first_left(self, held: HeldLane) -> Cursor | None:
        """Of the lane's records the first that is not known to be delivered; None where that cannot be told."""
        if self._outlet is None:
            return None
        with contextlib.suppress(SinkworkerError):
            self.remember_confirmed(held)
            for batch in self._ledger.next(held.claim, 0, self._outlet.in_flight_batches):
                for cursor in self._outlet.cursors(batch):
                    done = held.done is not None and cursor <= held.done
                    if not done and (cursor.commit, cursor.record_id) not in held.confirmed:
                        return cursor
        return None

    def condemn(self, held: HeldLane, reason: SinkworkerError) -> None:
        """The lane cannot go on: say so in the ledger, and let go of it (P5). Nothing of it is in flight any more.

        It says how far it got, so that nothing that is confirmed is sent again after the stop (P3).
        """
        if self._outlet is not None:
            self.remember_confirmed(held)
            self.acknowledge_confirmed(held)
        del self.lanes[held.claim.lane]
        with contextlib.suppress(Stale, Unavailable):
            self._ledger.condemn(held.claim, _as_json(reason), held.done, reason.position)
        self._reason = self._reason or reason

    def remember_confirmed(self, held: HeldLane) -> None:
        """Note what is confirmed of the batches in flight, once every record is, or was reported on by the purge.

        Where reports are missing nothing is known, and all is sent again.
        """
        assert self._outlet is not None
        whole = True
        for flight in held.window.in_flight:
            if len(flight.unconfirmed) < flight.outstanding:
                return
            if flight.reached is None:
                continue
            missing = set(flight.unconfirmed)
            for cursor in self._outlet.cursors(flight.batch):
                place = (cursor.commit, cursor.record_id)
                if place not in missing:
                    held.confirmed.add(place)
                else:
                    whole = False
                if whole:
                    # A batch that is gone through again is not all that was confirmed.
                    held.done = cursor if held.done is None else max(cursor, held.done)
                if place == flight.reached:
                    break
            whole = whole and flight.complete

    # -- the work

    def turn(self, held: HeldLane) -> None:
        """Acknowledge, fetch and deliver what there is of the lane, or let go of it once there is no more."""
        assert self._work is not None
        try:
            self._exchange(held)
        except Stale:
            # The lane has another owner, or the ledger another past.
            if not held.window.idle:
                raise LetGo(None) from None
            self._release(held)
            return
        except Unavailable as exc:
            self._wait_for_ledger(held, exc)
            return
        try:
            self._work.deliver(held)
        except (Undeliverable, Misconfigured) as exc:
            if exc.position is None:
                raise
            self.condemn(held, exc)
            self.keep_claims()  # to find out may have taken long
            return
        if held.window.idle:
            self._release(held)

    def _exchange(self, held: HeldLane) -> None:
        """Acknowledge what is confirmed and fetch what there is room for, in one call; or only renew the claim."""
        ready = held.window.ackable()
        now = time.monotonic()
        worked_enough = held.handed >= BATCHES_PER_ACTIVATION or now - self._started > self.bounds.activation_s
        # A refused record is found in the activation that met it, however long that takes: the next one would start
        # over, and never find it (P5).
        spent = (worked_enough and not self.tries) or self._stopping()
        wanted = 0 if spent or (held.drained and not ready) else held.window.room + len(ready)
        if not ready and not wanted and now - held.contact < self.bounds.lease_s / 3:
            return
        # Only what is confirmed to the last record is acknowledged (P1).
        numbers = [flight.batch.number for flight in ready]
        if numbers:
            reach(CrashPoint.CONFIRMED)
        batches = self._ledger.ack_and_next(held.claim, numbers, held.window.after, wanted)
        if numbers:
            reach(CrashPoint.ACKNOWLEDGED)
        held.contact = time.monotonic()
        self._count(held, ready)
        held.drained = len(batches) < wanted
        held.handed += len(batches)
        held.window.hand(batches)

    def _count(self, held: HeldLane, acked: Sequence[InFlight]) -> None:
        for flight in acked:
            held.window.acked()
            self.done.count(flight)
            self._acknowledged(flight)
            self.tries = 0
            if self._outlet is not None:
                self._outlet.failures = 0

    def acknowledge_confirmed(self, held: HeldLane) -> None:
        """Acknowledge what is confirmed, as far as the ledger lets."""
        ready = held.window.ackable()
        with contextlib.suppress(Stale, Unavailable):
            self._ledger.ack_and_next(held.claim, [flight.batch.number for flight in ready], held.window.after, 0)
            self._count(held, ready)

    def keep_claims(self, after_s: float | None = None) -> None:
        """Renew the claims that have not been for so long, by themselves for a third of the lease."""
        now = time.monotonic()
        after_s = self.bounds.lease_s / 3 if after_s is None else after_s
        for held in self.lanes.values():
            if now - held.contact > after_s:
                self._renew(held)

    def hold_claims(self) -> None:
        """`keep_claims` while messages are being made: that one is lost is found out afterwards (R5)."""
        now = time.monotonic()
        for held in self.lanes.values():
            if now - held.contact > self.bounds.lease_s / 3:
                with contextlib.suppress(Stale, Unavailable):
                    self._ledger.next(held.claim, held.window.after, 0)
                    held.contact = time.monotonic()

    def _renew(self, held: HeldLane) -> None:
        try:
            self._ledger.next(held.claim, held.window.after, 0)
        except Stale:
            raise LetGo(None) from None
        except Unavailable as exc:
            self._wait_for_ledger(held, exc)
        else:
            held.contact = time.monotonic()

    # -- trouble

    def _wait_for_ledger(self, held: HeldLane, exc: Unavailable) -> None:
        """Call again in a moment, as long as the claim certainly lasts."""
        if time.monotonic() - held.contact > self.bounds.lease_s * 0.8:
            raise LetGo(exc, FIRST_BACK_OFF_MS) from exc
        assert self._work is not None
        self._work.rest(LEDGER_RETRY_S)

    def check_silence(self, producer: Talk) -> None:
        silent_s = self.silent_s
        trouble = producer.link.trouble
        cause = f" ({trouble.str()})" if trouble is not None else ""
        if producer.link.shut_out and silent_s > self.bounds.lease_s / 3:
            raise Misconfigured(
                f"Kafka refuses the connection{cause}.",
                hint="Check the connector's `authentication:` settings.",
                code="kafka-authentication",
            )
        silence = Transient(
            f"Kafka has not confirmed anything for {silent_s:.0f} s{cause}.", code=KafkaUnavailable.code
        )
        patience_s = self.bounds.drain_timeout_s if self._stopping() else self.bounds.delivery_timeout_s
        if silent_s > patience_s:
            raise LetGo(silence, self.back_off_ms())
        if silent_s > COMPLAINT_S and not self._complained:
            self._complained = True
            self._complain(silence)

    def _complain(self, trouble: SinkworkerError) -> None:
        waits = next(held for held in self.lanes.values() if not held.window.idle)
        with contextlib.suppress(Stale, Unavailable, Full):  # the next call under the claim finds out
            self._ledger.complain(waits.claim, _as_json(trouble))


def undeliverable(refusal: Refusal, outlet: Outlet) -> Undeliverable:
    """The reason to stop for it: about that record, unless no other would be taken either."""
    about_one = refusal.blames_record or outlet.has_many_topics
    position = Position(refusal.record.position) if about_one else None
    return Undeliverable(str(refusal), code=refusal.error.name(), position=position)


def unburied(reason: Undeliverable, topic: str, trouble: str) -> Undeliverable:
    return Undeliverable(
        f"{reason.message} The dead-letter topic {topic!r} does not take it either: {trouble}",
        code="dead-letter-refused",
        position=reason.position,
    )


def _as_json(reason: SinkworkerError) -> str:
    return json.dumps({"code": reason.code, "message": str(reason)})
