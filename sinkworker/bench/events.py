"""Pure: the events that every contestant delivers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import orjson
from kurrentdbclient import NewEvent

from sinkworker.demo.loans import LARGEST_APPEND, Append
from sinkworker.keys import partition_of
from sinkworker.model import Revision

CATEGORY = "BenchOrder-"
"""What every contestant's filter lets through."""
BODY_BYTES = 250
WORDS = ("amber", "basalt", "cedar", "drift", "ember", "flint", "grove", "harbour", "iris", "juniper", "kelp", "larch")


class Orders:
    """Events of so many streams, which take turns; the same again each time, but for the ids."""

    def __init__(self, streams: int, name: str = "") -> None:
        """`name` tells these streams from other orders' in the same log."""
        self._streams = [f"{CATEGORY}{name}{number:06d}" for number in range(streams)]
        self._sizes = [0] * streams
        self._turn = 0
        self._told = 0
        self._random = random.Random(1)  # noqa: S311  # made-up words, no secrets

    def appends(self, events: int) -> Iterator[Append]:
        """So many events, each stream's as evenly as may be, at most `LARGEST_APPEND` of one in a row."""
        size = max(1, min(LARGEST_APPEND, events // len(self._streams)))
        left = events
        while left:
            yield self.next(min(size, left))
            left -= min(size, left)

    def next(self, size: int = 1) -> Append:
        """So many events of the stream whose turn it is."""
        turn, self._turn = self._turn, (self._turn + 1) % len(self._streams)
        told = self._sizes[turn]
        self._sizes[turn] += size
        stream = self._streams[turn]
        events = tuple(self._event(stream) for _ in range(size))
        return Append(stream, Revision(told - 1) if told else None, events)

    def _event(self, stream: str) -> NewEvent:
        self._told += 1
        body = {"orderId": stream, "number": self._told, "amount": self._random.randrange(100, 99_999) / 100}
        note = " ".join(self._random.choices(WORDS, k=BODY_BYTES // 4))
        room = BODY_BYTES - len(orjson.dumps({**body, "note": ""}))
        return NewEvent(type="OrderPlaced", data=orjson.dumps({**body, "note": note[:room]}), metadata=b"")


def per_partition(written: Iterable[Append], partitions: int) -> dict[int, int]:
    """How many of the events each partition of a topic gets; partitions that get none are left out."""
    counts: dict[int, int] = {}
    for append in written:
        partition = partition_of(append.stream.encode(), "", partitions)
        counts[partition] = counts.get(partition, 0) + len(append.events)
    return counts
