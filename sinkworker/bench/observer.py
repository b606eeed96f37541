"""A topic seen from outside: when its first and its last record can be read, at next to no cost.

A consumer that reads everything would take CPU from the contestants: 3 µs a record, an eighth of what sinkworker costs.
This one waits at an offset: at each partition's end for the first record, and then where the last record will be, whose
offset is known as long as nothing comes twice. (The embedded broker cannot be asked for a partition's end: its answer
to ListOffsets is too low, by a few percent, for as long as records keep coming, and at times for good.)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, Message, TopicPartition

from sinkworker.errors import Unavailable

POLL_S = 0.05
FETCH_WAIT_MS = 20
"""What the broker may hold a fetch back that finds nothing: how late, at most, a last record is noticed.

At this pace the fetches cost the broker some 4% of a core, the same for all contestants; it is in its figures.
"""
MANY = 1000
PATIENCE_S = 60.0
"""So long without any record, and a run is given up."""
_LOG = logging.getLogger("sinkworker.librdkafka")


class Observer:
    """Sees one topic grow that is new and empty."""

    def __init__(self, servers: str, topic: str, partitions: int, meanwhile: Callable[[], None]) -> None:
        """`meanwhile` is called several times a second."""
        self._topic = topic
        self._ends = dict.fromkeys(range(partitions), 0)
        self._meanwhile = meanwhile
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "bench",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
            },
            logger=_LOG,
        )
        self._wait_at(self._ends)

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def next(self) -> tuple[float, Message]:
        """The next record of any partition, and when it was seen (monotonic). Raises Unavailable when none comes."""
        deadline = time.monotonic() + PATIENCE_S
        while (message := self._consumer.poll(POLL_S)) is None or message.error() is not None:
            if message is not None and (error := message.error()) is not None and not error.retriable():
                raise Unavailable(f"The topic {self._topic} cannot be watched: {error.str()}.")
            self._meanwhile()
            if time.monotonic() > deadline:
                raise Unavailable(f"Nothing came to the topic {self._topic} for {PATIENCE_S:g} s.")
        seen_at = time.monotonic()
        partition, offset = _place(message)
        self._ends[partition] = offset + 1
        return seen_at, message

    def last_of(self, counts: Mapping[int, int]) -> dict[int, int]:
        """Where the last will be of so many records in each partition that come after those seen by now."""
        return {partition: self._ends[partition] + count - 1 for partition, count in counts.items()}

    def all_at(self, offsets: Mapping[int, int]) -> float:
        """When there was a record at each of these places (monotonic). It sees none that is before them any more."""
        awaited = dict(offsets)
        self._wait_at(awaited)
        seen_at = 0.0
        while awaited:
            seen_at, message = self.next()
            partition, offset = _place(message)
            if offset >= awaited.get(partition, offset + 1):
                del awaited[partition]
        return seen_at

    def all_of(self, counts: Mapping[int, int], first: Message) -> float:
        """When so many records had been seen in each partition (monotonic), `first` among them; it takes each in.

        For brokers where no offset can be awaited that is not there yet, and where transactions have offsets, too.
        """
        left = {partition: count for partition, count in counts.items() if count}
        seen_at, messages = time.monotonic(), [first]
        deadline = seen_at + PATIENCE_S
        while True:
            for message in messages:
                if message.error() is None:
                    partition, _ = _place(message)
                    left[partition] = left.get(partition, 0) - 1
            if messages:
                seen_at = time.monotonic()
                deadline = seen_at + PATIENCE_S
            if all(count <= 0 for count in left.values()):
                return seen_at
            if time.monotonic() > deadline:
                raise Unavailable(f"Nothing came to the topic {self._topic} for {PATIENCE_S:g} s.")
            self._meanwhile()
            messages = self._consumer.consume(MANY, POLL_S)

    def _wait_at(self, offsets: Mapping[int, int]) -> None:
        self._consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in offsets.items()])


def _place(message: Message) -> tuple[int, int]:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset
