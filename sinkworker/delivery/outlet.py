"""A connector's settings made ready for producing: topic, keys, headers, and the producer that goes with them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.connectors.settings import SinkSettings
from sinkworker.delivery.messages import MessageBuilder
from sinkworker.delivery.producer import LaneProducer, Outgoing
from sinkworker.errors import KafkaUnavailable, Misconfigured
from sinkworker.ledger import payload
from sinkworker.ledger.contract import Batch
from sinkworker.model import Layout, SettingsId
from sinkworker.topics import Topic, describe_topic

log = logging.getLogger(__name__)

_ReadResp = streams_pb2.ReadResp


REMEMBERED_S = 4.0
"""How long an outlet believes that Kafka is away: less than the lanes rest at most. To find it out takes seconds, in
which the worker does nothing for other connectors."""


class KafkaOutlet:
    """What a worker process keeps for one connector and its present settings."""

    def __init__(
        self,
        connector_id: str,
        settings: SinkSettings,
        options: Mapping[str, Any],
        in_flight: int,
        answer_timeout_s: float,
        timed: Callable[[float, int], None],
    ) -> None:
        self.in_flight_batches = 1 if settings.wait_for_broker_ack else in_flight
        self.failures = 0
        self._topic = settings.topic
        self._options = options
        self._builder = MessageBuilder(connector_id, settings, timed)
        self._producer: LaneProducer | None = None
        self._answer_timeout_s = answer_timeout_s
        self._away: KafkaUnavailable | None = None
        self._away_until_s = 0.0

    @property
    def producer(self) -> LaneProducer:
        """The long-lived producer. Raises KafkaUnavailable or Misconfigured when the topic cannot be described."""
        if self._producer is None:
            self._producer = LaneProducer(self._topic, self._options, self._described().max_message_bytes)
        return self._producer

    def _described(self) -> Topic:
        if self._away is not None and time.monotonic() < self._away_until_s:
            raise KafkaUnavailable(self._away.message, hint=self._away.hint)
        try:
            return describe_topic(self._topic, self._options, self._answer_timeout_s)
        except KafkaUnavailable as exc:
            self._away, self._away_until_s = exc, time.monotonic() + REMEMBERED_S
            raise

    def discard(self) -> None:
        """Purge and close the producer; the next use makes a new one (R5)."""
        if (producer := self._taken()) is not None:
            producer.abandon()

    def close(self) -> None:
        """Close the producer once all is confirmed; what is not after a moment is purged. Nothing may be used then."""
        self._builder.close()
        if (producer := self._taken()) is not None:
            producer.close()

    def _taken(self) -> LaneProducer | None:
        """The producer, which nobody will use again whatever closing it comes to."""
        producer, self._producer = self._producer, None
        return producer

    def messages(self, batch: Batch, layout: Layout) -> Iterator[Outgoing]:
        """See `MessageBuilder.messages`. Raises Misconfigured for a payload of another release, too."""
        return self._builder.messages(_events(batch), layout)


def _events(batch: Batch) -> Iterator[Any]:
    try:
        for raw in payload.unpack(batch.payload):
            yield _ReadResp.FromString(raw).event.event
    except (ValueError, DecodeError) as exc:
        raise Misconfigured(
            f"A batch cannot be read: {exc}.", hint="Every process must run the same release of sinkworker."
        ) from exc


class Outlets:
    """The outlets of a worker process, one for each connector: that of other settings replaces it."""

    def __init__(
        self,
        settings_of: Callable[[str, SettingsId], SinkSettings],
        in_flight: int,
        default_servers: str,
        answer_timeout_s: float,
        timed: Callable[[str, float, int], None] = lambda _connector, _seconds, _records: None,
    ) -> None:
        """`answer_timeout_s`: how long brokers may take to describe a topic, meanwhile nobody renews a claim.

        `timed`: told of transformed records by connector, as `Transformer` tells it.
        """
        self._settings_of = settings_of
        self._in_flight = in_flight
        self._default_servers = default_servers
        self._answer_timeout_s = answer_timeout_s
        self._timed = timed
        self._outlets: dict[str, tuple[SettingsId, KafkaOutlet]] = {}

    def get(self, connector_id: str, settings_id: SettingsId) -> KafkaOutlet:
        """The outlet for exactly these settings. Raises Stale when the connector runs with others by now."""
        held = self._outlets.get(connector_id)
        if held is not None and held[0] == settings_id:
            return held[1]
        settings = self._settings_of(connector_id, settings_id)
        if held is not None:
            held[1].close()
        options = settings.producer_options(connector_id, self._default_servers)
        outlet = KafkaOutlet(
            connector_id, settings, options, self._in_flight, self._answer_timeout_s, partial(self._timed, connector_id)
        )
        self._outlets[connector_id] = (settings_id, outlet)
        return outlet

    def close(self) -> None:
        for _, outlet in self._outlets.values():
            outlet.close()
        self._outlets.clear()
