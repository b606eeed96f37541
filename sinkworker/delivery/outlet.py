"""A connector's settings made ready for producing: topic, keys, headers, and the producer that goes with them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.connectors.settings import SinkSettings
from sinkworker.delivery.dead_letters import DeadLetters
from sinkworker.delivery.deliver import Delivery, Work
from sinkworker.delivery.idempotent import IdempotentWork
from sinkworker.delivery.messages import MessageBuilder, cursor_of, origin_of
from sinkworker.delivery.producer import LaneProducer
from sinkworker.errors import KafkaUnavailable, Misconfigured, SinkworkerError, Undeliverable
from sinkworker.ledger import payload
from sinkworker.ledger.contract import Batch
from sinkworker.model import Cursor, Layout, SettingsId
from sinkworker.outgoing import Origin, Outgoing, Unfit
from sinkworker.topics import Brokers, Topic

log = logging.getLogger(__name__)

_ReadResp = streams_pb2.ReadResp
_Answer = TypeVar("_Answer")


MOST_TOPICS = 1000
"""So many topics of a template are remembered, here and by a producer (P6)."""

UNUSED_S = 60.0
"""After so long without work a connector is asked about: whether what is kept for it will be used again."""

ASKED_EVERY_S = 1.0
"""How often, at most. Each time it is one that is asked about, since the worker waits for the answer."""

REMEMBERED_S = 4.0
"""How long an outlet believes that Kafka is away: less than the lanes rest at most. To find it out takes seconds, in
which the worker does nothing for other connectors."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What an outlet is made for."""

    connector_id: str
    settings: SinkSettings
    options: Mapping[str, Any]
    """The producer's."""
    in_flight: int
    """Batches of a lane, unless the settings have one wait for the other."""
    answer_timeout_s: float
    """How long brokers may take to describe a topic."""
    timed: Callable[[float, int], None]
    """Told of transformed records, as `Transformer` tells it."""


class KafkaOutlet:
    """What a worker process keeps for one connector and its present settings."""

    def __init__(self, errand: Errand) -> None:
        connector_id, settings, options = errand.connector_id, errand.settings, errand.options
        self.in_flight_batches = 1 if settings.wait_for_broker_ack else errand.in_flight
        self.has_many_topics = settings.topic_is_template
        self.failures = 0
        self.outgrown = False
        """See `idempotent.ProducingOutlet`: a topic was met that the producer is not made for, or one too many."""
        self._settings = settings
        self._options = options
        self._builder = MessageBuilder(connector_id, settings, errand.timed)
        self._producer: LaneProducer | None = None
        self._answer_timeout_s = errand.answer_timeout_s
        self._brokers: Brokers | None = None
        self._away: KafkaUnavailable | None = None
        self._away_until_s = 0.0
        self._known: dict[str, Topic] = {}
        """The topics that records went to, as they were when they were met, until all is purged for some trouble."""
        aside = settings.dead_letter_topic
        self.dead_letters = (
            None if aside is None else DeadLetters(connector_id, settings, aside, options, self._described)
        )

    @property
    def producer(self) -> LaneProducer:
        """The long-lived producer. Raises KafkaUnavailable or Misconfigured when the topic cannot be described, or with
        a template when Kafka cannot be used at all.
        """
        if self._producer is None:
            if not self._settings.topic_is_template:
                self._met(self._settings.topic)
            elif not self._known:
                self._asked(Brokers.check)
            self._producer = LaneProducer(self._options, [each.max_message_bytes for each in self._known.values()])
            self.outgrown = False
        return self._producer

    def _met(self, name: str) -> Topic:
        """The topic as it was when it was met first. The producer may not be made for it: see `outgrown`."""
        topic = self._known.get(name)
        if topic is None:
            topic = self._described(name)
            if len(self._known) >= MOST_TOPICS:
                self._known.clear()
                self.outgrown = True
            self._known[name] = topic
            if self._producer is not None and not self._producer.suits(topic.max_message_bytes):
                self.outgrown = True
        return topic

    def _described(self, topic: str) -> Topic:
        return self._asked(lambda brokers: brokers.topic(topic))

    def _asked(self, question: Callable[[Brokers], _Answer]) -> _Answer:
        """What the brokers answer. Raises what asking them does, at once while they are believed to be away."""
        if self._away is not None and time.monotonic() < self._away_until_s:
            raise KafkaUnavailable(self._away.message, hint=self._away.hint)
        brokers = self._brokers or Brokers(self._options, self._answer_timeout_s)
        if self._settings.topic_is_template:
            self._brokers = brokers  # there will be many questions, and most of the time of one is to connect
        try:
            return question(brokers)
        except KafkaUnavailable as exc:
            self._away, self._away_until_s = exc, time.monotonic() + REMEMBERED_S
            raise

    def work(self, delivery: Delivery) -> Work:
        """See `deliver.Outlet.work`."""
        self._builder.call_meanwhile(delivery.hold_claims)
        return IdempotentWork(delivery, self)

    def discard(self) -> None:
        """Purge and close the producers; the next use makes new ones (R5)."""
        self._known.clear()
        for producer in self._taken():
            producer.abandon()

    def renew(self) -> None:
        """Purge and close the producer of records alone; the next use makes a new one for the topics that are known."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.abandon()

    def close(self) -> None:
        """Close the producers once all is confirmed; what is not after a moment is purged. Nothing may be used then."""
        self._builder.close()
        self._brokers = None
        for producer in self._taken():
            producer.close()

    def _taken(self) -> list[LaneProducer]:
        """The producers, which nobody will use again whatever closing them comes to."""
        producer, self._producer = self._producer, None
        aside = None if self.dead_letters is None else self.dead_letters.taken()
        return [each for each in (producer, aside) if each is not None]

    def messages(self, batch: Batch, layout: Layout) -> Iterator[Outgoing | Unfit]:
        """See `MessageBuilder.messages`. Raises OtherRelease for a payload that this one does not know, too."""
        return self._messages(events(batch), layout)

    def _messages(self, events: Iterable[Any], layout: Layout) -> Iterator[Outgoing | Unfit]:
        return self._builder.messages(
            events, (lambda _topic: layout.partitions) if layout.partitions else self._partitions
        )

    def _partitions(self, topic: str) -> int:
        return self._met(topic).partitions

    def cursors(self, batch: Batch) -> Iterator[Cursor]:
        """Just after each of the batch's records, in order."""
        return map(cursor_of, events(batch))

    def letter(self, batch: Batch, origin: Origin, reason: Undeliverable, aimed_at: str | None = None) -> Outgoing:
        """That record of the batch as a dead letter, only where there is a topic for them."""
        assert self.dead_letters is not None
        event = next(each for each in events(batch) if origin_of(each) == origin)
        return self.dead_letters.letter(event, reason, aimed_at)


