"""What was read and is not delivered yet, in numbers for people. Pure."""

from __future__ import annotations

from sinkworker.ledger.contract import Survey, Watermark
from sinkworker.metrics.stretches import Stretches
from sinkworker.metrics.tally import Gauges
from sinkworker.model import Cursor


class Arrears:
    """How far an epoch's deliveries are behind what it has read."""

    def __init__(self) -> None:
        self.dispatched_records = 0
        self.live = False
        """The database has said that there is no more, and sends what is appended as it comes."""
        self._read = Stretches()

    def read(self, created_s: float, last: Cursor) -> None:
        """Records were read: the first of them created so many seconds after 1970, the last standing at `last`."""
        self._read.add(last, created_s)

    def gauges(self, survey: Survey, watermark: Watermark, buffered_records: int) -> Gauges:
        """As it is shown: records behind, creation time of the oldest of them (0 without any), batches, lanes.

        `current` is whether everything that the database has for this connector is delivered.
        """
        queued = self.dispatched_records - watermark.acked_records
        behind = queued + buffered_records
        if not behind:
            self._read.clear()
        self._read.take(watermark.cursor)
        return {
            "position": watermark.cursor.commit,
            "current": self.live and not behind,
            "records": behind,
            "oldest": self._read.oldest_s or 0,
            "queued": queued,
            "batches": watermark.in_flight_batches,
            "lanes": {str(lane): depth for lane, depth in survey.mailboxes.items()},
        }
