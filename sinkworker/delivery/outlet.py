"""A connector's settings made ready for producing: topic, keys, headers, and the producer that goes with them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.connectors.settings import SinkSettings
from sinkworker.delivery.headers import HeaderBuilder, now
from sinkworker.delivery.producer import LaneProducer, Outgoing
from sinkworker.errors import Misconfigured, Stale, Undeliverable
from sinkworker.keys import KeyExtractor, partition_of
from sinkworker.ledger import payload
from sinkworker.ledger.contract import Batch
from sinkworker.model import Layout, Revision
from sinkworker.topics import describe_topic

log = logging.getLogger(__name__)

_RecordedEvent = streams_pb2.ReadResp.ReadEvent.RecordedEvent


class KafkaOutlet:
    """What a worker process keeps for one connector and one revision of its settings."""

    def __init__(self, connector_id: str, settings: SinkSettings, options: Mapping[str, Any], in_flight: int) -> None:
        self.in_flight_batches = 1 if settings.wait_for_broker_ack else in_flight
        self.failures = 0
        self._topic = settings.topic
        self._options = options
        self._key = KeyExtractor(settings.key).key
        self._headers = HeaderBuilder(connector_id, settings).build
        self._producer: LaneProducer | None = None

    @property
    def producer(self) -> LaneProducer:
        """The long-lived producer. Raises Unavailable or Misconfigured when the topic cannot be described."""
        if self._producer is None:
            topic = describe_topic(self._topic, self._options)
            self._producer = LaneProducer(self._topic, self._options, topic.max_message_bytes)
        return self._producer

    def discard(self) -> None:
        """Purge and close the producer; the next use makes a new one (R5)."""
        if (producer := self._taken()) is not None:
            producer.abandon()

    def close(self) -> None:
        """Close the producer once all is confirmed; what is not after a moment is purged."""
        if (producer := self._taken()) is not None:
            producer.close()

    def _taken(self) -> LaneProducer | None:
        """The producer, which nobody will use again whatever closing it comes to."""
        producer, self._producer = self._producer, None
        return producer

    def messages(self, batch: Batch, layout: Layout) -> Iterator[Outgoing]:
        """The batch's records as Kafka messages, in order, byte-exact values (contract §4, §5).

        Raises Undeliverable for one that cannot be built, Misconfigured for a payload of another release.
        """
        date = now()
        for event in _events(batch):
            try:
                message = self._message(event, layout, date)
            except Undeliverable:
                raise
            except Exception as exc:
                raise Undeliverable(
                    f"Record {event.id.string} at position {event.commit_position} cannot be made a Kafka message: "
                    f"{type(exc).__name__}: {exc}.",
                    code="record-unbuildable",
                ) from exc
            yield message

    def _message(self, event: Any, layout: Layout, date: bytes) -> Outgoing:
        stream = event.stream_identifier.stream_name.decode()
        key_text = self._key(stream, event.custom_metadata)
        key = None if key_text is None else key_text.encode()
        record_id = event.id.string
        return Outgoing(
            record_id=record_id,
            stream=stream,
            type=event.metadata["type"],
            position=event.commit_position,
            key=key,
            value=event.data,
            headers=self._headers(event, date),
            partition=partition_of(key, record_id, layout.partitions),
        )


def _events(batch: Batch) -> Iterator[Any]:
    try:
        for raw in payload.unpack(batch.payload):
            yield _RecordedEvent.FromString(bytes(raw))
    except (ValueError, DecodeError) as exc:
        raise Misconfigured(
            f"A batch cannot be read: {exc}.", hint="Every process must run the same release of sinkworker."
        ) from exc


class Outlets:
    """The outlets of a worker process, one for each connector: a newer revision of its settings replaces the old."""

    def __init__(
        self, settings_at: Callable[[str, Revision], SinkSettings], in_flight: int, default_servers: str
    ) -> None:
        self._settings_at = settings_at
        self._in_flight = in_flight
        self._default_servers = default_servers
        self._outlets: dict[str, tuple[Revision, KafkaOutlet]] = {}

    def get(self, connector_id: str, revision: Revision) -> KafkaOutlet:
        """The outlet for exactly this revision. Raises Stale when the connector has gone on to another one."""
        held = self._outlets.get(connector_id)
        if held is not None and held[0] == revision:
            return held[1]
        if held is not None and held[0] > revision:
            raise Stale(f"The settings of connector {connector_id} have changed.")
        settings = self._settings_at(connector_id, revision)
        if held is not None:
            held[1].close()
        options = settings.producer_options(connector_id, self._default_servers)
        outlet = KafkaOutlet(connector_id, settings, options, self._in_flight)
        self._outlets[connector_id] = (revision, outlet)
        return outlet

    def close(self) -> None:
        for _, outlet in self._outlets.values():
            outlet.close()
        self._outlets.clear()
