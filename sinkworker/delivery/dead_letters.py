"""The dead-letter topic of one connector: what a record becomes that can never be delivered (an addition of ours)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from sinkworker.connectors.settings import SinkSettings
from sinkworker.delivery.headers import HeaderBuilder, RecordedEvent, now
from sinkworker.delivery.producer import LaneProducer
from sinkworker.errors import Undeliverable
from sinkworker.keys import KeyExtractor, placement
from sinkworker.model import TICKS_PER_SECOND
from sinkworker.outgoing import Outgoing
from sinkworker.topics import Topic

ERROR_CODE = "sinkworker-error-code"
ERROR_MESSAGE = "sinkworker-error-message"
ERROR_TOPIC = "sinkworker-error-topic"
_NAMES = frozenset({ERROR_CODE, ERROR_MESSAGE, ERROR_TOPIC})

MESSAGE_BYTES = 2048
"""Most bytes of the error message in a header: it must not be what makes the record too large."""


class DeadLetters:
    """Makes and sends dead letters, with a producer of its own: a refusal there leaves the records' producer alone."""

    def __init__(
        self,
        connector_id: str,
        settings: SinkSettings,
        topic: str,
        options: Mapping[str, Any],
        describe: Callable[[str], Topic],
    ) -> None:
        self.topic = topic
        self._aimed_at = settings.topic
        self._options = options
        self._describe = describe
        self._key = KeyExtractor(settings.key).key
        self._partition_of = placement(settings.key)
        self._headers = HeaderBuilder(connector_id, settings).build
        self._producer: LaneProducer | None = None
        self._described: Topic | None = None

    @property
    def producer(self) -> LaneProducer:
        """The long-lived producer. Raises KafkaUnavailable or Misconfigured when the topic cannot be described."""
        if self._producer is None:
            self._described = None
            self._producer = LaneProducer(self._options, [self.describe().max_message_bytes])
        return self._producer

    def describe(self) -> Topic:
        """The topic, which must be known before letters are made. Raises as `producer`."""
        if self._described is None:
            self._described = self._describe(self.topic)
        return self._described

    def taken(self) -> LaneProducer | None:
        """The producer, if there is one, for closing: nobody will use it again."""
        producer, self._producer = self._producer, None
        return producer

    def letter(self, event: RecordedEvent, reason: Undeliverable, aimed_at: str | None) -> Outgoing:
        """The event as it was stored, nothing transformed, with the reason in headers of its own.

        `aimed_at`: the topic that it was for; None where that had not come out yet.

        Its key is left out where it cannot be taken, and of the headers those that come from metadata which cannot be
        read.
        """
        stream, record_id = event.stream_identifier.stream_name.decode(), event.id.string
        key = None
        with contextlib.suppress(Exception):  # it may be why the record is here
            text = self._key(stream, event.custom_metadata)
            key = None if text is None else text.encode()
        headers = [each for each in self._usual_headers(event, key) if each[0] not in _NAMES]
        headers += [
            (ERROR_CODE, reason.code.encode()),
            (ERROR_MESSAGE, _cut(reason.message)),
            (ERROR_TOPIC, (aimed_at or self._aimed_at).encode()),
        ]
        return Outgoing(
            record_id,
            stream,
            event.metadata["type"],
            event.commit_position,
            key,
            event.data,
            headers,
            int(event.metadata["created"]) / TICKS_PER_SECOND,
            self.topic,
            self._partition_of(key, record_id, 1 if self._described is None else self._described.partitions),
        )

    def _usual_headers(self, event: RecordedEvent, key: bytes | None) -> list[tuple[str, bytes]]:
        try:
            return self._headers(event, now(), key=key)
        except Exception:
            bare = RecordedEvent()
            bare.CopyFrom(event)
            bare.custom_metadata = b""
            return self._headers(bare, now(), key=key)


def _cut(text: str) -> bytes:
    """The text in UTF-8, without half a character at its end."""
    return text.encode(errors="replace")[:MESSAGE_BYTES].decode(errors="ignore").encode()
