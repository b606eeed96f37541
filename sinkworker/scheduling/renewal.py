"""Pure: when the mark of an idle lane is committed again, so that it does not expire (X5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sinkworker.model import LaneNumber

LONGEST_S = 6 * 3600.0
"""The longest that a lane goes without a commit, where brokers keep offsets for days or do not say for how long."""

PER_RETENTION = 4
"""How often a lane is renewed at least in the time after which its mark expires."""


def interval_s(retention_s: float | None) -> float:
    """How long a lane may go without a commit, by how long the brokers keep an offset; None where they do not say."""
    return LONGEST_S if retention_s is None else min(LONGEST_S, retention_s / PER_RETENTION)


class Renewal:
    """Since when each lane of an epoch has been idle. Times are monotonic seconds."""

    def __init__(self, lanes: int, interval_s: float, now_s: float, random: Callable[[], float]) -> None:
        """`random` answers from 0 to 1. Nobody knows how old the marks are when an epoch begins: a random first wait
        sees to it that lanes are renewed even where no epoch lasts for an interval, and not all at once.
        """
        self._interval_s = interval_s
        self._due_s = {LaneNumber(lane): now_s + random() * interval_s for lane in range(lanes)}

    def used(self, lanes: Iterable[LaneNumber], now_s: float) -> None:
        """Batches have been dispatched to these."""
        for lane in lanes:
            self._due_s[lane] = now_s + self._interval_s

    def due(self, now_s: float) -> list[LaneNumber]:
        """The lanes that have been idle for long enough."""
        return [lane for lane, due_s in self._due_s.items() if due_s <= now_s]
