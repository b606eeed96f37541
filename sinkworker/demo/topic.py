"""A Kafka topic seen from outside: created, counted and read by clients that share nothing with the workers'."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it has no __all__

from sinkworker.errors import Unavailable

TIMEOUT_S = 5.0
READ_PATIENCE_S = 30.0
"""So long without a record and without the end of a partition, and reading is given up."""
FETCHED_AT_ONCE = 1000
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


def create(servers: str, name: str, partitions: int) -> None:
    """Make the topic. That it exists already is taken for the effect of an earlier try. Raises Unavailable."""
    admin = AdminClient({"bootstrap.servers": servers}, logger=_LOG)
    (created,) = admin.create_topics([NewTopic(name, partitions)]).values()
    try:
        created.result(TIMEOUT_S)
    except KafkaException as exc:
        if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise Unavailable(f"Kafka at {servers} made no topic: {exc.args[0].str()}.") from exc
    except TimeoutError as exc:
        raise Unavailable(f"Kafka at {servers} does not answer.") from exc


def delete(servers: str, name: str) -> None:
    """Delete the topic, as far as the brokers let."""
    admin = AdminClient({"bootstrap.servers": servers}, logger=_LOG)
    (deleted,) = admin.delete_topics([name]).values()
    with contextlib.suppress(KafkaException, TimeoutError):
        deleted.result(TIMEOUT_S)


class Counter:
    """Counts a topic's messages as they come in."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self._consumer = _consumer(servers)
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        self._count = 0

    def count(self) -> int:
        """How many there have been so far."""
        full = True
        while full:
            fetched = self._consumer.consume(FETCHED_AT_ONCE, timeout=0.05)
            self._count += sum(message.error() is None for message in fetched)
            full = len(fetched) == FETCHED_AT_ONCE
        return self._count


def consume(servers: str, topic: str) -> list[Consumed]:
    """All that `read` gives, at once."""
    return list(read(servers, topic))


def read(servers: str, topic: str) -> Iterator[Consumed]:
    """Everything in the topic, each partition from its first record to its present end. Raises Unavailable.

    The end is where a fetch finds nothing more. The embedded broker's answer to the direct question, ListOffsets, can
    be too low for good once two producers have written to a partition at the same time.
    """
    consumer = _consumer(servers)
    try:
        yield from _read_to_end(consumer, topic)
    except KafkaException as exc:
        raise Unavailable(f"The topic {topic} cannot be read: {exc.args[0].str()}.") from exc
    finally:
        consumer.close()


def _consumer(servers: str) -> Consumer:
    options = {"bootstrap.servers": servers, "group.id": "independent", "enable.auto.commit": False}
    return Consumer({**options, "enable.partition.eof": True}, logger=_LOG)


def _read_to_end(consumer: Consumer, topic: str) -> Iterator[Consumed]:
    unread = set(consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, number, 0) for number in unread])
    deadline = time.monotonic() + READ_PATIENCE_S
    while unread:
        if time.monotonic() > deadline:
            raise Unavailable(f"The topic {topic} was not read to its end: partitions {sorted(unread)} are open.")
        for message in consumer.consume(FETCHED_AT_ONCE, timeout=0.1):
            number, error = message.partition(), message.error()
            assert number is not None
            if error is None:
                deadline = time.monotonic() + READ_PATIENCE_S
                yield consumed(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(number)
            else:
                raise KafkaException(error)


def consumed(message: Message) -> Consumed:
    """The message as the judge takes it."""
    number, key, value = message.partition(), message.key(), message.value()
    assert number is not None
    assert not isinstance(key, str)
    assert not isinstance(value, str)
    pairs = cast(list[tuple[str, object]], message.headers() or [])
    return Consumed(number, key, value, {name: text for name, text in pairs if isinstance(text, bytes)})
