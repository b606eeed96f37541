"""Pure: the Kafka headers of a record (contract §4.2). Runs for every record.

One value for each name: what the system says outranks the event's metadata, which outranks the default headers.
"""

from __future__ import annotations

import random
import time

from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker import metadata as event_metadata
from sinkworker.connectors.settings import Format, SinkSettings
from sinkworker.delivery import cloudevents, trace_context
from sinkworker.model import TICKS_PER_SECOND

RecordedEvent = streams_pb2.ReadResp.ReadEvent.RecordedEvent

USER_PREFIX = "esdb-record-headers-"

SYSTEM_NAMES = frozenset(
    {
        "esdb-request-id",
        "esdb-request-date",
        "esdb-connector-id",
        "esdb-record-id",
        "esdb-record-timestamp",
        "esdb-record-redacted",
        "esdb-record-stream-id",
        "esdb-record-stream-revision",
        "esdb-record-log-position",
        "esdb-record-schema-subject",
        "esdb-record-schema-type",
        "esdb-record-is-transformed",
    }
)
"""Names that no default header may take, so that where a record comes from can be trusted."""

_SCHEMA_TYPES = {"json": b"json", "protobuf": b"protobuf", "avro": b"avro", "bytes": b"bytes"}


class HeaderBuilder:
    """Builds the headers of one connector's records. Not for use from several threads."""

    def __init__(self, connector_id: str, settings: SinkSettings) -> None:
        self._connector_id = ("esdb-connector-id", connector_id.encode())
        self._ignore_system = settings.ignore_system_headers
        self._cloud_event = settings.format is Format.CLOUDEVENTS
        self._trace_context = settings.trace_context
        defaults = {
            name: value.encode()
            for name, value in settings.default_headers.items()
            if name not in SYSTEM_NAMES and not self._takes(name)
        }
        self._defaults = [(name, value) for name, value in defaults.items() if not name.startswith(USER_PREFIX)]
        self._contested_defaults = [each for each in defaults.items() if each[0].startswith(USER_PREFIX)]
        self._timestamp = _Timestamps()

    def _takes(self, name: str) -> bool:
        """Whether one of our additions writes the header of that name."""
        if self._cloud_event and cloudevents.is_reserved(name):
            return True
        return self._trace_context and name.lower() in trace_context.NAMES

    def build(
        self, event: RecordedEvent, request_date: bytes, transformed: bytes | None = None, key: bytes | None = None
    ) -> list[tuple[str, bytes]]:
        """The headers of `event`, where `request_date` is the time of its processing as `iso_date` writes it.

        `transformed`: of an event that was transformed, its schema type. `key`: of its message. Raises Undeliverable
        as `cloudevents.attributes` does.
        """
        facts = event.metadata
        custom = event.custom_metadata
        values = event_metadata.parsed(custom) if custom else {}
        created = self._timestamp(int(facts["created"]))
        headers = [
            ("esdb-request-id", _request_id()),
            ("esdb-request-date", request_date),
            self._connector_id,
            ("esdb-record-id", event.id.string.encode()),
            ("esdb-record-timestamp", created),
            _NOT_REDACTED,
            ("esdb-record-stream-id", event.stream_identifier.stream_name),
            ("esdb-record-stream-revision", b"%d" % event.stream_revision),
            ("esdb-record-log-position", b"%d" % event.commit_position),
            ("esdb-record-schema-subject", facts["type"].encode()),
            ("esdb-record-schema-type", transformed or schema_type(facts["content-type"], values)),
        ]
        if transformed is not None:
            headers.append(_TRANSFORMED)
        for name, value in values.items():
            if name[:1] == "$" and self._ignore_system:
                continue
            text = value if type(value) is str else event_metadata.as_text(value)
            if text is not None and "\0" not in name:  # at NUL librdkafka would cut the name
                headers.append((USER_PREFIX + name, text.encode()))
        if self._contested_defaults:
            taken = {name for name, _ in headers}
            headers += [default for default in self._contested_defaults if default[0] not in taken]
        if self._cloud_event:
            headers += cloudevents.attributes(event, created, key)
        if self._trace_context:
            headers += trace_context.headers(values)
        headers += self._defaults
        return headers


def iso_date(ticks: int) -> bytes:
    """The moment so many 100 ns after 1970 as headers show it: `2024-08-14T14:53:22.6213572+00:00`."""
    second, fraction = divmod(ticks, TICKS_PER_SECOND)
    return _second_text(second) + b".%07d+00:00" % fraction


def now() -> bytes:
    """The present as headers show it."""
    return iso_date(time.time_ns() // 100)


_NOT_REDACTED = ("esdb-record-redacted", b"false")
_TRANSFORMED = ("esdb-record-is-transformed", b"true")


class _Timestamps:
    """`iso_date` that remembers the last second: consecutive records mostly share it."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def __call__(self, ticks: int) -> bytes:
        second, fraction = divmod(ticks, TICKS_PER_SECOND)
        if second != self._second:
            self._second, self._text = second, _second_text(second)
        return b"%b.%07d+00:00" % (self._text, fraction)


def _second_text(second: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()


def _request_id() -> bytes:
    """A random UUID, version 4. `uuid.uuid4` costs as much as all other headers together."""
    bits = random.getrandbits  # unique, not secret; reseeded in a forked process
    return b"%08x-%04x-4%03x-%04x-%012x" % (bits(32), bits(16), bits(12), 0x8000 | bits(14), bits(48))


def schema_type(content_type: str, values: dict[str, object]) -> bytes:
    """json, protobuf, avro or bytes: `$schema.format` where the metadata's values name one, else by content type."""
    named = values.get("$schema.format")
    if isinstance(named, str) and named.lower() in _SCHEMA_TYPES:
        return _SCHEMA_TYPES[named.lower()]
    return b"json" if content_type == "application/json" else b"bytes"
