"""What was read and is not delivered yet, in numbers for people. Pure."""

from __future__ import annotations

from collections import deque

from sinkworker.ledger.contract import Survey, Watermark
from sinkworker.metrics.tally import Gauges
from sinkworker.model import Cursor


class Arrears:
    """How far an epoch's deliveries are behind what it has read."""

    def __init__(self) -> None:
        self.dispatched_records = 0
        self._read: deque[tuple[Cursor, float]] = deque()

    def read(self, created_s: float, last: Cursor) -> None:
        """Records were read: the first of them created so many seconds after 1970, the last standing at `last`."""
        self._read.append((last, created_s))

    def gauges(self, survey: Survey, watermark: Watermark, buffered_records: int) -> Gauges:
        """As it is shown: records behind, creation time of the oldest of them (0 without any), batches, lanes."""
        while self._read and self._read[0][0] <= watermark.cursor:
            self._read.popleft()
        queued = self.dispatched_records - watermark.acked_records
        return {
            "position": watermark.cursor.commit,
            "records": queued + buffered_records,
            "oldest": self._read[0][1] if self._read else 0,
            "queued": queued,
            "batches": watermark.in_flight_batches,
            "lanes": {str(lane): depth for lane, depth in survey.mailboxes.items()},
        }
