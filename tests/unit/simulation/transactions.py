"""Kafka with transactions: producers that fence each other, and marks that are committed with the records."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from confluent_kafka import KafkaError

from sinkworker.connectors.lifecycle import ProgressPlace
from sinkworker.errors import SinkworkerError, Stale
from sinkworker.exactly_once.marks import Lineage, Mark, lost
from sinkworker.exactly_once.transactions import Broken
from sinkworker.ledger import payload
from sinkworker.ledger.contract import Batch, Granted
from sinkworker.model import Cursor, Generation, LaneNumber, Layout, Position
from sinkworker.outgoing import Link, Origin, Outgoing, Refusal, Unfit
from tests.unit.simulation.kafka import DEAD, Broker, Outlet, event_of

RETENTION_S = 60.0
"""How long a mark is kept at least."""


@dataclass
class Committed:
    """What the brokers know of transactional ids: who has each, and the lane's mark."""

    now_s: Callable[[], float]
    owners: dict[str, object] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    committed_s: dict[str, float] = field(default_factory=dict)
    """When each mark was committed."""

    def keep(self, name: str, mark: Mark) -> None:
        self.marks[name] = mark
        self.committed_s[name] = self.now_s()

    def expire(self) -> None:
        """What has not been committed for long is forgotten."""
        kept = {name for name, at_s in self.committed_s.items() if self.now_s() - at_s <= RETENTION_S}
        self.marks = {name: mark for name, mark in self.marks.items() if name in kept}


class Lane:
    """What `LaneTransactions` shows. A transaction lands as a whole, when it is committed, or never."""

    fences = True

    def __init__(
        self, name: str, number: LaneNumber, broker: Broker, committed: Committed, around: Callable[[], None]
    ) -> None:
        self.number = number
        self.refusal: Refusal | None = None
        self.link = Link()
        self.confirmations = 0
        self.outstanding = 0
        self.mark: Mark | None = None
        self.in_transaction = False
        self.untried = True
        self.stuck = False
        self._name = name
        self._broker = broker
        self._committed = committed
        self._around = around
        self._primed: set[tuple[str, int]] = set()
        self._sent: list[Outgoing] = []
        self._seen = 0

    def open(self, timeout_s: float) -> None:
        if self.fences:
            self._committed.owners[self._name] = self  # X2: fence first, read then
        self.mark = self._committed.marks.get(self._name)

    def primed(self, record: Outgoing) -> bool:
        return (record.topic, record.partition) in self._primed

    def begin(self) -> None:
        self.refusal, self._sent, self._seen, self.outstanding = None, [], 0, 0
        self.in_transaction, self.untried = True, False

    def send(self, record: Outgoing) -> bool:
        if self.refusal is not None:
            return False
        self._sent.append(record)
        self.outstanding += 1
        return True

    def poll(self, timeout_s: float, *, at_once: bool = False) -> None:
        self._around()
        self._insist_on_being_owner()
        for record in self._sent[self._seen :]:
            if self._broker.is_too_large(record.topic, record):
                self.refusal = self.refusal or Refusal(self.number, record, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
                return
            self._seen += 1
            self.outstanding -= 1
            self.confirmations += 1
            self._primed.add((record.topic, record.partition))

    def commit(self, mark: Mark) -> bool:
        """Its effect may be known or not: the answer may be lost on either way."""
        self._around()
        self._insist_on_being_owner()
        if self._broker.loses_answers and self._broker.rng.random() < 0.02:
            raise Broken("The request was lost.")
        for record in self._sent:
            self._broker.take(record.topic, record)
        self._committed.keep(self._name, mark)
        self.in_transaction, self._sent = False, []
        if self._broker.loses_answers and self._broker.rng.random() < 0.02:
            raise Broken("The answer was lost.")
        self.mark = mark
        return True

    def abort(self, timeout_s: float) -> bool:
        self._sent, self.outstanding, self.in_transaction, self.refusal = [], 0, False, None
        return self._committed.owners.get(self._name) is self

    def close(self) -> None:
        self._sent, self.in_transaction = [], False

    def _insist_on_being_owner(self) -> None:
        if self.fences and self._committed.owners.get(self._name) is not self:
            raise Broken("It has been fenced.")


class Kafka:
    """What `TransactionalKafka` shows to a scheduler."""

    def __init__(self, broker: Broker, committed: Committed, lane: type[Lane], around: Callable[[], None]) -> None:
        self._broker = broker
        self._committed = committed
        self._lane = lane
        self._around = around

    def lane(self, name: str, number: LaneNumber, progress_topic: str) -> Lane:
        return self._lane(name, number, self._broker, self._committed, self._around)

    def place(self, topic: str) -> ProgressPlace:
        return ProgressPlace(topic, "")

    def retention_s(self) -> float:
        return RETENTION_S

    def check(self, place: ProgressPlace) -> None:
        """No topic is ever created again."""

    def marks(self, names: Mapping[LaneNumber, str], progress_topic: str) -> dict[LaneNumber, Mark | None]:
        self._around()
        return {number: self._committed.marks.get(name) for number, name in names.items()}


class ExactOutlet(Outlet):
    """See `sinkworker.delivery.exact_outlet.ExactKafkaOutlet`."""

    def __init__(self, *args: Any, committed: Committed, lane: type[Lane], lineage: Callable[[Generation], Lineage]):
        super().__init__(*args)
        self._committed = committed
        self._make = lane
        self._lineage = lineage
        self._lanes: dict[tuple[Generation, LaneNumber], Lane] = {}

    def open_all(self, granted: Sequence[Granted]) -> None:
        for each in granted:
            with contextlib.suppress(SinkworkerError):
                self.lane(each)

    def lane(self, granted: Granted) -> Lane:
        key = granted.generation, granted.claim.lane
        if key not in self._lanes:
            name = self._lineage(granted.generation).name(granted.claim.lane)
            lane = self._make(name, granted.claim.lane, self._broker, self._committed, lambda: self._poll(0.05))
            self._poll(0.05)
            lane.open(1.0)
            if lane.mark is None:
                raise lost(granted.claim.lane)
            if self.heeds_closed(lane.mark):
                raise Stale("The generation is closed.")
            self._lanes[key] = lane
        return self._lanes[key]

    def heeds_closed(self, mark: Mark) -> bool:
        return mark.closed  # X4

    def close_lane(self, granted: Granted) -> None:
        lane = self._lanes.pop((granted.generation, granted.claim.lane), None)
        if lane is not None:
            lane.close()

    def check_topic(self, granted: Granted) -> None:
        pass

    def letter_topic(self) -> str:
        return self.topic + DEAD

    def messages_after(self, batch: Batch, layout: Layout, after: Cursor) -> Iterator[Outgoing | Unfit]:
        behind = [raw for raw in payload.unpack(batch.payload) if _cursor(event_of(raw).commit_position) > after]
        return self.messages(replace(batch, payload=payload.pack(behind)), layout)

    def cursor_of(self, batch: Batch, origin: Origin) -> Cursor:
        return _cursor(origin.position)

    def discard(self) -> None:
        for key in [key for key, lane in self._lanes.items() if lane.in_transaction]:
            self._lanes.pop(key).close()

    def die(self) -> None:
        for lane in self._lanes.values():
            lane.close()


def _cursor(position: int) -> Cursor:
    return Cursor(Position(position), Position(position))
