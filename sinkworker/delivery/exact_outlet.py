"""A connector's settings made ready for exactly-once delivery: a transactional producer for each lane."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sinkworker.connectors.lifecycle import ProgressPlace
from sinkworker.delivery.deliver import Delivery, Work
from sinkworker.delivery.exact import ExactWork
from sinkworker.delivery.messages import cursor_of
from sinkworker.delivery.outlet import Errand, KafkaOutlet, events
from sinkworker.errors import SinkworkerError, Stale
from sinkworker.exactly_once.marks import Lineage, lost
from sinkworker.exactly_once.transactions import LaneTransactions, TransactionalKafka
from sinkworker.ledger.contract import Batch, Granted
from sinkworker.model import Cursor, Generation, LaneNumber, Layout
from sinkworker.outgoing import Origin, Outgoing, Unfit

OPEN_LANES = 64
"""Most producers that a process keeps for one connector. Each has four threads and about a megabyte."""

TOPIC_CHECK_S = 1.0
"""How often the topic's id is looked at while transactions are committed."""


@dataclass(frozen=True, slots=True)
class Life:
    """What a worker has to know of a generation."""

    lineage: Lineage
    progress: ProgressPlace


class ExactKafkaOutlet(KafkaOutlet):
    """What a worker process keeps for one connector that delivers exactly once, and its present settings."""

    def __init__(
        self, errand: Errand, life_of: Callable[[str, Generation], Life], opened: Callable[[LaneNumber], None]
    ) -> None:
        """`life_of`: of the connector's present generation. Raises Stale for another. `opened`: told of each lane."""
        super().__init__(errand)
        self._connector_id = errand.connector_id
        self._life_of = life_of
        self._told = opened
        self._life: Life | None = None
        self._open: OrderedDict[tuple[Generation, LaneNumber], LaneTransactions] = OrderedDict()
        self._kafka = TransactionalKafka(errand.options, errand.answer_timeout_s)
        self._checked_at = -TOPIC_CHECK_S

    def work(self, delivery: Delivery) -> Work:
        """See `deliver.Outlet.work`."""
        self._builder.call_meanwhile(delivery.hold_claims)
        return ExactWork(delivery, self)

    def lane(self, granted: Granted) -> LaneTransactions:
        """See `TransactionalOutlet.lane`."""
        key = granted.generation, granted.claim.lane
        lane = self._open.get(key)
        if lane is None:
            life, limits = self._life_in(granted.generation), self._limits()
            lane = self._keep(granted, self._opened(granted.claim.lane, life, limits))
        self._open.move_to_end(key)
        while len(self._open) > OPEN_LANES:
            self._open.popitem(last=False)[1].close()
        return lane

    def open_all(self, granted: Sequence[Granted]) -> None:
        """See `TransactionalOutlet.open_all`."""
        for each in granted:
            lane = self._open.get((each.generation, each.claim.lane))
            if lane is not None and lane.cut_off():
                self.close_lane(each)
        closed = [each for each in granted if (each.generation, each.claim.lane) not in self._open]
        if len(closed) < 2:
            return
        try:
            life, limits = self._life_in(closed[0].generation), self._limits()
        except SinkworkerError:
            return
        with ThreadPoolExecutor(len(closed)) as pool:  # all: claims may run out while one waits for another's time-out
            opening = [pool.submit(self._opened, each.claim.lane, life, limits) for each in closed]
        for each, opened in zip(closed, opening, strict=True):
            with contextlib.suppress(SinkworkerError):
                self._keep(each, opened.result())

    def _keep(self, granted: Granted, lane: LaneTransactions) -> LaneTransactions:
        self._open[granted.generation, granted.claim.lane] = lane
        self._told(granted.claim.lane)
        return lane

    def _opened(self, number: LaneNumber, life: Life, limits: Mapping[str, int]) -> LaneTransactions:
        """For any thread."""
        lane = self._kafka.lane(life.lineage.name(number), number, life.progress.topic, **limits)
        try:
            lane.open(self._answer_timeout_s)
            if lane.mark is None:
                self._kafka.check(life.progress)  # gone with its topic: then that is what to say
                raise lost(number)
            if lane.mark.closed:  # X4
                raise Stale(f"The generation that lane {number} is of is over.")
        except BaseException:
            lane.close()
            raise
        return lane

    def _limits(self) -> dict[str, int]:
        """Without one where the topic is a template: R7 rests on records that are tried one by one."""
        if self._settings.topic_is_template:
            return {}
        return {"max_message_bytes": self._met(self._settings.topic).max_message_bytes}

    def _life_in(self, generation: Generation) -> Life:
        if self._life is None or self._life.lineage.generation != generation:
            self._life = self._life_of(self._connector_id, generation)
            for key in [key for key in self._open if key[0] != generation]:
                self._open.pop(key).close()
        return self._life

    def close_lane(self, granted: Granted) -> None:
        """See `TransactionalOutlet.close_lane`."""
        lane = self._open.pop((granted.generation, granted.claim.lane), None)
        if lane is None:
            return
        lane.close()
        if lane.stuck:  # or each of them would have to be found out by itself
            for other in self._open.values():
                other.close()
            self._open.clear()

    def check_topic(self, granted: Granted) -> None:
        """See `TransactionalOutlet.check_topic`. Asks Kafka once a second at most."""
        if time.monotonic() - self._checked_at < TOPIC_CHECK_S:
            return
        self._kafka.check(self._life_in(granted.generation).progress)
        self._checked_at = time.monotonic()

    def letter_topic(self) -> str:
        """See `TransactionalOutlet.letter_topic`."""
        assert self.dead_letters is not None
        self.dead_letters.describe()
        return self.dead_letters.topic

    def messages_after(self, batch: Batch, layout: Layout, after: Cursor) -> Iterator[Outgoing | Unfit]:
        """See `TransactionalOutlet.messages_after`."""
        return self._messages((event for event in events(batch) if cursor_of(event) > after), layout)

    def cursor_of(self, batch: Batch, origin: Origin) -> Cursor:
        """See `TransactionalOutlet.cursor_of`."""
        return next(
            cursor_of(event)
            for event in events(batch)
            if (event.id.string, event.commit_position) == (origin.record_id, origin.position)
        )

    def discard(self) -> None:
        """Close what has not committed (R5): the brokers abort it when the lane is opened again, or after a minute."""
        for key in [key for key, lane in self._open.items() if lane.in_transaction]:
            self._open.pop(key).close()
        super().discard()

    def close(self) -> None:
        """Close the producers; nothing may be used then."""
        for lane in self._open.values():
            lane.close()
        self._open.clear()
        super().close()
