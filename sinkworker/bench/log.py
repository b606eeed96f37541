"""The log that every contestant reads: a marker, the events, a marker, one record to warm up with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from kurrentdbclient import NewEvent

from sinkworker.bench.events import Orders, per_partition
from sinkworker.config import Secret
from sinkworker.database import Database
from sinkworker.demo.judge import Verdict, compare
from sinkworker.demo.loans import Append
from sinkworker.demo.topic import Consumed, read
from sinkworker.model import Position, Revision

MARKERS = "bench-markers"


@dataclass(frozen=True, slots=True)
class Written:
    """An event of the log, as far as its delivery is judged."""

    id: UUID
    stream: str
    data: bytes

    def differs(self, message: Consumed) -> bool:
        """Whether the message has another key or another body."""
        return message.value != self.data or message.key != self.stream.encode()


class Log:
    """Written once by `write`; every contestant begins at its two positions."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._appends: list[Append] = []
        self._markers = 0
        self._warm_ups = Orders(1, "warm-up-")
        self._warm_up_ids: set[str] = set()

    def write(self, events: int, streams: int, written: Callable[[int], None]) -> None:
        """Append everything; `written` hears after each append how many events there are. Raises what Database does."""
        self.before_events = self._mark()
        count = 0
        for append in Orders(streams).appends(events):
            self.database.append(append.stream, append.after, append.events)
            self._appends.append(append)
            written(count := count + len(append.events))
        self.before_warm_up = self.warm_up()

    def warm_up(self) -> Position:
        """Append one more record to warm up with; answer the position before it."""
        before = self._mark()
        warm_up = self._warm_ups.next()
        self.database.append(warm_up.stream, warm_up.after, warm_up.events)
        self._warm_up_ids.update(str(event.id) for event in warm_up.events)
        return before

    def per_partition(self, partitions: int) -> dict[int, int]:
        """How many of the events each partition of a topic gets."""
        return per_partition(self._appends, partitions)

    def judge(self, servers: str, topic: str, meanwhile: Callable[[], None]) -> Verdict:
        """What is wrong with the topic, read from beginning to end; the warm-up's records are no part of it.

        Raises Unavailable, and what `meanwhile` raises, which is called again and again.
        """

        def messages() -> Iterator[Consumed]:
            for number, message in enumerate(read(servers, topic)):
                if number % 1000 == 0:
                    meanwhile()
                if message.record_id not in self._warm_up_ids:
                    yield message

        return compare(list(self._events()), messages(), Written.differs)

    def _events(self) -> Iterator[Written]:
        for append in self._appends:
            for event in append.events:
                yield Written(event.id, append.stream, event.data)

    def _mark(self) -> Position:
        """A record that no contestant's filter lets through, so that any reader may begin right after it."""
        after = Revision(self._markers - 1) if self._markers else None
        self._markers += 1
        return self.database.append(MARKERS, after, [NewEvent(type="Marker", data=b"{}")])


def connect(uri: str) -> Log:
    """The log of the database at this address, not yet written."""
    return Log(Database(Secret(uri)))
