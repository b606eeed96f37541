"""Pure: which activations share a task.

A task costs more than delivering a few records, so at a low rate the lanes that need a worker wait for one together:
while a task has not been taken, those that follow it are held back for a moment, and leave as one when it is taken. A
task that finds an idle worker is never waited for, and under load each lane is a task of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from sinkworker.ledger.contract import Activation, Survey

FEW_RECORDS = 64
"""Up to so many records dispatched at once, lanes share tasks."""

HOLD_S = 0.1
"""The longest that an activation is held back: the task before it may be lost, or its lane resting after trouble."""


class Grouping:
    """The activations that no task has been sent for. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: list[Activation] = []
        self._since_s = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, activations: Sequence[Activation], now_s: float) -> None:
        """Lanes that became non-empty."""
        if activations and not self._waiting:
            self._since_s = now_s
        self._waiting += activations

    def due(self, survey: Survey, records: int, now_s: float) -> list[list[Activation]]:
        """The tasks to send now, where the ledger stands like this after a dispatch of so many records."""
        if not self._waiting:
            return []
        if records > FEW_RECORDS:
            tasks = [[activation] for activation in self._waiting]
        elif self._another_waits(survey) and now_s - self._since_s < HOLD_S:
            return []
        else:
            tasks = [self._waiting]
        self._waiting = []
        return tasks

    def rest(self) -> list[list[Activation]]:
        """What is left, in one task: nothing will follow it."""
        tasks, self._waiting = [self._waiting] if self._waiting else [], []
        return tasks

    def _another_waits(self, survey: Survey) -> bool:
        """Whether a lane whose task was sent waits for a worker. (Held lanes may be empty: then it seems too few.)"""
        return len(survey.mailboxes) - survey.held > len(self._waiting)
