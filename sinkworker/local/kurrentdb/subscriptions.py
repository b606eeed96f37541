"""Subscriptions: everything after a position, then whatever comes, with checkpoints where there is a filter.

A subscriber always reads the committed log from its own cursor, in catch-up and live alike; live only means that it
waits for the next commit when it has read everything. So there are no buffers to overflow and no hand-over between
two sources in which a record could be lost or sent twice.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.local.kurrentdb.call import Call
from sinkworker.local.kurrentdb.errors import INVALID_POSITION_IN_SUBSCRIPTION, CallFailed, stream_deleted
from sinkworker.local.kurrentdb.filters import Filter
from sinkworker.local.kurrentdb.log import AllRow, Log
from sinkworker.local.kurrentdb.reads import Presentation
from sinkworker.local.kurrentdb.records import TOMBSTONE_REVISION, encoded

# A real log begins with one record that no reader sees. Its server counts it when it pages through the log.
HIDDEN_RECORDS = 1


@dataclass(frozen=True)
class FilterOptions:
    """A filter, and how many records are looked at between two checkpoints: `window` times `multiplier`."""

    filter: Filter
    window: int
    multiplier: int

    @property
    def interval(self) -> int:
        """Records looked at between two checkpoints."""
        return self.window * self.multiplier


@dataclass(frozen=True)
class AllSubscription:
    """Over `$all`, after `position`; from its first record if None, from its end if `from_end`."""

    position: int | None
    from_end: bool
    filtered: FilterOptions | None


@dataclass(frozen=True)
class StreamSubscription:
    """Over one stream, after `revision`; from its first event if None, from its end if `from_end`."""

    stream: str
    revision: int | None
    from_end: bool


@dataclass(frozen=True)
class Checkpoint:
    """A place up to which a subscriber has been sent all that passes. Catch-up gives a page without any match its
    first record's position, and no prepare position."""

    commit: int
    prepare: int = 0

    def message(self) -> bytes:
        """The framed message."""
        checkpoint = streams_pb2.ReadResp.Checkpoint(commit_position=self.commit, prepare_position=self.prepare)
        return encoded(streams_pb2.ReadResp(checkpoint=checkpoint))


class CatchUpCheckpoints:
    """Where checkpoints fall while a filtered subscription catches up.

    The server pages through the log, `window` records at a time. At the end of a page it sends a checkpoint if
    `interval` records were looked at since the last: of the latest match of that page, or else of the page's start.
    """

    def __init__(self, options: FilterOptions, start: Checkpoint, looked_at_before: int) -> None:
        self._window = options.window
        self._interval = options.interval
        self._in_page = looked_at_before
        self._since_last = 0
        self._mark = start
        self._first_page = True

    def look_at(self, position: int, matches: bool) -> Checkpoint | None:
        """Count one record, and return the checkpoint that is due after it, if any."""
        if self._in_page == 0 and not self._first_page:
            self._mark = Checkpoint(position)
        if matches:
            self._mark = Checkpoint(position, position)
        self._in_page += 1
        if self._in_page < self._window:
            return None
        self._since_last += self._in_page
        self._in_page = 0
        self._first_page = False
        if self._since_last < self._interval:
            return None
        self._since_last %= self._interval
        return self._mark

    def caught_up(self) -> Checkpoint:
        """The checkpoint that precedes the caught-up message."""
        return self._mark


async def subscribe_to_all(call: Call, log: Log, subscription: AllSubscription, present: Presentation) -> None:
    """Confirm, catch up, say so, and follow the log until the client leaves."""
    await call.send([_confirmation()])
    start = subscription.position
    if start is not None and not log.is_boundary(start):
        raise CallFailed(INVALID_POSITION_IN_SUBSCRIPTION)
    if subscription.from_end:
        start = log.head()
    follower = _AllFollower(call, log, subscription.filtered, present, -1 if start is None else start)
    if start is None:
        await follower.catch_up(Checkpoint(0), HIDDEN_RECORDS)
    elif start < log.head():
        await follower.catch_up(Checkpoint(start, start), 0)
    await call.send([_caught_up()])
    await follower.follow()


