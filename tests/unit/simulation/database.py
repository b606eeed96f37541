"""What the database keeps, durably: the log, the epochs, the generations, the checkpoints, the drained progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sinkworker.errors import Stale
from sinkworker.model import Cursor, Epoch, LaneNumber, Position, Record, Revision


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the log; without a lane the filter keeps it back."""

    record: Record
    lane: LaneNumber | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    generation: int
    cursor: Cursor


@dataclass
class Database:
    log: list[Event] = field(default_factory=list)
    epoch: int = 0
    generation: int = 1
    checkpoints: list[Checkpoint] = field(default_factory=list)
    drained: tuple[int, Mapping[LaneNumber, Cursor]] = (0, {})
    honours_old_generations: bool = False
    checks_expectation: bool = True

    def append(self, lane: LaneNumber | None) -> None:
        position = Position(10 * (len(self.log) + 1))
        cursor = Cursor(position, position, Revision(len(self.log)), f"id-{position}")
        self.log.append(Event(Record(cursor, "s", "T", b"", str(position).encode()), lane))

    def take_over(self) -> Epoch:
        self.epoch += 1
        return Epoch(self.epoch)

    def checkpoint(self) -> tuple[Cursor, int]:
        """The newest of this generation, and the revision that the next write expects."""
        mine = [
            each.cursor
            for each in self.checkpoints
            if each.generation == self.generation or self.honours_old_generations
        ]
        return max(mine, default=Cursor.BEGINNING), len(self.checkpoints)

    def write_checkpoint(self, generation: int, cursor: Cursor, expected: int) -> None:
        if self.checks_expectation and expected != len(self.checkpoints):
            raise Stale("Somebody else wrote a checkpoint.")
        self.checkpoints.append(Checkpoint(generation, cursor))

    def read(self, after: Cursor, limit: int) -> list[Event]:
        first = 0 if after == Cursor.BEGINNING else after.commit // 10
        return self.log[first : first + limit]
