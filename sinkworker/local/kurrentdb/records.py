"""Events: as proposed by a client, and as recorded, in the encoding they are stored and sent in.

A recorded event is encoded once, when it is appended, as the framed `ReadResp` message that reads and subscriptions
send; they copy it from the file to the socket. The rare reader that wants ids in the structured form, or links
resolved, gets a message made from the stored one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from google.protobuf.message import Message
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from sinkworker.local.kurrentdb.wire import frame, unframe

JSON = "application/json"
BINARY = "application/octet-stream"

METADATA_TYPE = "$metadata"
LINK_TYPE = "$>"
TOMBSTONE_TYPE = "$streamDeleted"
TOMBSTONE_REVISION = 2**63 - 1

# What a record takes in a real log beside its stream name, type, data and metadata.
RECORD_OVERHEAD_BYTES = 90


@dataclass(frozen=True, slots=True)
class ProposedEvent:
    """An event on its way into the log. `id` is the 16 bytes of its UUID; `metadata` may be any bytes."""

    id: bytes
    type: str
    content_type: str
    data: bytes
    metadata: bytes = b""

    def size_on_disk(self) -> int:
        """What the append limit counts: type names as UTF-16, data and metadata."""
        return 2 * len(self.type) + len(self.data) + len(self.metadata)


def record_bytes(stream: str, event_type: str = "", data: bytes = b"", metadata: bytes = b"") -> int:
    """How far the log grows by one record, so that positions have the gaps of a real one."""
    return RECORD_OVERHEAD_BYTES + len(stream) + len(event_type) + len(data) + len(metadata)


def encode(event: ProposedEvent, stream: bytes, revision: int, position: int, created_ticks: int) -> bytes:
    """The framed message that a reader of this event gets. `created_ticks` counts 100 ns since 1970."""
    response = streams_pb2.ReadResp()
    outer = response.event
    outer.commit_position = position
    recorded = outer.event
    recorded.id.string = uuid_text(event.id)
    recorded.stream_identifier.stream_name = stream
    recorded.stream_revision = revision
    recorded.prepare_position = position
    recorded.commit_position = position
    metadata = recorded.metadata
    metadata["type"] = event.type
    metadata["created"] = str(created_ticks)
    metadata["content-type"] = event.content_type
    recorded.custom_metadata = event.metadata
    recorded.data = event.data
    return frame(response.SerializeToString())


def encoded(message: Message) -> bytes:
    """Any other response, framed."""
    return frame(message.SerializeToString())


def decode(framed: bytes) -> streams_pb2.ReadResp.ReadEvent.RecordedEvent:
    """The recorded event of a stored message."""
    return streams_pb2.ReadResp.FromString(unframe(framed)).event.event


def link_target(data: bytes) -> tuple[int, str] | None:
    """Revision and stream that a link's data, `revision@stream`, names; None for anything else."""
    revision, at, stream = data.partition(b"@")
    if not at or not revision.isdigit():
        return None
    return int(revision), stream.decode("utf-8", errors="replace")


def resolved(link: streams_pb2.ReadResp.ReadEvent.RecordedEvent, target: bytes | None) -> bytes:
    """The framed message for a link and what it points to, if that is still there; its position is the link's."""
    response = streams_pb2.ReadResp()
    response.event.commit_position = link.commit_position
    response.event.link.CopyFrom(link)
    if target is not None:
        response.event.event.CopyFrom(decode(target))
    return frame(response.SerializeToString())


def with_structured_ids(framed: bytes) -> bytes:
    """The same message with event ids as two integers instead of text."""
    response = streams_pb2.ReadResp.FromString(unframe(framed))
    for recorded in (response.event.event, response.event.link):
        if recorded.id.string:
            recorded.id.CopyFrom(structured_uuid(uuid.UUID(recorded.id.string)))
    return frame(response.SerializeToString())


def uuid_text(raw: bytes) -> str:
    """The usual text of a UUID; several times faster than by way of `uuid.UUID`, and done for each event."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid_bytes(message: shared_pb2.UUID) -> bytes:
    """The 16 bytes of an id in either form. Raises ValueError for a text that is none."""
    if message.WhichOneof("value") == "structured":
        high = message.structured.most_significant_bits % 2**64
        low = message.structured.least_significant_bits % 2**64
        return high.to_bytes(8, "big") + low.to_bytes(8, "big")
    digits = message.string.replace("-", "")
    raw = bytes.fromhex(digits)
    if len(digits) != 32 or len(raw) != 16:
        raise ValueError(f"{message.string!r} is no UUID")
    return raw


def structured_uuid(value: uuid.UUID) -> shared_pb2.UUID:
    """The form of a UUID that some clients, and gossip, use."""
    return shared_pb2.UUID(
        structured=shared_pb2.UUID.Structured(
            most_significant_bits=int.from_bytes(value.bytes[:8], "big", signed=True),
            least_significant_bits=int.from_bytes(value.bytes[8:], "big", signed=True),
        )
    )
