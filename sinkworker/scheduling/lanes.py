"""Between reader and ledger, without I/O: buffers per lane, adaptive batches, flow control, the frontier."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sinkworker.ledger import payload
from sinkworker.ledger.contract import Batch, Survey
from sinkworker.model import Cursor, LaneNumber, Record


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a connector's undelivered records (P6)."""

    batch_records: int = 500
    batch_bytes: int = 1 << 20
    """A batch stops growing here; a single larger record still makes a batch of its own."""
    eager_depth: int = 2
    """A mailbox with fewer batches takes any batch at once; one with more waits for a full batch."""
    lane_depth: int = 16
    """Most batches in a mailbox."""
    undelivered_bytes: int = 64 << 20
    """Buffered and dispatched bytes at which reading pauses."""
    record_bytes: int = 650
    """What a buffered record takes in memory beside the event: measured."""


_Place: TypeAlias = Cursor | Record
"""Where a reader stands: just after a record stands for its cursor, which few need and many have."""


@dataclass(slots=True)
class _Buffer:
    """What one lane collects: (the place just before the record, the record), and its bytes."""

    waiting: deque[tuple[_Place, Record]] = field(default_factory=deque)
    size: int = 0


class Lanes:
    """The records that were read and not yet dispatched.

    Under light load every record leaves at once as a batch of one. A lane whose mailbox holds `eager_depth` batches
    collects, so that under heavy load the fixed cost of a batch is shared by hundreds of records.
    """

    def __init__(self, start: Cursor, progress: Mapping[LaneNumber, Cursor], limits: Limits) -> None:
        self._read: _Place = start
        self._progress = dict(progress)
        self._limits = limits
        self._buffers: dict[LaneNumber, _Buffer] = {}
        self._buffered_bytes = 0
        self._mailboxes: Mapping[LaneNumber, int] = {}
        self._in_flight_bytes = 0
        self.skipped = 0
        """Records that a replay met again although their lane had delivered them (duplicates avoided)."""

    def offer(self, record: Record, lane: LaneNumber) -> None:
        """Take the next record that the filter let through. Records come in the order of the log."""
        before, self._read = self._read, record
        if self._progress and self._was_delivered(record, lane):
            self.skipped += 1
            return
        buffer = self._buffers.get(lane)
        if buffer is None:
            buffer = self._buffers[lane] = _Buffer()
        size = len(record.raw)
        buffer.waiting.append((before, record))
        buffer.size += size
        self._buffered_bytes += size + self._limits.record_bytes

    def _was_delivered(self, record: Record, lane: LaneNumber) -> bool:
        done = self._progress.get(lane)
        if done is None:
            return False
        if record.cursor <= done:
            return True
        del self._progress[lane]  # the lane is beyond it for good
        return False

    def passed(self, cursor: Cursor) -> None:
        """The reader stands at `cursor`; what lies between the last record and it, the filter kept back."""
        self._read = max(self.read, cursor)

    def observe(self, survey: Survey) -> None:
        """The mailboxes stand like this now."""
        self._mailboxes = survey.mailboxes
        self._in_flight_bytes = survey.in_flight_bytes

    @property
    def read(self) -> Cursor:
        """Where the reader stands."""
        return _cursor(self._read)

    @property
    def frontier(self) -> Cursor:
        """Every matching record at or before it is done or dispatched: it stops before the oldest buffered one (P1)."""
        return min((_cursor(buffer.waiting[0][0]) for buffer in self._buffers.values()), default=self.read)

    @property
    def buffered_records(self) -> int:
        return sum(len(buffer.waiting) for buffer in self._buffers.values())

    @property
    def full(self) -> bool:
        """Reading has to pause: as many bytes are undelivered as may be (P6)."""
        return self._buffered_bytes + self._in_flight_bytes >= self._limits.undelivered_bytes

    def take(self, limit: Cursor | None = None) -> list[Batch]:
        """Remove and return what leaves now. The caller dispatches it with the `frontier` read after this call.

        With a limit only batches that begin before it.
        """
        batches: list[Batch] = []
        for lane in list(self._buffers):
            depth = self._mailboxes.get(lane, 0)
            while depth < self._limits.lane_depth and self._leaves(lane, depth) and self._begins_before(lane, limit):
                batches.append(self._cut(lane))
                depth += 1
        return batches

    def holds(self, limit: Cursor) -> bool:
        """Whether `take` has something left that begins before it."""
        return any(self._begins_before(lane, limit) for lane in self._buffers)

    def _begins_before(self, lane: LaneNumber, limit: Cursor | None) -> bool:
        return limit is None or _cursor(self._buffers[lane].waiting[0][0]) < limit

    def renewal(self, lane: LaneNumber) -> Batch | None:
        """A batch without records that stands behind all that the lane has had; None for a lane that is not idle.

        Never behind the lane's progress, which an acknowledgement would put back.
        """
        if lane in self._buffers or self._mailboxes.get(lane):
            return None
        last = max(self.read, self._progress.get(lane, self.read))
        return Batch(lane=lane, before=self.read, last=last, count=0, payload=payload.pack([]))

    def _leaves(self, lane: LaneNumber, depth: int) -> bool:
        buffer = self._buffers.get(lane)
        if buffer is None:
            return False
        fills = len(buffer.waiting) >= self._limits.batch_records or buffer.size >= self._limits.batch_bytes
        return fills or depth < self._limits.eager_depth

    def _cut(self, lane: LaneNumber) -> Batch:
        buffer = self._buffers[lane]
        waiting = buffer.waiting
        before, record = waiting.popleft()
        last, raws, size = record, [record.raw], len(record.raw)
        while waiting and len(raws) < self._limits.batch_records:
            record = waiting[0][1]
            larger = size + len(record.raw)
            if larger > self._limits.batch_bytes:
                break
            waiting.popleft()
            last, size = record, larger
            raws.append(record.raw)
        buffer.size -= size
        self._buffered_bytes -= size + len(raws) * self._limits.record_bytes
        if not waiting:
            del self._buffers[lane]
        return Batch(
            lane=lane,
            before=_cursor(before),
            last=last.cursor,
            count=len(raws),
            payload=payload.pack(raws),
        )


def _cursor(place: _Place) -> Cursor:
    return place if isinstance(place, Cursor) else place.cursor
