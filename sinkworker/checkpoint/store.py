"""The durable position: checkpoints in `$connectors/{id}/checkpoints`, in the documented shape (contract §7.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import orjson
from kurrentdbclient import NewEvent

from sinkworker.connectors import streams
from sinkworker.database import Database, StoredEvent, WrongRevision
from sinkworker.errors import OtherRelease
from sinkworker.model import Cursor, Epoch, Generation, Revision

VERSION = 1
"""Of what a checkpoint says beyond the documented shape. The first releases did not write it."""

NO_REVISION = -1
"""What a checkpoint says where the log's position is no record's. Readers expect a number."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The last checkpoint of a generation, or its start where none has been written (R3)."""

    cursor: Cursor
    revision: Revision | None
    """Where the checkpoint stream ended when this was read: what the next write expects. None: there is no stream."""


class CheckpointStore:
    """One connector's checkpoints within one generation; those of any other are not seen (R3)."""

    def __init__(
        self, database: Database, connector_id: str, generation: Generation, start: Cursor, stream_id: str = ""
    ) -> None:
        """`stream_id`: the one stream that the connector delivers, if it is one; checkpoints name it."""
        self._database = database
        self._connector_id = connector_id
        self._stream = streams.checkpoints(connector_id)
        self._generation = generation
        self._start = start
        self._stream_id = stream_id

    def load(self) -> Checkpoint:
        """The newest checkpoint of this generation. Raises what `Database` raises, and OtherRelease."""
        revision: Revision | None = None
        cursor = self._start
        for event in self._database.read_stream(self._stream):
            revision = event.revision
            found = self._cursor_of(event)
            if found is not None:
                cursor = max(cursor, found)
        return Checkpoint(cursor, revision)

    def advance(self, seen: Checkpoint, cursor: Cursor, epoch: Epoch) -> Checkpoint:
        """Write `cursor` if it is ahead, and answer the checkpoint that stands then. Durable once returned.

        Refused because somebody else wrote (R8): read again and decide again, never forced. It never moves back.
        """
        while cursor > seen.cursor:
            event = self._event(cursor, epoch)
            try:
                self._database.append(self._stream, seen.revision, [event])
            except WrongRevision:
                seen = self.load()
                continue
            following = Revision(0) if seen.revision is None else Revision(seen.revision + 1)
            return Checkpoint(cursor, following)
        return seen

    def _event(self, cursor: Cursor, epoch: Epoch) -> NewEvent:
        documented = {
            "consumerId": self._connector_id,
            "logPosition": str(max(0, cursor.commit)),
            "streamId": self._stream_id,
            "streamRevision": str(NO_REVISION if cursor.revision is None else cursor.revision),
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        ours = {"version": VERSION, "generation": self._generation, "epoch": epoch, "cursor": cursor.encode()}
        return NewEvent(
            type=streams.CHECKPOINT_TYPE,
            data=orjson.dumps(documented),
            metadata=orjson.dumps({"sinkworker": ours}),
            id=uuid4(),
        )

    def _cursor_of(self, event: StoredEvent) -> Cursor | None:
        """The event's cursor if it is a checkpoint of this generation. Raises OtherRelease."""
        if event.type != streams.CHECKPOINT_TYPE:
            return None
        try:
            ours = orjson.loads(event.metadata)["sinkworker"]
            if ours["generation"] != self._generation:
                return None
            if ours.get("version", VERSION) > VERSION:
                raise OtherRelease(
                    f"Checkpoint {event.revision} of {self._connector_id} has version {ours['version']}, this release "
                    f"knows {VERSION}.",
                    hint="Every process must run the same release of sinkworker, the newest that ever ran here.",
                )
            return Cursor.decode(ours["cursor"])
        except (ValueError, KeyError, TypeError):
            return None  # written by something else: it says nothing about this generation
