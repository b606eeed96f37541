"""Finite reads: of one stream or of `$all`, in either direction, up to a count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from sinkworker.local.kurrentdb.call import Call
from sinkworker.local.kurrentdb.errors import (
    INVALID_POSITION_IN_FILTERED_READ,
    INVALID_POSITION_IN_READ,
    CallFailed,
    stream_deleted,
)
from sinkworker.local.kurrentdb.filters import Filter
from sinkworker.local.kurrentdb.log import CHUNK_ROWS, Log, StreamView
from sinkworker.local.kurrentdb.records import LINK_TYPE, decode, encoded, link_target, resolved, with_structured_ids

MAX_INT64 = 2**63 - 1

# How many events a real server reads of a stream at a time.
SERVER_PAGE = 32


@dataclass(frozen=True)
class Presentation:
    """How a reader wants its events."""

    log: Log
    resolve_links: bool
    structured_ids: bool

    def of(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        """The stored messages as they go out; usually the very same."""
        if self.resolve_links:
            messages = [self._resolve(message) for message in messages]
        if self.structured_ids:
            messages = [with_structured_ids(message) for message in messages]
        return messages

    def _resolve(self, message: bytes) -> bytes:
        # Parsing is dear, and events that merely hold these bytes are rare.
        if LINK_TYPE.encode() not in message:
            return message
        event = decode(message)
        target = link_target(event.data) if event.metadata["type"] == LINK_TYPE else None
        if target is None:
            return message
        revision, stream = target
        return resolved(event, self.log.visible_event(stream, revision))


@dataclass(frozen=True)
class StreamRead:
    """From `revision` on, itself included; None is the end. `with_bounds` asks for the first and last revision, too."""

    stream: str
    revision: int | None
    backwards: bool
    count: int
    with_bounds: bool = False


@dataclass(frozen=True)
class AllRead:
    """From `position` on: itself included forwards, excluded backwards. None is the near end of the direction."""

    position: int | None
    backwards: bool
    count: int
    filter: Filter | None


async def read_stream(call: Call, log: Log, read: StreamRead, present: Presentation) -> None:
    """Send the events a stream's readers see, or that there is no such stream."""
    view = log.stream(read.stream)
    if view is not None and view.tombstoned:
        raise stream_deleted(read.stream)
    if view is None or view.retention.deleted:
        await call.send([stream_not_found(read.stream)])
        return
    start = MAX_INT64 if read.revision is None else read.revision
    if read.backwards:
        cursor, page = start + 1, log.stream_before
    else:
        cursor, page = start - 1, log.stream_after
        first = _first_of_later_page(view, start, read.count)
        if read.with_bounds and first is not None:
            await call.send([encoded(streams_pb2.ReadResp(first_stream_position=first))])
    left = read.count
    while left > 0 and (rows := page(view, cursor, min(left, CHUNK_ROWS))):
        await call.send(present.of([message for _, message in rows]))
        left -= len(rows)
        cursor = rows[-1][0]
    if read.with_bounds:
        await call.send([encoded(streams_pb2.ReadResp(last_stream_position=view.last_revision))])


def _first_of_later_page(view: StreamView, start: int, count: int) -> int | None:
    """Where the first event may be if the first page, as a server turns them, has none."""
    if start + min(count, SERVER_PAGE) <= view.first_visible:
        return view.first_visible
    return view.last_revision + 1 if start > view.last_revision + 1 else None


async def read_all(call: Call, log: Log, read: AllRead, present: Presentation) -> None:
    """Send the records of `$all` that pass the filter."""
    if read.position is not None and not log.is_boundary(read.position):
        raise CallFailed(INVALID_POSITION_IN_READ if read.filter is None else INVALID_POSITION_IN_FILTERED_READ)
    if read.backwards:
        cursor = MAX_INT64 if read.position is None else read.position
        page = log.all_before
    else:
        cursor = (read.position or 0) - 1
        page = log.all_after
    by_stream = read.filter is not None and read.filter.by_stream
    admits = _admitting(read.filter, log)
    left = read.count
    while left > 0:
        rows = page(cursor, by_stream, CHUNK_ROWS if read.filter else min(left, CHUNK_ROWS))
        if not rows:
            return
        wanted = [message for _, subject, message in rows if admits(subject)][:left]
        if wanted:
            await call.send(present.of(wanted))
        else:
            # Nothing passed the filter: let other connections have their turn all the same.
            await asyncio.sleep(0)
        left -= len(wanted)
        cursor = rows[-1][0]


def stream_not_found(stream: str) -> bytes:
    """The message that takes the place of a missing stream's events."""
    identifier = shared_pb2.StreamIdentifier(stream_name=stream.encode())
    return encoded(
        streams_pb2.ReadResp(stream_not_found=streams_pb2.ReadResp.StreamNotFound(stream_identifier=identifier))
    )


def _admitting(wanted: Filter | None, log: Log) -> Callable[[str | int], bool]:
    if wanted is None:
        return lambda _: True
    return lambda subject: wanted.admits(subject, log.stream_name)
