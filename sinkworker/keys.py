"""Pure: a record's partition key, its partition, its lane (contract §5, design.md §2). Runs for every record."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from sinkworker import metadata as event_metadata
from sinkworker.connectors import patterns
from sinkworker.connectors.settings import KeySettings, KeySource, Partitioner
from sinkworker.errors import Undeliverable
from sinkworker.model import LaneNumber
from sinkworker.murmur2 import murmur2

RECORD_KEY = "esdb.partition-key"
"""The metadata entry that is the record's own partition key. Undocumented, and honoured by the original."""

_RECORD_KEY_BYTES = RECORD_KEY.encode()


class KeyExtractor:
    """Takes partition keys out of records as the settings say. Never answers an empty text."""

    def __init__(self, settings: KeySettings) -> None:
        self._extract = _extractor(settings)

    def key(self, stream: str, metadata: bytes) -> str | None:
        """The key, or None for a record without one.

        Where the settings find nothing, the record's own key counts. Raises Undeliverable when a regular expression
        of the settings does not come to an end on this stream's name.
        """
        return self._extract(stream, metadata) or _record_key(metadata)


def partition_of(key: bytes | None, substitute: str, partitions: int) -> int:
    """The Kafka partition of a record.

    With a key it is where librdkafka's `consistent_random` puts it by itself; without one (an empty one counts as
    none, as it does there) the substitute decides, and the record is produced to that partition explicitly, so that a
    replay goes to the same. The substitute is the event's id, which spreads records evenly; where the topic is a
    template it is the stream's name, as for the lane (`lane_by_key`), so that a stream's order is kept.
    """
    return crc32(key or substitute.encode()) % partitions


def java_partition_of(key: bytes | None, substitute: str, partitions: int) -> int:
    """`partition_of` with `murmur2_random`: a keyed record is where Java's producers and librdkafka's put it."""
    return (murmur2(key) & 0x7FFFFFFF if key else crc32(substitute.encode())) % partitions


def placement(settings: KeySettings) -> Callable[[bytes | None, str, int], int]:
    """What decides a record's partition, and by it the lane: `partition_of`, or another with its arguments."""
    return java_partition_of if settings.partitioner is Partitioner.MURMUR2_RANDOM else partition_of


def lane_of(partition: int, lanes: int) -> LaneNumber:
    """The lane that feeds this partition."""
    return LaneNumber(partition % lanes)


def lane_by_key(key: bytes | None, stream: str, lanes: int) -> LaneNumber:
    """The lane where the topic is a template: each has partitions of its own, so that they cannot decide it."""
    return LaneNumber(crc32(key or stream.encode()) % lanes)


def _extractor(settings: KeySettings) -> Callable[[str, bytes], str | None]:
    match settings.source:
        case KeySource.PARTITION_KEY:
            return _nothing
        case KeySource.STREAM:
            return _stream_matcher(settings.expression) if settings.expression else _whole_stream
        case KeySource.STREAM_SUFFIX:
            return _stream_suffix
        case KeySource.HEADERS:
            return _joined_headers(settings.header_names)


def _nothing(stream: str, metadata: bytes) -> None:
    return None


def _whole_stream(stream: str, metadata: bytes) -> str:
    return stream


def _stream_suffix(stream: str, metadata: bytes) -> str | None:
    _, hyphen, suffix = stream.rpartition("-")
    return suffix if hyphen else None


def _stream_matcher(expression: str) -> Callable[[str, bytes], str | None]:
    pattern = patterns.compiled(expression)
    group = patterns.group_of_interest(pattern)

    def found(stream: str, metadata: bytes) -> str | None:
        try:
            return patterns.search(pattern, stream, group)
        except Undeliverable as exc:
            raise Undeliverable(
                f"partitionKeyExtraction:expression: {exc.message}", hint=exc.hint, code=exc.code
            ) from exc

    return found


def _joined_headers(names: tuple[str, ...]) -> Callable[[str, bytes], str | None]:
    def joined(stream: str, metadata: bytes) -> str | None:
        values = event_metadata.parsed(metadata)
        found = (event_metadata.as_text(values.get(name)) for name in names)
        return "-".join(text for text in found if text)

    return joined


def _record_key(metadata: bytes) -> str | None:
    # Most metadata has none, and is not parsed to learn it. (A backslash may spell any name in escapes.)
    if _RECORD_KEY_BYTES not in metadata and b"\\u" not in metadata:
        return None
    return event_metadata.as_text(event_metadata.parsed(metadata).get(RECORD_KEY)) or None
