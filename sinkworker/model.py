"""The values that travel between the stages: positions, cursors, records. Frozen, and importing nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering
from typing import ClassVar, NamedTuple, NewType

Position = NewType("Position", int)
"""A byte position in the database's log: 64 bits, strictly increasing, with gaps. Never computed, only copied."""

Revision = NewType("Revision", int)
"""An event's number in its stream, counted from 0."""

TICKS_PER_SECOND = 10_000_000
"""KurrentDB counts time in units of 100 ns, since 1970."""

Place = tuple[int, str]
"""A record's position and id: what names it in its batch. Events of an old explicit transaction share a position."""

LaneNumber = NewType("LaneNumber", int)
Epoch = NewType("Epoch", int)
Generation = NewType("Generation", str)
"""The id of the event that opened the generation: no other has it, not even in a database restored from a backup."""

SettingsId = NewType("SettingsId", str)
"""The id of the event that gave a connector its settings, for the same reason."""


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Cursor:
    """Where a reader stands: just after the record (or server checkpoint) at this place in the log.

    Ordered by commit, then prepare position (events of an old explicit transaction share a commit position). The
    revision and the id name the record, so that a database restored from a backup is noticed (R8); both are absent
    where the cursor is a server checkpoint. Only cursors that came from the database exist: no position is computed.
    """

    commit: Position
    prepare: Position
    revision: Revision | None = None
    record_id: str = ""

    BEGINNING: ClassVar[Cursor]
    """Before the first event of the log."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cursor) and (self.commit, self.prepare) == (other.commit, other.prepare)

    def __hash__(self) -> int:
        return hash((self.commit, self.prepare))

    def __lt__(self, other: Cursor) -> bool:
        return (self.commit, self.prepare) < (other.commit, other.prepare)

    def encode(self) -> str:
        """The form kept in Redis: its first 41 characters sort as the cursor does, since Lua has no 64-bit integers."""
        if self.commit < 0:
            return "-"
        revision = "" if self.revision is None else str(self.revision)
        return f"{self.commit:020d}.{self.prepare:020d}.{revision}.{self.record_id}"

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The cursor of `encode`'s text. Raises ValueError for any other text."""
        if text == "-":
            return cls.BEGINNING
        commit, prepare, revision, record_id = text.split(".", 3)
        return cls(
            Position(int(commit)), Position(int(prepare)), Revision(int(revision)) if revision else None, record_id
        )


Cursor.BEGINNING = Cursor(Position(-1), Position(-1))


class Record(NamedTuple):
    """One event on its way to Kafka. What routing needs is parsed; the rest stays in the bytes that came in.

    A tuple, since one is made for every event: a frozen dataclass takes five times as long.
    """

    commit: Position
    prepare: Position
    revision: Revision
    record_id: str
    stream: str
    type: str
    metadata: bytes
    """The event's custom metadata as stored: any bytes, JSON or not."""
    raw: bytes
    """The event as the database sent it: one protobuf message `ReadResp`."""

    @property
    def cursor(self) -> Cursor:
        """Just after this record."""
        return Cursor(self.commit, self.prepare, self.revision, self.record_id)


@dataclass(frozen=True, slots=True)
class Passed:
    """A mark in the stream of records: everything the filter lets through up to `cursor` has been handed over.

    Without a cursor it says only that the reader has caught up with the head of the log.
    """

    cursor: Cursor | None
    caught_up: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """What decides a record's lane. It depends on nothing that a replay would see differently."""

    partitions: int
    """The topic's partition count as first seen. A later count changes nothing within the generation.

    0 where the topic is a template: then the key alone decides the lane.
    """
    lanes: int
    keys: str
    """Fingerprint of the partition key settings."""

    def encode(self) -> str:
        return f"{self.partitions}/{self.lanes}/{self.keys}"

    @classmethod
    def decode(cls, text: str) -> Layout:
        partitions, lanes, keys = text.split("/", 2)
        return cls(int(partitions), int(lanes), keys)
