"""A broker with two partitions a lane, and producers whose records are on their way for a while."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from confluent_kafka import KafkaError
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.delivery.deliver import Delivery, Work
from sinkworker.delivery.messages import cursor_of
from sinkworker.delivery.window import InFlight
from sinkworker.errors import Undeliverable
from sinkworker.keys import partition_of
from sinkworker.ledger import payload
from sinkworker.ledger.contract import Batch
from sinkworker.model import Cursor, Layout
from sinkworker.outgoing import Link, Origin, Outgoing, Refusal, Unfit

DEAD = "-dead"
"""What the name of a dead-letter topic ends with."""


@dataclass(frozen=True, slots=True)
class Landed:
    """A record in a topic."""

    topic: str
    partition: int
    position: int


class Producer:
    """What `LaneProducer` shows to `Delivery`. Its records land one by one, when the driver lets them."""

    def __init__(self, broker: Broker, topic: str, poll: Callable[[float], None]) -> None:
        self.refusal: Refusal | None = None
        self.link = Link()
        self.confirmations = 0
        self.closed = False
        self._broker = broker
        self._topic = topic
        self._poll = poll
        self._primed: set[int] = set()
        self._waiting: dict[int, deque[tuple[InFlight, Outgoing]]] = {}
        self._confirmed: list[tuple[InFlight, Outgoing]] = []
        self._refused: Refusal | None = None

    def primed(self, record: Outgoing) -> bool:
        return record.partition in self._primed

    def send(self, flight: InFlight, record: Outgoing) -> bool:
        if self._refused is not None:
            self.refusal = self._refused  # a producer that failed for good takes nothing more
        if self.refusal is not None:
            return False
        flight.outstanding += 1
        self._waiting.setdefault(record.partition, deque()).append((flight, record))
        return True

    def poll(self, timeout_s: float, *, at_once: bool = False) -> None:
        self._poll(timeout_s)
        for flight, record in self._confirmed:
            flight.outstanding -= 1
            self.confirmations += 1
            self._primed.add(record.partition)
        self._confirmed.clear()
        self.refusal = self.refusal or self._refused

    # what happens on the way

    def busy(self) -> list[int]:
        return [partition for partition, waiting in self._waiting.items() if waiting]

    def land(self, partition: int) -> None:
        """The next record of the partition reaches the topic, or is refused for what it is."""
        if self._broker.is_too_large(self._topic, self._waiting[partition][0][1]):
            self.refuse(partition, KafkaError.MSG_SIZE_TOO_LARGE)
            return
        flight, record = self._waiting[partition].popleft()
        self._broker.take(self._topic, record)
        self._confirmed.append((flight, record))

    def refuse(self, partition: int, code: int = KafkaError._FATAL) -> None:
        """The broker does not take the next record; nothing behind it may follow (gapless)."""
        flight, record = self._waiting[partition][0]
        self._refused = Refusal(flight.batch.lane, record, KafkaError(code))
        self._report_unconfirmed()

    def cut(self, rng: random.Random) -> None:
        """Purged, or its process killed: what is already on the wire still lands, some time; the rest never does."""
        self.closed = True
        for partition, waiting in self._waiting.items():
            sent = rng.randint(0, len(waiting))
            records = [record for _, record in waiting][:sent]
            if records and not any(self._broker.is_too_large(self._topic, record) for record in records):
                self._broker.wire.append((self._topic, partition, deque(records)))
        self._report_unconfirmed()

    def _report_unconfirmed(self) -> None:
        for waiting in self._waiting.values():
            for flight, record in waiting:
                flight.unconfirmed.append(record.place)
        self._waiting.clear()


class Broker:
    """The topic, and what is on its way to it."""

    def __init__(self, rng: random.Random, *, is_picky: bool = False, has_dead: bool = True) -> None:
        """`is_picky`: some records are undeliverable, and go to a dead-letter topic or stop the connector."""
        self.landed: list[Landed] = []
        self.producers: list[Producer] = []
        self.wire: list[tuple[str, int, deque[Outgoing]]] = []
        self.is_picky = is_picky
        self.has_dead = has_dead
        self.mended: set[int] = set()
        """Positions of the records that were undeliverable, and no longer are."""
        self.loses_answers = False
        """Whether the outcome of a commit may stay unknown."""
        self.rng = self._rng = rng

    def is_too_large(self, topic: str, record: Outgoing) -> bool:
        return not topic.endswith(DEAD) and self.lot(record.position) == 0

    def lot(self, position: int) -> int:
        """Whether the record is undeliverable, and how: 0 when it is sent, 1 when it is built."""
        return crc32(b"%d" % position) % 12 if self.is_picky and position not in self.mended else -1

    def take(self, topic: str, record: Outgoing) -> None:
        self.landed.append(Landed(topic, record.partition, record.position))

    def move(self, *, refusing: bool) -> None:
        """One thing happens on the network, if anything is on its way."""
        choices: list[Callable[[], None]] = []
        for producer in self.producers:
            for partition in producer.busy():
                choices.append(lambda producer=producer, partition=partition: producer.land(partition))  # type: ignore[misc]
                if refusing and self._rng.random() < 0.02:
                    choices.append(lambda producer=producer, partition=partition: producer.refuse(partition))  # type: ignore[misc]
        for topic, _, records in self.wire:
            choices.append(lambda topic=topic, records=records: self.take(topic, records.popleft()))  # type: ignore[misc]
        if choices:
            self._rng.choice(choices)()
        self.wire = [each for each in self.wire if each[2]]
        self.producers = [each for each in self.producers if not each.closed]


class Aside:
    """The dead-letter topic of a topic."""

    def __init__(self, broker: Broker, topic: str, poll: Callable[[float], None]) -> None:
        self.topic = topic
        self._broker = broker
        self._poll = poll
        self.held: Producer | None = None

    @property
    def producer(self) -> Producer:
        if self.held is None:
            self.held = Producer(self._broker, self.topic, self._poll)
            self._broker.producers.append(self.held)
        return self.held


class Outlet:
    """What a worker process has of a connector: see `sinkworker.delivery.outlet.KafkaOutlet`."""

    def __init__(
        self,
        broker: Broker,
        topic: str,
        poll: Callable[[float], None],
        rng: random.Random,
        in_flight: int,
        work: Callable[[Delivery, Any], Work],
    ) -> None:
        self.in_flight_batches = in_flight
        self.has_many_topics = False
        self.failures = 0
        self.outgrown = False
        self.dead_letters = Aside(broker, topic + DEAD, poll) if broker.is_picky and broker.has_dead else None
        self.topic = topic
        self._broker = broker
        self._poll = poll
        self._rng = rng
        self._work = work
        self._producer: Producer | None = None

    def work(self, delivery: Delivery) -> Work:
        return self._work(delivery, self)

    @property
    def producer(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(self._broker, self.topic, self._poll)
            self._broker.producers.append(self._producer)
        return self._producer

    def discard(self) -> None:
        self.renew()
        if self.dead_letters is not None and self.dead_letters.held is not None:
            self.dead_letters.held.cut(self._rng)
            self.dead_letters.held = None

    def renew(self) -> None:
        if self._producer is not None:
            self._producer.cut(self._rng)
            self._producer = None

    def die(self) -> None:
        """The process is killed."""
        if self._producer is not None:
            self._producer.cut(self._rng)
        if self.dead_letters is not None and self.dead_letters.held is not None:
            self.dead_letters.held.cut(self._rng)

    def letter(self, batch: Batch, origin: Origin, reason: Undeliverable, aimed_at: str | None = None) -> Outgoing:
        return Outgoing(*origin, None, b"", [], 0.0, self.topic + DEAD, partition=0)

    def cursors(self, batch: Batch) -> Iterator[Cursor]:
        for raw in payload.unpack(batch.payload):
            yield cursor_of(event_of(raw))

    def messages(self, batch: Batch, layout: Layout) -> Iterator[Outgoing | Unfit]:
        for raw in payload.unpack(batch.payload):
            event = event_of(raw)
            key, position = event.stream_identifier.stream_name, event.commit_position
            partition = partition_of(key, "", layout.partitions)
            origin = Origin(event.id.string, key.decode(), "T", position)
            if self._broker.lot(position) != 1:
                yield Outgoing(*origin, key, b"", [], 0.0, self.topic, partition)
                continue
            reason = Undeliverable(f"The record at position {position} cannot be built.", position=position)
            if self.dead_letters is None:
                raise reason
            yield Unfit(origin, reason)


def event_of(raw: bytes) -> Any:
    """The event of a payload's record."""
    return streams_pb2.ReadResp.FromString(raw).event.event
