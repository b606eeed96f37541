"""What can be asked of the writer, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sinkworker.local.kurrentdb.records import ProposedEvent

# Expected versions below the revisions, numbered as the server's messages have them.
NO_STREAM = -1
ANY = -2
STREAM_EXISTS = -4

# What the events of one append may take together.
MAX_APPEND_BYTES = 1024 * 1024


@dataclass(frozen=True)
class AppendRequest:
    """Append `events` to `stream` if it is at version `expected`; all of them or none."""

    stream: str
    expected: int
    events: Sequence[ProposedEvent]


@dataclass(frozen=True)
class DeleteRequest:
    """Hide all events of `stream` from its readers; the next append continues its numbers."""

    stream: str
    expected: int


@dataclass(frozen=True)
class TombstoneRequest:
    """Close `stream` for ever."""

    stream: str
    expected: int


Request = AppendRequest | DeleteRequest | TombstoneRequest


@dataclass(frozen=True)
class Written:
    """Done, now or by an earlier request with the same event ids.

    `revision` and `position` are the last event's; the revision is -1 where an empty append met no stream.
    """

    revision: int
    position: int


@dataclass(frozen=True)
class WrongVersion:
    """Nothing written: the stream is at `actual`, -1 if it does not exist."""

    actual: int


@dataclass(frozen=True)
class StreamGone:
    """Nothing written: the stream has a tombstone, or is deleted where it was expected to exist."""


Outcome = Written | WrongVersion | StreamGone
