"""The one thread that appends to the log: expected versions, idempotence, group commit.

All requests that wait when the thread gets to work are applied in order and committed in one transaction, so that
concurrent appends share the cost of a sync. A request is answered only after the commit that holds it.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from sinkworker.local.kurrentdb.appends import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AppendRequest,
    DeleteRequest,
    Outcome,
    Request,
    StreamGone,
    TombstoneRequest,
    Written,
    WrongVersion,
)
from sinkworker.local.kurrentdb.records import (
    BINARY,
    JSON,
    METADATA_TYPE,
    TOMBSTONE_REVISION,
    TOMBSTONE_TYPE,
    ProposedEvent,
    decode,
    encode,
    record_bytes,
)
from sinkworker.local.kurrentdb.retention import DELETED, parse_metadata, retention
from sinkworker.local.kurrentdb.schema import connect

# Where the first event of an empty log goes: a real log begins with records of its own.
LOG_START = 548

# How many requests one transaction takes at most, so that the first is not kept waiting by an endless stream of others.
MAX_GROUP = 256

# How many event ids and streams are remembered. A real server, too, knows only recent ids when any version is expected.
RECENT_IDS = 50_000
RECENT_STREAMS = 10_000


@dataclass(slots=True)
class _Stream:
    """What the writer knows of a stream. `id` is None until its first event."""

    name: str
    id: int | None
    last: int
    # Whether it ever had metadata, and the latest.
    described: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def tombstoned(self) -> bool:
        return self.last == TOMBSTONE_REVISION

    @property
    def deleted(self) -> bool:
        return retention(self.metadata).deleted


class Writer:
    """Owns the writing side of the data file. `start` it, `submit` from any thread, `close` it once."""

    def __init__(self, path: Path, committed: Callable[[int], None]) -> None:
        """`committed` is called in the writer's thread, after each commit that added events, with the log's end."""
        self._db = connect(path)
        self._committed = committed
        self._queue: SimpleQueue[tuple[Request, Future[Outcome]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        # The stream, revision and position of each recent event by its id; of two with one id, those of the later.
        self._recent_ids: OrderedDict[bytes, tuple[int, int, int]] = OrderedDict()
        self._remember_log()

    @property
    def end(self) -> int:
        """Where the next record goes."""
        return self._end

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, request: Request) -> Future[Outcome]:
        """Queue a request. The future resolves once the answer is durable."""
        future: Future[Outcome] = Future()
        self._queue.put((request, future))
        return future

    def close(self) -> None:
        """Finish what was submitted, then release the file."""
        self._queue.put(None)
        self._thread.join()
        self._db.close()

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            group = [first]
            stopping = False
            while len(group) < MAX_GROUP and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    stopping = True
                    break
                group.append(following)
            # Drops what a client that has left was waiting for; from here on it can no longer be called off.
            self._commit([work for work in group if work[1].set_running_or_notify_cancel()])
            if stopping:
                return

    def _commit(self, group: Sequence[tuple[Request, Future[Outcome]]]) -> None:
        before = self._end
        try:
            self._db.execute("BEGIN IMMEDIATE")
            outcomes = [self._apply(request) for request, _ in group]
            self._db.execute("COMMIT")
        except Exception as exc:
            # Those who wait get it, and say it; here it only must not end the thread.
            self._refuse(group, exc)
            return
        # Readers first: whoever gets the answer may read at once and must find what was appended.
        if self._end != before:
            self._committed(self._end)
        for (_, future), outcome in zip(group, outcomes, strict=True):
            future.set_result(outcome)

    def _refuse(self, group: Sequence[tuple[Request, Future[Outcome]]], exc: Exception) -> None:
        """Nothing of the group is kept, neither in the file nor in memory."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._remember_log()
        for _, future in group:
            future.set_exception(exc)

    def _remember_log(self) -> None:
        """Everything the writer keeps in memory, as the file has it."""
        self._streams.clear()
        self._recent_ids.clear()
        recent = self._db.execute(
            "SELECT stream, id, revision, position FROM events ORDER BY position DESC LIMIT ?", (RECENT_IDS,)
        ).fetchall()
        for stream, event_id, revision, position in reversed(recent):
            self._recent_ids[event_id] = (stream, revision, position)
        self._end = LOG_START
        last = self._db.execute("SELECT position, message FROM events ORDER BY position DESC LIMIT 1").fetchone()
        if last is not None:
            position, message = last
            event = decode(message)
            name = event.stream_identifier.stream_name.decode("utf-8", errors="replace")
            size = record_bytes(name, event.metadata["type"], event.data, event.custom_metadata)
            self._end = position + size

    def _apply(self, request: Request) -> Outcome:
        stream = self._stream(request.stream)
        match request:
            case AppendRequest():
                return self._append(stream, request)
            case DeleteRequest():
                return self._delete(stream, request.expected)
            case TombstoneRequest():
                return self._tombstone(stream, request.expected)

    def _append(self, stream: _Stream, request: AppendRequest) -> Outcome:
        answer = self._answer_without_writing(stream, request.expected, [event.id for event in request.events])
        if answer is not None:
            return answer
        if not request.events:
            # A real log takes an empty record for this, which no reader sees.
            position = self._end
            self._end += record_bytes(stream.name)
            return Written(stream.last, position)
        # A deleted stream comes back with what is appended to it, or to its metadata, and without the events it had.
        revived = self._stream(stream.name[2:]) if stream.name.startswith("$$") else stream
        first_visible = revived.last + 1 if revived.deleted else None
        written = self._write(stream, request.events)
        if first_visible is not None:
            self._set_metadata(revived, {**revived.metadata, "$tb": first_visible})
        return written

    def _delete(self, stream: _Stream, expected: int) -> Outcome:
        answer = self._answer_without_writing(stream, expected, [_new_id()])
        if answer is not None:
            return answer
        if stream.last < 0 and not stream.described:
            return WrongVersion(-1)
        # This replaces what metadata the stream had.
        return self._set_metadata(stream, {"$tb": DELETED})

    def _tombstone(self, stream: _Stream, expected: int) -> Outcome:
        event_id = _new_id()
        answer = self._answer_without_writing(stream, expected, [event_id])
        if answer is not None:
            return answer
        stream.last = TOMBSTONE_REVISION - 1
        return self._write(stream, [ProposedEvent(event_id, TOMBSTONE_TYPE, BINARY, b"")])

    def _set_metadata(self, stream: _Stream, metadata: dict[str, Any]) -> Written:
        document = json.dumps(metadata, separators=(",", ":")).encode()
        return self._write(self._stream("$$" + stream.name), [ProposedEvent(_new_id(), METADATA_TYPE, JSON, document)])

    def _answer_without_writing(self, stream: _Stream, expected: int, ids: Sequence[bytes]) -> Outcome | None:
        """The answer to a request that writes nothing, None to one that may write events with these ids.

        Nothing is written where the stream is not at the version expected, and where all the events are there already:
        a client repeats what it got no answer to. Where only some are, it is no repetition, and the version is wrong.
        """
        if stream.tombstoned or (stream.name.startswith("$$") and self._stream(stream.name[2:]).tombstoned):
            return StreamGone()
        if expected == STREAM_EXISTS:
            if stream.deleted:
                return StreamGone()
            if stream.last < 0 and not stream.described:
                return WrongVersion(-1)
        if expected in (ANY, STREAM_EXISTS):
            return self._repeated_recently(stream, ids)
        if expected < stream.last:
            return self._repeated_after(stream, expected, ids)
        return None if expected == stream.last else WrongVersion(stream.last)

    def _repeated_recently(self, stream: _Stream, ids: Sequence[bytes]) -> Outcome | None:
        found = [self._recent_ids.get(event_id) for event_id in ids]
        places = [place for place in found if place is not None and place[0] == stream.id]
        if not places or found[0] != places[0]:
            return None
        if len(places) < len(ids):
            return WrongVersion(stream.last)
        _, revision, position = places[-1]
        return Written(revision, position)

    def _repeated_after(self, stream: _Stream, expected: int, ids: Sequence[bytes]) -> Outcome | None:
        rows = self._db.execute(
            "SELECT id, revision, position FROM events WHERE stream = ? AND revision > ? ORDER BY revision LIMIT ?",
            (stream.id, expected, len(ids)),
        ).fetchall()
        if ids and [row[0] for row in rows] == list(ids):
            return Written(rows[-1][1], rows[-1][2])
        if ids and expected == NO_STREAM and stream.deleted and rows[0][0] != ids[0]:
            return None
        return WrongVersion(stream.last)

    def _write(self, stream: _Stream, events: Sequence[ProposedEvent]) -> Written:
        if stream.id is None:
            self._db.execute("INSERT INTO streams (name) VALUES (?)", (stream.name,))
            (stream.id,) = self._db.execute("SELECT last_insert_rowid()").fetchone()
        stream_id = stream.id
        assert stream_id is not None
        name = stream.name.encode()
        created = time.time_ns() // 100
        revision = stream.last
        position = end = self._end
        rows = []
        for event in events:
            revision += 1
            position = end
            message = encode(event, name, revision, position, created)
            rows.append((position, stream_id, revision, event.type, created, event.id, message))
            end += record_bytes(stream.name, event.type, event.data, event.metadata)
            self._recent_ids[event.id] = (stream_id, revision, position)
        self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        stream.last = revision
        self._end = end
        while len(self._recent_ids) > RECENT_IDS:
            self._recent_ids.popitem(last=False)
        if stream.name.startswith("$$"):
            described = self._stream(stream.name[2:])
            described.described = True
            described.metadata = parse_metadata(events[-1].data)
        return Written(revision, position)

    def _stream(self, name: str) -> _Stream:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._load_stream(name)
            if len(self._streams) > RECENT_STREAMS:
                self._streams.popitem(last=False)
        return stream

    def _load_stream(self, name: str) -> _Stream:
        stream_id, last = self._last_revision(name)
        metadata_id, metadata_revision = self._last_revision("$$" + name)
        stream = _Stream(name, stream_id, last)
        if metadata_id is not None and metadata_revision != TOMBSTONE_REVISION:
            (message,) = self._db.execute(
                "SELECT message FROM events WHERE stream = ? AND revision = ?", (metadata_id, metadata_revision)
            ).fetchone()
            stream.described = True
            stream.metadata = parse_metadata(decode(message).data)
        return stream

    def _last_revision(self, name: str) -> tuple[int | None, int]:
        row = self._db.execute("SELECT id FROM streams WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None, -1
        (last,) = self._db.execute("SELECT max(revision) FROM events WHERE stream = ?", row).fetchone()
        return row[0], -1 if last is None else last


def _new_id() -> bytes:
    return uuid.uuid4().bytes
