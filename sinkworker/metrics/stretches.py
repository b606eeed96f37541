"""Stretches of the log on their way, and when each began. Pure, and bounded however long the way is (P6)."""

from __future__ import annotations

from collections import deque

from sinkworker.model import Cursor

MOST = 1000
"""Of stretches. Beyond it the last one grows: its beginning stays exact, and so does that of the oldest."""


class Stretches:
    """When what ends at a cursor began, in the order of the log."""

    def __init__(self) -> None:
        self._stretches: deque[tuple[Cursor, float]] = deque()

    def add(self, end: Cursor, began_s: float) -> None:
        """What follows the last stretch, up to `end`. Nothing follows it where `end` is that of the last."""
        if self._stretches and self._stretches[-1][0] == end:
            return
        if len(self._stretches) == MOST:
            _, began_s = self._stretches.pop()
        self._stretches.append((end, began_s))

    def take(self, cursor: Cursor) -> list[float]:
        """Take away what ends at or before the cursor: when each of it began."""
        taken: list[float] = []
        while self._stretches and self._stretches[0][0] <= cursor:
            taken.append(self._stretches.popleft()[1])
        return taken

    def clear(self) -> None:
        self._stretches.clear()

    @property
    def oldest_s(self) -> float | None:
        """When the first of what is left began."""
        return self._stretches[0][1] if self._stretches else None
