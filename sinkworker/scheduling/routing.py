"""Pure: which lane a record goes to, if to any. Runs for every record."""

from __future__ import annotations

from sinkworker.connectors.settings import KeySettings
from sinkworker.errors import Undeliverable
from sinkworker.keys import KeyExtractor, lane_by_key, lane_of, placement
from sinkworker.model import Cursor, LaneNumber, Layout, Record
from sinkworker.source.filters import is_ours


class Router:
    """Routes the records of one subscription."""

    def __init__(self, keys: KeySettings, layout: Layout, discard_to: Cursor, *, dead_letters: bool = False) -> None:
        """`discard_to`: where the reading had to begin earlier than wanted, the cursor from which on records count.

        `dead_letters`: a record whose key cannot be taken goes to a lane as one without a key does; the worker meets
        the same and puts it aside.
        """
        self._key = KeyExtractor(keys).key
        self._partition_of = placement(keys)
        self._partitions, self._lanes = layout.partitions, layout.lanes
        self._dead_letters = dead_letters
        self._discard_to = discard_to
        self._discards = discard_to != Cursor.BEGINNING

    def lane_of(self, record: Record) -> LaneNumber | None:
        """The record's lane; None for one that nobody wants. Raises Undeliverable where its key cannot be told, unless
        dead letters are put aside.

        Bookkeeping of ours moves the log. It is nobody's record, and following it would make more of it.
        """
        if self._discards and record.cursor <= self._discard_to:
            return None
        if is_ours(record.stream, record.type):
            return None
        try:
            key = self._key(record.stream, record.metadata)
        except Undeliverable as exc:
            if not self._dead_letters:
                raise Undeliverable(
                    f"Record {record.record_id} at position {record.commit}: {exc.message}",
                    hint=exc.hint,
                    code=exc.code,
                    position=record.commit,
                ) from exc
            key = None
        encoded = key.encode() if key else None
        if not self._partitions:
            return lane_by_key(encoded, record.stream, self._lanes)
        partition = self._partition_of(encoded, record.record_id, self._partitions)
        return lane_of(partition, self._lanes)
