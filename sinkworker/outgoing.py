"""What a record becomes on its way to Kafka, and what Kafka may say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import KafkaError, Producer

from sinkworker.errors import Undeliverable
from sinkworker.model import LaneNumber, Place

_UNASSIGNED = -1

_PERMANENT = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
    }
)
"""Answers that trying again does not change."""

_RECORD_AT_FAULT = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
    }
)
"""Those of them that another record would not get: the others are about the topic or the user."""

_REFUSED_CONNECTIONS = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL})

REFUSALS = 2
"""So many refused connections one after the other are no chance: brokers that end in the middle of the handshake have
it fail as well, and the next attempt finds nobody."""


def refuses(error: KafkaError) -> bool:
    """Whether a broker has refused the connection, and did not just break off while it was made."""
    return error.code() in _REFUSED_CONNECTIONS and "transport failure" not in error.str()


class Link:
    """What a client's connections have met since Kafka last confirmed something."""

    def __init__(self) -> None:
        self.trouble: KafkaError | None = None
        """The last error, or the refusal that shuts it out: what it is waiting for."""
        self._refusals = 0

    def fails(self, error: KafkaError) -> None:
        """The client library reports an error."""
        self._refusals += refuses(error)
        if refuses(error) or not self.shut_out:
            self.trouble = error

    def heard(self) -> None:
        """Kafka has confirmed something."""
        self.trouble = None
        self._refusals = 0

    @property
    def shut_out(self) -> bool:
        """The brokers refuse the connection itself: waiting does not help."""
        return self._refusals >= REFUSALS


class Origin(NamedTuple):
    """What a record is called by, whatever a transformation makes of it."""

    record_id: str
    stream: str
    type: str
    position: int


class Outgoing(NamedTuple):
    """One Kafka message to be, and where its record stands in the log. A tuple, since one is made for every record."""

    record_id: str
    stream: str
    type: str
    position: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    created_s: float
    """When its event was created, in seconds since 1970."""
    topic: str
    partition: int
    """Where librdkafka's partitioner puts a keyed record; where an unkeyed one is put explicitly."""

    @property
    def origin(self) -> Origin:
        return Origin(self.record_id, self.stream, self.type, self.position)

    @property
    def place(self) -> Place:
        return self.position, self.record_id


class Unfit(NamedTuple):
    """A record that no message can be made of, where such records are put aside."""

    origin: Origin
    reason: Undeliverable

    @property
    def place(self) -> Place:
        return self.origin.position, self.origin.record_id


@dataclass(frozen=True, slots=True)
class Refusal:
    """Kafka, or the client library on its behalf, did not take a record."""

    lane: LaneNumber
    record: Outgoing
    error: KafkaError

    @property
    def permanent(self) -> bool:
        return self.error.code() in _PERMANENT

    @property
    def blames_record(self) -> bool:
        """Whether it is this record that cannot be delivered, where it went alone."""
        return self.error.code() in _RECORD_AT_FAULT

    def __str__(self) -> str:
        record = self.record
        return (
            f"Kafka refuses record {record.record_id} of stream {record.stream!r} (type {record.type!r}, position "
            f"{record.position}) for topic {record.topic!r}: {self.error.str()} ({self.error.name()})."
        )


def produce(producer: Producer, record: Outgoing, on_delivery: Callable[..., None]) -> None:
    """Hand a record to the client library. Raises BufferError where its queue is full, KafkaException for a refusal."""
    producer.produce(
        record.topic,
        value=record.value,
        key=record.key,
        # A keyed record's partition is librdkafka's to choose, as with the original (contract §2.2).
        partition=record.partition if record.key is None else _UNASSIGNED,
        headers=record.headers,  # type: ignore[arg-type]  # lists are invariant: these are bytes, not any
        on_delivery=on_delivery,
    )


def batch_limits(smallest: int, largest: int) -> dict[str, int]:
    """The options for topics that take messages of at most so many bytes."""
    return {
        # R7: Kafka refuses whole requests; a request stays within what every topic takes.
        "batch.size": min(1_000_000, smallest),
        # The broker judges the compressed size, so the client must not judge the plain one more strictly.
        "message.max.bytes": min(1_000_000_000, max(1_000_000, largest * 10)),
    }