class _AllFollower:
    """The cursor of one subscription to `$all`."""

    def __init__(
        self, call: Call, log: Log, filtered: FilterOptions | None, present: Presentation, cursor: int
    ) -> None:
        self._call = call
        self._log = log
        self._filtered = filtered
        self._present = present
        self._cursor = cursor
        self._by_stream = filtered is not None and filtered.filter.by_stream
        self._since_checkpoint = 0

    async def catch_up(self, start: Checkpoint, looked_at_before: int) -> None:
        """Send everything up to the end of the log, and a last checkpoint where there is a filter."""
        options = self._filtered
        checkpoints = None if options is None else CatchUpCheckpoints(options, start, looked_at_before)
        while rows := self._next_rows():
            if checkpoints is None or options is None:
                await self._send([message for _, _, message in rows])
                continue
            out: list[bytes] = []
            for position, subject, message in rows:
                matches = options.filter.admits(subject, self._log.stream_name)
                if matches:
                    out.append(message)
                checkpoint = checkpoints.look_at(position, matches)
                if checkpoint is not None:
                    await self._send(out)
                    await self._call.send([checkpoint.message()])
                    out = []
            await self._send(out)
        if checkpoints is not None:
            await self._call.send([checkpoints.caught_up().message()])

    async def follow(self) -> None:
        """Send what comes. Never returns."""
        while True:
            growth = self._log.growth
            rows = self._next_rows()
            if not rows:
                await growth.wait()
                continue
            if self._filtered is None:
                await self._send([message for _, _, message in rows])
            else:
                await self._send_live(rows, self._filtered)

    async def _send_live(self, rows: Sequence[AllRow], options: FilterOptions) -> None:
        out: list[bytes] = []
        for position, subject, message in rows:
            if options.filter.admits(subject, self._log.stream_name):
                out.append(message)
            self._since_checkpoint += 1
            if self._since_checkpoint >= options.interval:
                self._since_checkpoint = 0
                await self._send(out)
                await self._call.send([Checkpoint(position, position).message()])
                out = []
        await self._send(out)

    def _next_rows(self) -> list[AllRow]:
        rows = self._log.all_after(self._cursor, self._by_stream)
        if rows:
            self._cursor = rows[-1][0]
        return rows

    async def _send(self, messages: Sequence[bytes]) -> None:
        if messages:
            await self._call.send(self._present.of(messages))
        else:
            # Nothing of this page passed the filter: let other connections have their turn all the same.
            await asyncio.sleep(0)


async def subscribe_to_stream(call: Call, log: Log, subscription: StreamSubscription, present: Presentation) -> None:
    """Confirm, catch up, say so, and follow the stream until it gets a tombstone or the client leaves."""
    name = subscription.stream
    view = log.stream(name)
    if view is not None and view.tombstoned:
        raise stream_deleted(name)
    await call.send([_confirmation()])
    cursor = -1 if subscription.revision is None else subscription.revision
    if subscription.from_end and view is not None:
        cursor = view.last_revision
    caught_up = False
    while True:
        growth = log.growth
        view = log.stream(name)
        rows = [] if view is None else log.stream_after(view, cursor)
        if rows:
            if rows[-1][0] == TOMBSTONE_REVISION:
                raise stream_deleted(name)
            await call.send(present.of([message for _, message in rows]))
            cursor = rows[-1][0]
            continue
        if not caught_up:
            caught_up = True
            await call.send([_caught_up(empty_position=view is None)])
        await growth.wait()


def _confirmation() -> bytes:
    confirmation = streams_pb2.ReadResp.SubscriptionConfirmation(subscription_id=str(uuid.uuid4()))
    return encoded(streams_pb2.ReadResp(confirmation=confirmation))


def _caught_up(empty_position: bool = False) -> bytes:
    """A server of the recorded line says nothing more in it, except an empty position for a stream without events."""
    position = streams_pb2.ReadResp.Position() if empty_position else None
    return encoded(streams_pb2.ReadResp(caught_up=streams_pb2.ReadResp.CaughtUp(position=position)))
