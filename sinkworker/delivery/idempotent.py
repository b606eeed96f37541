"""An activation over one idempotent producer: all lanes at once, each with several batches on their way, in order."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from sinkworker.delivery.deliver import (
    NO_PROGRESS_TRIES,
    POLL_S,
    Aside,
    Delivery,
    HeldLane,
    LetGo,
    Outlet,
    Refused,
    unburied,
    undeliverable,
)
from sinkworker.delivery.producer import LaneProducer
from sinkworker.delivery.window import InFlight
from sinkworker.errors import Misconfigured, OtherRelease, Transient, Undeliverable
from sinkworker.outgoing import Origin, Outgoing, Refusal, Unfit

log = logging.getLogger(__name__)


class ProducingOutlet(Outlet, Protocol):
    """An outlet with one producer for all lanes."""

    outgrown: bool
    """The messages made last need another producer: `renew` it once everything before them is confirmed."""

    @property
    def producer(self) -> LaneProducer:
        """The long-lived producer; a new one after `discard`."""

    def renew(self) -> None:
        """Purge and close only the producer of records; the next use makes another."""


class IdempotentWork:
    """The work of a `Delivery` where a crash may repeat what was in flight.

    Every record of a batch is awaited before the batch is acknowledged (P1). Where Kafka refuses one, all that is in
    flight is purged and sent again record by record, so that the guilty one is found (R7).
    """

    def __init__(self, delivery: Delivery, outlet: ProducingOutlet) -> None:
        self._delivery = delivery
        self._outlet = outlet
        self._confirmations = 0
        """Of the present producer, when it was last looked at."""
        self._careful = False
        """After a refusal every record goes alone and is awaited."""

    def run(self) -> None:
        """See `Work.run`."""
        delivery = self._delivery
        self._confirmations = self._producer(self._outlet).confirmations
        while delivery.lanes:
            try:
                for held in list(delivery.lanes.values()):
                    delivery.turn(held)
                if any(not held.window.idle for held in delivery.lanes.values()):
                    self._poll(at_once=all(held.drained for held in delivery.lanes.values()))
            except Refused:
                self._after_refusal()

    def deliver(self, held: HeldLane) -> None:
        """See `Work.deliver`."""
        while (flight := held.window.start()) is not None:
            self._produce(held, flight)

    def rest(self, seconds: float) -> None:
        """See `Work.rest`."""
        self._outlet.producer.poll(seconds)

    def _producer(self, outlet: ProducingOutlet | Aside) -> LaneProducer:
        """Its producer; a new one begins with asking the brokers for the topic, which counts as waiting for Kafka."""
        delivery = self._delivery
        since = delivery.silent_since
        delivery.silent_since = since or time.monotonic()
        try:
            return outlet.producer
        finally:
            delivery.silent_since = since

    def _produce(self, held: HeldLane, flight: InFlight) -> None:
        delivery, outlet = self._delivery, self._outlet
        patience_s = delivery.bounds.lease_s / 3
        producer = self._producer(outlet)
        try:
            for message in outlet.messages(flight.batch, held.granted.layout):
                if time.monotonic() - held.contact > patience_s:
                    self._poll()  # R5: making the message took long, so see first whether the lane is still ours
                if held.confirmed and message.place in held.confirmed:
                    flight.reached = message.place
                    if isinstance(message, Outgoing):
                        flight.produced += 1
                        flight.created_s.append(message.created_s)
                    continue
                if isinstance(message, Unfit):
                    self._bury(flight, message.origin, message.reason)
                    flight.reached = message.place
                    continue
                if flight.first_position is None:
                    flight.first_position = message.position
                if outlet.outgrown:
                    self._await_all()
                    producer = self._renewed()
                # R6: until one record is confirmed on a partition, no other of this producer may be on its way there.
                alone = self._careful or not producer.primed(message)
                try:
                    while not producer.send(flight, message):
                        self._poll()
                    flight.reached = (message.position, message.record_id)  # its `place`: this runs for every record
                    if alone:
                        while flight.outstanding:
                            self._poll(at_once=True)
                except Refused:
                    reason = self._guilt()
                    if reason is None:
                        raise
                    # It went alone: everything before it is confirmed, so that delivery goes on behind it.
                    outlet.renew()
                    flight.outstanding = 0
                    self._bury(flight, message.origin, reason, message.topic)
                    flight.unconfirmed.clear()
                    flight.reached = message.place
                    producer = self._producer(outlet)
                    self._confirmations = 0
                    continue
                flight.produced += 1
                flight.created_s.append(message.created_s)
        except (Undeliverable, Misconfigured):
            self._await_all()  # P5: what precedes a record that cannot be built counts
            outlet.discard()  # the producer of dead letters, if that met a refusal, takes no other
            self._confirmations = 0
            raise
        except OtherRelease:
            # P3: what precedes the batch is not to be sent again by the worker that can read it.
            self._await_all()
            for each in delivery.lanes.values():
                delivery.acknowledge_confirmed(each)
            raise
        flight.complete = True

    def _renewed(self) -> LaneProducer:
        """A new producer for what comes next."""
        self._outlet.renew()
        self._confirmations = 0
        return self._producer(self._outlet)

    def _guilt(self) -> Undeliverable | None:
        """Why the record that was refused is a dead letter; None where it is none, or has not gone alone yet (R7)."""
        outlet = self._outlet
        refusal = outlet.producer.refusal
        if refusal is None or outlet.dead_letters is None or not (self._careful and refusal.blames_record):
            return None
        return undeliverable(refusal, outlet)

    def _bury(self, flight: InFlight, origin: Origin, reason: Undeliverable, aimed_at: str | None = None) -> None:
        """Send the record to the dead-letter topic and await its confirmation: what is confirmed neither there nor in
        its own topic is not acknowledged (P1).

        Raises Undeliverable, which names both reasons, where that topic does not take it for good (P5).
        """
        delivery, aside = self._delivery, self._outlet.dead_letters
        assert aside is not None
        delivery.keep_claims(after_s=0.0)  # a topic takes a while to be described, if it is there at all
        try:
            producer = self._producer(aside)
            refusal = self._send_aside(producer, flight, self._outlet.letter(flight.batch, origin, reason, aimed_at))
        except Misconfigured as exc:
            raise unburied(reason, aside.topic, str(exc)) from exc
        if refusal is not None and refusal.permanent:
            raise unburied(reason, aside.topic, f"{refusal.error.str()} ({refusal.error.name()}).")
        if refusal is not None:
            raise LetGo(Transient(str(refusal), code=refusal.error.name()), delivery.back_off_ms())
        delivery.put_aside(reason, aside.topic)

    def _send_aside(self, producer: LaneProducer, flight: InFlight, letter: Outgoing) -> Refusal | None:
        """Await the dead letter's confirmation, or answer its refusal; one is on its way at a time (R6)."""
        delivery = self._delivery
        # Not of the batch's own count: what is awaited of the other producer is told apart from this.
        pending = InFlight(flight.batch)
        sent = False
        delivery.silent_since = time.monotonic()
        while not sent or pending.outstanding:
            sent = sent or producer.send(pending, letter)
            producer.poll(POLL_S, at_once=True)
            if producer.refusal is not None:
                break
            if pending.outstanding:
                delivery.check_silence(producer)
            delivery.keep_claims()
        delivery.silent_since = None
        return producer.refusal

    def _await_all(self) -> None:
        """Have everything confirmed that was sent."""
        while self._awaits_kafka():
            self._poll(at_once=True)

    def _poll(self, *, at_once: bool = False) -> None:
        """Serve reports for a moment, keep the claims alive, and see whether Kafka refused or fell silent.

        `at_once`: nothing is left to be produced before a confirmation comes.
        """
        delivery, producer = self._delivery, self._outlet.producer
        # From the first look in vain: making a message may take long, too.
        since = delivery.silent_since or time.monotonic()
        producer.poll(POLL_S, at_once=at_once)
        if producer.refusal is not None:
            raise Refused
        if producer.confirmations != self._confirmations or not self._awaits_kafka():
            self._confirmations = producer.confirmations
            delivery.heard()
        else:
            delivery.silent_since = since
            delivery.check_silence(producer)
        delivery.keep_claims()

    def _awaits_kafka(self) -> bool:
        return any(flight.outstanding for held in self._delivery.lanes.values() for flight in held.window.in_flight)

    def _after_refusal(self) -> None:
        """Go on record by record, or give up: for this record's lane, or for this activation."""
        delivery, outlet = self._delivery, self._outlet
        refusal = outlet.producer.refusal
        assert refusal is not None
        if self._careful and refusal.permanent:
            reason = undeliverable(refusal, outlet)
            if reason.position is None:
                raise reason
            outlet.discard()
            delivery.condemn(delivery.lanes[refusal.lane], reason)
            delivery.tries = 0
            self._careful = False
        else:
            delivery.tries += 1
            if delivery.tries > NO_PROGRESS_TRIES:
                raise LetGo(Transient(str(refusal), code=refusal.error.name()), delivery.back_off_ms())
            fields = {**delivery.fields, "lane": refusal.lane}
            # Of dead letters the worker says what there is to say: there may be many.
            level = logging.DEBUG if outlet.dead_letters is not None and refusal.blames_record else logging.WARNING
            log.log(level, "%s The records in flight are sent again one by one.", refusal, extra=fields)
            outlet.discard()
            self._careful = True
        self._confirmations = 0
        for held in delivery.lanes.values():
            delivery.remember_confirmed(held)
            held.window.begin_anew(1)
