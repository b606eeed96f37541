"""What a scheduler does about the marks of lanes, at the beginning of an epoch and between generations."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sinkworker.connectors.lifecycle import ProgressPlace
from sinkworker.errors import KafkaUnavailable, Stale
from sinkworker.exactly_once.marks import Lineage, Mark, lost, undrained
from sinkworker.exactly_once.transactions import ANSWER_S, AT_ONCE, LaneTransactions, TransactionalKafka
from sinkworker.model import Cursor, LaneNumber


class Guard:
    """The marks of all lanes of one generation.

    Every method raises KafkaUnavailable without an answer, Broken where another process fenced this one, and
    Misconfigured for what Kafka refuses.
    """

    def __init__(self, kafka: TransactionalKafka, lineage: Lineage, lanes: int, place: ProgressPlace) -> None:
        self._kafka = kafka
        self._names = {LaneNumber(lane): lineage.name(LaneNumber(lane)) for lane in range(lanes)}
        self._place = place

    def read(self) -> dict[LaneNumber, Mark | None]:
        """What Kafka remembers of each lane, nobody fenced. Raises Misconfigured where the topic is another one."""
        self._kafka.check(self._place)
        return self._kafka.marks(self._names, self._place.topic)

    def begin(self, start: Cursor) -> None:
        """Mark every lane as delivered up to the generation's start: from then on a missing mark is a lost one (X5)."""
        with self._opened(list(self._names)) as lanes:
            _commit(lanes, {number: Mark(start) for number in lanes})

    def fence(self, timeout_s: float) -> dict[LaneNumber, Cursor]:
        """How far each lane is in Kafka, where nobody can commit any more what he has in hand.

        Raises Misconfigured where a mark is lost.
        """
        with self._opened(list(self._names), timeout_s) as lanes:
            return {number: _known(number, lane.mark).cursor for number, lane in lanes.items()}

    def close(self, checkpoint: Cursor | None) -> None:
        """Have nobody deliver in this generation any more (X4).

        Raises Misconfigured where a lane is ahead of the checkpoint that the next generation begins at; None for one
        that a person has named.
        """
        with self._opened(list(self._names)) as lanes:
            reached = {number: lane.mark.cursor if lane.mark else Cursor.BEGINNING for number, lane in lanes.items()}
            if checkpoint is not None and any(cursor > checkpoint for cursor in reached.values()):
                raise undrained()
            _commit(lanes, {number: Mark(cursor, closed=True) for number, cursor in reached.items()})

    def restore(self, marks: Mapping[LaneNumber, Cursor], still_ours: Callable[[], bool]) -> None:
        """Mark these lanes so. `still_ours`: whether the epoch is current, asked once everybody else is fenced.

        Raises Stale where it is not: a newer epoch may have closed the generation.
        """
        with self._opened(list(marks)) as lanes:
            if not still_ours():
                raise Stale("Another epoch has begun.")
            _commit(lanes, {number: Mark(cursor) for number, cursor in marks.items()})

    @contextlib.contextmanager
    def _opened(
        self, numbers: Sequence[LaneNumber], timeout_s: float = ANSWER_S
    ) -> Iterator[dict[LaneNumber, LaneTransactions]]:
        """The lanes, everybody else fenced."""
        lanes = {number: self._kafka.lane(self._names[number], number, self._place.topic) for number in numbers}
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda lane: lane.open(timeout_s), lanes.values()))
            yield lanes
        finally:
            for lane in lanes.values():
                lane.close()


def _known(lane: LaneNumber, mark: Mark | None) -> Mark:
    if mark is None:
        raise lost(lane)
    return mark


def _commit(lanes: Mapping[LaneNumber, LaneTransactions], marks: Mapping[LaneNumber, Mark]) -> None:
    for number, lane in lanes.items():
        deadline = time.monotonic() + ANSWER_S  # each meets its group's coordinator for the first time
        lane.begin()
        while not lane.commit(marks[number]):
            if time.monotonic() > deadline:
                raise KafkaUnavailable("Kafka does not commit the lanes' progress in time.")
