"""When a watermark is worth a checkpoint, without I/O (contract §7.2)."""

from __future__ import annotations

from dataclasses import dataclass

from sinkworker.connectors.settings import Autocommit
from sinkworker.ledger.contract import Watermark
from sinkworker.model import Cursor, Epoch


@dataclass(slots=True)
class Cadence:
    """How long and how much has waited since the last checkpoint. A hint: a wrong one costs a write, never a record."""

    waiting_since_s: float | None = None
    epoch: Epoch | None = None
    committed_records: int = 0

    def due(self, watermark: Watermark, committed: Cursor, autocommit: Autocommit, now_s: float) -> bool:
        """Whether to write now: the interval has passed since something waited, or enough records wait."""
        if self.epoch != watermark.epoch:
            self.epoch, self.committed_records = watermark.epoch, 0
        if not autocommit.enabled or watermark.cursor <= committed:
            self.waiting_since_s = None
            return False
        if self.waiting_since_s is None:
            self.waiting_since_s = now_s
        waited_ms = (now_s - self.waiting_since_s) * 1000
        waiting_records = watermark.acked_records - self.committed_records
        return waited_ms >= autocommit.interval_ms or waiting_records >= autocommit.records_threshold

    def committed(self, watermark: Watermark) -> None:
        """The watermark has been written."""
        self.waiting_since_s = None
        self.committed_records = watermark.acked_records
