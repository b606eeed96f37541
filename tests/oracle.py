"""The one judge of every run of real processes: the log on one side, what Kafka holds on the other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition
from kurrentdbclient import RecordedEvent


@dataclass(frozen=True, slots=True)
class Consumed:
    """One Kafka message, as an independent consumer got it."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def record_id(self) -> str:
        return self.headers["esdb-record-id"].decode()

    @property
    def position(self) -> int:
        return int(self.headers["esdb-record-log-position"])


@dataclass(slots=True)
class Verdict:
    """What is wrong with a topic. Duplicates are allowed or not by the test; nothing else ever is."""

    duplicates: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.missing or self.unexpected or self.out_of_order or self.altered)

    def __str__(self) -> str:
        faults = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "out of order": self.out_of_order,
            "altered": self.altered,
        }
        told = [f"{len(found)} {name} (first: {found[:3]})" for name, found in faults.items() if found]
        return "; ".join([*told, f"{self.duplicates} duplicates"])


def judge(log: Sequence[RecordedEvent], messages: Iterable[Consumed]) -> Verdict:
    """P1: every event is there, unaltered. P2: first occurrences within a partition are in the order of the log."""
    verdict = Verdict()
    by_id = {str(event.id): event for event in log}
    seen: Counter[str] = Counter()
    furthest: dict[int, int] = {}
    for message in messages:
        record_id = message.record_id
        seen[record_id] += 1
        event = by_id.get(record_id)
        if event is None:
            verdict.unexpected.append(record_id)
            continue
        if message.value != event.data or message.position != event.commit_position:
            verdict.altered.append(record_id)
        if seen[record_id] == 1:
            if message.position < furthest.get(message.partition, -1):
                verdict.out_of_order.append(record_id)
            furthest[message.partition] = message.position
    verdict.duplicates = sum(seen.values()) - len(seen)
    verdict.missing = [record_id for record_id in by_id if record_id not in seen]
    return verdict


def consume(servers: str, topic: str) -> list[Consumed]:
    """Everything in the topic, each partition from its first record to the end that it has now."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "oracle", "enable.auto.commit": False})
    try:
        partitions = [
            TopicPartition(topic, number, 0)
            for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        ends = {each.partition: consumer.get_watermark_offsets(each, timeout=10)[1] for each in partitions}
        consumer.assign(partitions)
        messages: list[Consumed] = []
        open_ends = {number for number, end in ends.items() if end > 0}
        deadline = time.monotonic() + 30
        while open_ends:
            assert time.monotonic() < deadline, f"partitions {sorted(open_ends)} of {topic} did not come to their end"
            for message in consumer.consume(1000, timeout=0.1):
                if (error := message.error()) is not None:
                    raise KafkaException(error)
                number, offset = message.partition(), message.offset()
                assert number is not None
                assert offset is not None
                headers = {name: value for name, value in message.headers() or [] if isinstance(value, bytes)}
                key = message.key()
                value = message.value()
                assert not isinstance(key, str)
                assert not isinstance(value, str)
                messages.append(Consumed(number, key, value, headers))
                if offset + 1 >= ends[number]:
                    open_ends.discard(number)
        return messages
    finally:
        consumer.close()
