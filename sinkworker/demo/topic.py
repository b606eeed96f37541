"""A Kafka topic seen from outside: created, measured and read by clients that share nothing with the workers'."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]  # it has no __all__

from sinkworker.errors import Unavailable

TIMEOUT_S = 5.0
READ_PATIENCE_S = 30.0
_LOG = logging.getLogger("sinkworker.librdkafka")


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


class Topic:
    """One topic of a broker. Every call raises Unavailable when the broker does not answer."""

    def __init__(self, servers: str, name: str, partitions: int) -> None:
        self.servers = servers
        self.name = name
        self._partitions = partitions
        self._admin = AdminClient({"bootstrap.servers": servers}, logger=_LOG)

    def create(self) -> None:
        """Make it. That it exists already is taken for the effect of an earlier try."""
        (created,) = self._admin.create_topics([NewTopic(self.name, self._partitions)]).values()
        try:
            created.result(TIMEOUT_S)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Unavailable(f"Kafka at {self.servers} made no topic: {exc.args[0].str()}.") from exc

    def count(self) -> int:
        """How many messages there are in it."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        ends = {TopicPartition(self.name, number): latest for number in range(self._partitions)}
        try:
            asked = self._admin.list_offsets(ends, request_timeout=TIMEOUT_S)
            return sum(found.result(TIMEOUT_S).offset for found in asked.values())
        except KafkaException as exc:
            raise Unavailable(f"Kafka at {self.servers} does not answer: {exc.args[0].str()}.") from exc


def consume(servers: str, topic: str) -> list[Consumed]:
    """Everything in the topic, each partition from its first record to the end that it has now. Raises Unavailable."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "independent-reader", "enable.auto.commit": False}, logger=_LOG
    )
    try:
        return _read_to_end(consumer, topic)
    except KafkaException as exc:
        raise Unavailable(f"The topic {topic} cannot be read: {exc.args[0].str()}.") from exc
    finally:
        consumer.close()


def _read_to_end(consumer: Consumer, topic: str) -> list[Consumed]:
    found = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
    partitions = [TopicPartition(topic, number, 0) for number in found.partitions]
    ends = {each.partition: consumer.get_watermark_offsets(each, timeout=TIMEOUT_S)[1] for each in partitions}
    consumer.assign(partitions)
    messages: list[Consumed] = []
    unread = {number for number, end in ends.items() if end > 0}
    deadline = time.monotonic() + READ_PATIENCE_S
    while unread:
        if time.monotonic() > deadline:
            raise Unavailable(f"The topic {topic} was not read to its end: partitions {sorted(unread)} are open.")
        for message in consumer.consume(1000, timeout=0.1):
            if (error := message.error()) is not None:
                raise KafkaException(error)
            number, offset = message.partition(), message.offset()
            assert number is not None
            assert offset is not None
            key, value = message.key(), message.value()
            assert not isinstance(key, str)
            assert not isinstance(value, str)
            pairs = cast(list[tuple[str, object]], message.headers() or [])
            headers = {name: text for name, text in pairs if isinstance(text, bytes)}
            messages.append(Consumed(number, key, value, headers))
            if offset + 1 >= ends[number]:
                unread.discard(number)
    return messages
