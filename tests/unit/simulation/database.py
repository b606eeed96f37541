"""The database in memory: what `sinkworker.database.Database` answers, and a subscription to its log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kurrentdbclient import NewEvent
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.bell import Bell
from sinkworker.database import NoBoundary, StoredEvent, WrongRevision
from sinkworker.model import Cursor, Passed, Position, Record, Revision
from sinkworker.source.events import Item
from sinkworker.source.filters import Matching, ServerFilter

STEP = 10
"""Positions have gaps, as those of a real log."""


@dataclass
class Store:
    """What the database holds, durably."""

    log: list[StoredEvent] = field(default_factory=list)
    streams: dict[str, list[StoredEvent]] = field(default_factory=dict)

    def append(self, stream: str, type: str, data: bytes, metadata: bytes, id: str) -> StoredEvent:
        position = Position(STEP * (len(self.log) + 1))
        revision = Revision(len(self.streams.setdefault(stream, [])))
        event = StoredEvent(id, type, data, metadata, stream, revision, position, position, datetime.now(UTC))
        self.log.append(event)
        self.streams[stream].append(event)
        return event


class Database:
    """One process's connection to the store. `around` is called before and after each call: either may never return."""

    def __init__(self, store: Store, around: Callable[[], None], *, on_append: Callable[[StoredEvent], None]) -> None:
        self._store = store
        self._around = around
        self._on_append = on_append
        self.checks_expectation = True

    def append(self, stream: str, expected: Revision | None, events: Sequence[NewEvent]) -> Position:
        self._around()
        kept = self._store.streams.get(stream, [])
        actual = Revision(len(kept) - 1) if kept else None
        if self.checks_expectation and expected != actual:
            raise WrongRevision(f"{stream} ends at {actual}, not at {expected}", actual)
        for event in events:
            written = self._store.append(stream, event.type, event.data, event.metadata, str(event.id))
            self._on_append(written)
        self._around()
        return written.commit

    def read_stream(self, stream: str, after: Revision | None = None) -> Iterator[StoredEvent]:
        self._around()
        found = self._store.streams.get(stream, [])[0 if after is None else after + 1 :]
        self._around()
        return iter(list(found))

    def last_event(self, stream: str) -> StoredEvent | None:
        self._around()
        return next(iter(self._store.streams.get(stream, [])[-1:]), None)

    def event_at(self, stream: str, revision: Revision) -> StoredEvent | None:
        self._around()
        return next(iter(self._store.streams.get(stream, [])[revision : revision + 1]), None)

    def record_at(self, position: Position) -> StoredEvent | None:
        self._around()
        if position % STEP:
            raise NoBoundary(f"{position} is no record's")
        return next(iter(self._store.log[position // STEP - 1 : position // STEP]), None)

    def head(self) -> Position:
        return self.head_cursor().commit

    def head_cursor(self) -> Cursor:
        self._around()
        return self._store.log[-1].cursor if self._store.log else Cursor.BEGINNING

    def set_max_count(self, stream: str, count: int) -> None:
        """Every checkpoint is kept."""

    def delete_stream(self, stream: str) -> None:
        """No connector of the simulation is deleted."""

    def subscribe(
        self,
        wanted: ServerFilter,
        after: Cursor,
        chance: Callable[[], float],
        on_read: Callable[[], None],
        bell: Bell,
    ) -> Subscription:
        assert isinstance(wanted, Matching)
        self._around()
        if after != Cursor.BEGINNING and after.commit % STEP:
            raise NoBoundary(f"{after.commit} is no record's")
        return Subscription(self._store, wanted, after, chance, on_read, bell)


class Subscription:
    """A catch-up subscription by stream name. Each read may find that the connection was lost."""

    def __init__(
        self,
        store: Store,
        wanted: Matching,
        after: Cursor,
        chance: Callable[[], float],
        on_read: Callable[[], None],
        bell: Bell,
    ) -> None:
        assert wanted.by_stream
        self._store = store
        self._pattern = re.compile(wanted.pattern)
        self._next = 0 if after == Cursor.BEGINNING else after.commit // STEP
        self._chance = chance
        self._on_read = on_read
        self._bell = bell

    def read(self, limit: int) -> list[Item]:
        self._on_read()
        events = self._store.log[self._next : self._next + 1 + int(5 * self._chance())]
        self._next += len(events)
        items: list[Item] = []
        for event in events:
            if self._pattern.search(event.stream):
                items.append(as_record(event))
            elif self._chance() < 0.3:
                items.append(Passed(Cursor(event.commit, event.prepare)))
        if not events and self._chance() < 0.3:
            items.append(Passed(None, caught_up=True))
        return items

    def wait(self, timeout_s: float) -> None:
        self._bell.wait(timeout_s)

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass


def as_record(event: StoredEvent) -> Record:
    response = streams_pb2.ReadResp()
    raw = response.event.event
    raw.id.string = event.id
    raw.commit_position = event.commit
    raw.prepare_position = event.prepare
    raw.stream_revision = event.revision
    raw.stream_identifier.stream_name = event.stream.encode()
    raw.metadata["created"] = "0"
    return Record(
        event.commit,
        event.prepare,
        event.revision,
        event.id,
        event.stream,
        event.type,
        b"",
        response.SerializeToString(),
    )
