"""Reading what is committed, and waking those who wait for more. Everything here runs in the event loop's thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sinkworker.local.kurrentdb.records import TOMBSTONE_REVISION, decode
from sinkworker.local.kurrentdb.retention import KEEP_ALL, METADATA_STREAM, Retention, parse_metadata, retention
from sinkworker.local.kurrentdb.schema import connect

# How much one query returns. The loop serves other connections between two queries.
CHUNK_ROWS = 512
CHUNK_BYTES = 256 * 1024

_TYPES_AFTER = "SELECT position, type, message FROM events WHERE position > ? ORDER BY position LIMIT ?"
_STREAMS_AFTER = "SELECT position, stream, message FROM events WHERE position > ? ORDER BY position LIMIT ?"
_TYPES_BEFORE = "SELECT position, type, message FROM events WHERE position < ? ORDER BY position DESC LIMIT ?"
_STREAMS_BEFORE = "SELECT position, stream, message FROM events WHERE position < ? ORDER BY position DESC LIMIT ?"

# (position, what a filter looks at: the event type or the stream's number, message)
AllRow = tuple[int, str | int, bytes]

# (revision, message)
StreamRow = tuple[int, bytes]


@dataclass(frozen=True)
class StreamView:
    """A stream that has events, as its readers find it."""

    id: int
    last_revision: int
    retention: Retention

    @property
    def tombstoned(self) -> bool:
        """The stream is closed for ever."""
        return self.last_revision == TOMBSTONE_REVISION

    @property
    def first_visible(self) -> int:
        """The smallest revision a reader may see."""
        return self.retention.first_visible(self.last_revision)


class Log:
    """The committed log of one data file."""

    def __init__(self, path: Path, end: int) -> None:
        self._db = connect(path)
        self._end = end
        self._grown = asyncio.Event()

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def grown(self, end: int) -> None:
        """The writer committed up to `end`: wake everyone who waits."""
        self._end = end
        self._grown.set()
        self._grown = asyncio.Event()

    @property
    def growth(self) -> asyncio.Event:
        """Set at the next commit. Take it before reading, then wait: a commit in between is not missed."""
        return self._grown

    def head(self) -> int:
        """The position of the last event, -1 if there is none."""
        (position,) = self._db.execute("SELECT max(position) FROM events").fetchone()
        return -1 if position is None else position

    def is_boundary(self, position: int) -> bool:
        """Whether one may read from `position`: a record is there, or the log begins or has not arrived there."""
        if position == 0 or position >= self._end:
            return True
        row = self._db.execute("SELECT 1 FROM events WHERE position = ?", (position,)).fetchone()
        return row is not None

    def all_after(self, position: int, by_stream: bool = False, limit: int = CHUNK_ROWS) -> list[AllRow]:
        """The next rows of `$all` after `position`, at most `limit` and about `CHUNK_BYTES`."""
        return self._all(_STREAMS_AFTER if by_stream else _TYPES_AFTER, position, limit)

    def all_before(self, position: int, by_stream: bool = False, limit: int = CHUNK_ROWS) -> list[AllRow]:
        """The rows of `$all` before `position`, latest first."""
        return self._all(_STREAMS_BEFORE if by_stream else _TYPES_BEFORE, position, limit)

    def stream(self, name: str) -> StreamView | None:
        """The stream called `name`, or None if it never had an event."""
        row = self._db.execute("SELECT id FROM streams WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        (stream_id,) = row
        (last,) = self._db.execute("SELECT max(revision) FROM events WHERE stream = ?", row).fetchone()
        return StreamView(stream_id, last, self._retention(name))

    def stream_name(self, stream_id: int) -> str:
        """The name of a stream by its number."""
        (name,) = self._db.execute("SELECT name FROM streams WHERE id = ?", (stream_id,)).fetchone()
        assert isinstance(name, str)
        return name

    def stream_after(self, view: StreamView, revision: int, limit: int = CHUNK_ROWS) -> list[StreamRow]:
        """The next visible events of a stream with revisions above `revision`."""
        lowest = max(revision + 1, view.first_visible)
        return self._stream_rows(
            "SELECT revision, message FROM events WHERE stream = ? AND revision >= ? AND created >= ?"
            " ORDER BY revision LIMIT ?",
            (view.id, lowest, view.retention.oldest_visible_ticks(_now_ticks()), limit),
        )

    def stream_before(self, view: StreamView, revision: int, limit: int = CHUNK_ROWS) -> list[StreamRow]:
        """The visible events of a stream with revisions below `revision`, latest first."""
        return self._stream_rows(
            "SELECT revision, message FROM events WHERE stream = ? AND revision < ? AND revision >= ?"
            " AND created >= ? ORDER BY revision DESC LIMIT ?",
            (view.id, revision, view.first_visible, view.retention.oldest_visible_ticks(_now_ticks()), limit),
        )

    def visible_event(self, stream: str, revision: int) -> bytes | None:
        """The message of one event of a stream, or None if its readers do not see it."""
        view = self.stream(stream)
        if view is None or view.tombstoned or not view.first_visible <= revision <= view.last_revision:
            return None
        row = self._db.execute(
            "SELECT message FROM events WHERE stream = ? AND revision = ?", (view.id, revision)
        ).fetchone()
        return None if row is None else row[0]

    def _retention(self, name: str) -> Retention:
        if name.startswith("$$"):
            return METADATA_STREAM
        row = self._db.execute(
            "SELECT message FROM events WHERE stream = (SELECT id FROM streams WHERE name = ?)"
            " ORDER BY revision DESC LIMIT 1",
            ("$$" + name,),
        ).fetchone()
        return KEEP_ALL if row is None else retention(parse_metadata(decode(row[0]).data))

    def _all(self, query: str, position: int, limit: int) -> list[AllRow]:
        # SQLite's integers end where a client's positions do not.
        cursor = self._db.execute(query, (min(position, 2**63 - 1), limit))
        rows: list[AllRow] = []
        size = 0
        for row in cursor:
            rows.append(row)
            size += len(row[2])
            if size >= CHUNK_BYTES:
                break
        cursor.close()
        return rows

    def _stream_rows(self, query: str, parameters: tuple[int, ...]) -> list[StreamRow]:
        return list(_up_to_chunk_bytes(self._db.execute(query, tuple(min(p, 2**63 - 1) for p in parameters))))


def _up_to_chunk_bytes(rows: Iterator[StreamRow]) -> Iterator[StreamRow]:
    size = 0
    for row in rows:
        yield row
        size += len(row[1])
        if size >= CHUNK_BYTES:
            return


def _now_ticks() -> int:
    return time.time_ns() // 100