def events(batch: Batch) -> Iterator[Any]:
    """The batch's events. Raises Misconfigured for a payload of another release."""
    try:
        for raw in payload.unpack(batch.payload):
            yield _ReadResp.FromString(raw).event.event
    except (ValueError, DecodeError) as exc:
        raise Misconfigured(
            f"A batch in Redis is damaged: {exc}.", hint="Start the connector again: its records are then read anew."
        ) from exc


@dataclass(slots=True)
class _Kept:
    settings: SettingsId
    outlet: KafkaOutlet
    known_s: float
    """Time of the clock at which it was used last, or found to be for a connector that runs."""


class Outlets:
    """The outlets of a worker process, one for each connector: that of other settings replaces it, and that of a
    connector that no longer runs goes after a while (P6).
    """

    def __init__(
        self,
        settings_of: Callable[[str, SettingsId], SinkSettings],
        in_flight: int,
        default_servers: str,
        answer_timeout_s: float,
        timed: Callable[[str, float, int], None] = lambda _connector, _seconds, _records: None,
        make: Callable[[Errand], KafkaOutlet] = KafkaOutlet,
        runs: Callable[[str, SettingsId], bool] = lambda _connector, _settings: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`answer_timeout_s`: how long brokers may take to describe a topic, meanwhile nobody renews a claim.

        `timed`: told of transformed records by connector, as `Transformer` tells it. `make`: other outlets than
        `KafkaOutlet`. `runs`: whether a connector runs with these settings; may raise SinkworkerError.
        """
        self._settings_of = settings_of
        self._in_flight = in_flight
        self._default_servers = default_servers
        self._answer_timeout_s = answer_timeout_s
        self._timed = timed
        self._make = make
        self._runs = runs
        self._clock = clock
        self._asked_s = clock()
        self._kept: dict[str, _Kept] = {}

    def get(self, connector_id: str, settings_id: SettingsId) -> KafkaOutlet:
        """The outlet for exactly these settings. Raises Stale when the connector runs with others by now."""
        held = self._kept.get(connector_id)
        if held is not None and held.settings == settings_id:
            held.known_s = self._clock()
            return held.outlet
        settings = self._settings_of(connector_id, settings_id)
        if held is not None:
            held.outlet.close()
        options = settings.producer_options(connector_id, self._default_servers)
        timed = partial(self._timed, connector_id)
        outlet = self._make(Errand(connector_id, settings, options, self._in_flight, self._answer_timeout_s, timed))
        self._kept[connector_id] = _Kept(settings_id, outlet, self._clock())
        return outlet

    def tidy(self, busy: Callable[[str], bool]) -> str | None:
        """Close the outlet of a connector that no longer runs with its settings; answer which, None for none.

        It is asked about one connector at most, and only now and then. `busy`: whether one's outlet is in use.
        """
        now = self._clock()
        if now - self._asked_s < ASKED_EVERY_S:
            return None
        connector_id, held = min(self._kept.items(), key=lambda each: each[1].known_s, default=("", None))
        if held is None or now - held.known_s < UNUSED_S:
            return None
        self._asked_s = held.known_s = now
        if busy(connector_id):
            return None
        with contextlib.suppress(SinkworkerError):  # not known: it is asked about again
            if not self._runs(connector_id, held.settings):
                del self._kept[connector_id]
                held.outlet.close()
                return connector_id
        return None

    def close(self) -> None:
        for held in self._kept.values():
            held.outlet.close()
        self._kept.clear()
