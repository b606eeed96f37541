"""Pure: a subscription's messages as records and marks. Only what routing needs is parsed into values of ours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from google.protobuf.message import DecodeError
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.errors import Fatal
from sinkworker.model import TICKS_PER_SECOND, Cursor, Passed, Position, Record, Revision

Item: TypeAlias = Record | Passed

_ReadResp = streams_pb2.ReadResp


def items(messages: Iterable[bytes]) -> list[Item]:
    """What these `ReadResp` say, without those that say nothing that counts. Runs for every record.

    Raises Fatal for what is no such message, or no event.
    """
    found: list[Item] = []
    parse, add = _ReadResp.FromString, found.append
    try:
        for message in messages:
            response = parse(message)
            event = response.event.event
            record_id = event.id.string
            if record_id:
                add(
                    Record(
                        Position(event.commit_position),
                        Position(event.prepare_position),
                        Revision(event.stream_revision),
                        record_id,
                        event.stream_identifier.stream_name.decode(),
                        event.metadata["type"],
                        event.custom_metadata,
                        message,
                    )
                )
            elif (mark := _mark(response)) is not None:
                add(mark)
    except (DecodeError, UnicodeDecodeError, ValueError) as exc:
        raise Fatal(f"KurrentDB sent a message that cannot be read: {exc}.") from exc
    return found


def created_s(record: Record) -> float:
    """When the record's event was created, in seconds since 1970."""
    return int(_ReadResp.FromString(record.raw).event.event.metadata["created"]) / TICKS_PER_SECOND


def _mark(response: streams_pb2.ReadResp) -> Passed | None:
    match response.WhichOneof("content"):
        case "event":
            raise ValueError("an event without an id")
        case "checkpoint":
            mark = response.checkpoint
            return Passed(Cursor(Position(mark.commit_position), Position(mark.prepare_position)))
        case "caught_up":
            return Passed(None, caught_up=True)
    return None
