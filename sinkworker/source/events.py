"""Pure: a subscription's messages as records and marks. Only what routing needs is parsed into values of ours."""

from __future__ import annotations

from typing import TypeAlias

from google.protobuf.message import DecodeError
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.errors import Fatal
from sinkworker.model import Cursor, Passed, Position, Record, Revision

Item: TypeAlias = Record | Passed

_ReadResp = streams_pb2.ReadResp


def item(message: bytes) -> Item | None:
    """What one `ReadResp` says; None where it is nothing that counts. Raises Fatal for what is none, or no event."""
    try:
        response = _ReadResp.FromString(message)
        if response.HasField("event"):
            return _record(response.event.event, message)
    except (DecodeError, UnicodeDecodeError, ValueError) as exc:
        raise Fatal(f"KurrentDB sent a message that cannot be read: {exc}.") from exc
    match response.WhichOneof("content"):
        case "checkpoint":
            mark = response.checkpoint
            return Passed(Cursor(Position(mark.commit_position), Position(mark.prepare_position)))
        case "caught_up":
            return Passed(None, caught_up=True)
    return None


def _record(event: streams_pb2.ReadResp.ReadEvent.RecordedEvent, message: bytes) -> Record:
    record_id = event.id.string
    if not record_id:
        raise ValueError("an event without an id")
    return Record(
        Cursor(
            Position(event.commit_position),
            Position(event.prepare_position),
            Revision(event.stream_revision),
            record_id,
        ),
        event.stream_identifier.stream_name.decode(),
        event.metadata["type"],
        event.custom_metadata,
        message,
    )
