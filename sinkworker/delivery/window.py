"""A worker's hold on one lane, without I/O: what to produce next, and which batches may be acknowledged."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from sinkworker.ledger.contract import Batch
from sinkworker.model import Place


@dataclass(slots=True)
class InFlight:
    """A batch at the broker. `outstanding` counts its records that are produced and not confirmed."""

    batch: Batch
    outstanding: int = 0
    complete: bool = False
    """All of its records have been produced."""
    reached: Place | None = None
    """The last record that was handed to the producer or put aside."""
    unconfirmed: list[Place] = field(default_factory=list)
    """The records that the producer reported as not taken: after it was purged, all of `outstanding`."""
    produced: int = 0
    """Its records that were made Kafka messages: the filter may keep some back."""
    first_position: int | None = None
    """Where its first record stands in the log, once that has been produced."""
    created_s: list[float] = field(default_factory=list)
    """When the events of its messages were created, in seconds since 1970."""
    begun_s: float = field(default_factory=time.monotonic)

    @property
    def confirmed(self) -> bool:
        return self.complete and self.outstanding == 0


class Window:
    """The batches of one lane that a worker was handed and has not acknowledged, in order.

    Batches start in order, at most `limit` of them are unconfirmed at a time, and they are acknowledged in order,
    each only when every one of its records is confirmed (P1, P2).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._handed: deque[Batch] = deque()
        self._in_flight: deque[InFlight] = deque()
        self.after = 0
        """Number of the last batch that the ledger handed out; 0 before the first."""

    def hand(self, batches: list[Batch]) -> None:
        """Take what the ledger answered to `next`."""
        for batch in batches:
            self._handed.append(batch)
            self.after = batch.number

    @property
    def room(self) -> int:
        """How many more batches are worth asking for."""
        return max(0, self._limit - len(self._handed) - len(self._in_flight))

    @property
    def idle(self) -> bool:
        return not self._handed and not self._in_flight

    def start(self) -> InFlight | None:
        """The next batch to produce, now in flight; None when nothing may start."""
        if not self._handed or len(self._in_flight) >= self._limit:
            return None
        started = InFlight(self._handed.popleft())
        self._in_flight.append(started)
        return started

    def begin_anew(self, limit: int) -> None:
        """Have what is in flight start again, at most `limit` batches at a time."""
        self._limit = limit
        self._handed.extendleft(flight.batch for flight in reversed(self._in_flight))
        self._in_flight.clear()

    def ackable(self) -> list[InFlight]:
        """The batches at the front whose every record is confirmed; none behind an unconfirmed one."""
        ready: list[InFlight] = []
        for each in self._in_flight:
            if not each.confirmed:
                break
            ready.append(each)
        return ready

    def acked(self) -> InFlight:
        """The ledger has taken the acknowledgement of the first batch: forget it."""
        return self._in_flight.popleft()

    @property
    def in_flight(self) -> Sequence[InFlight]:
        """The batches that have started, in order."""
        return self._in_flight
