"""Pure: a connector that cannot go on, while everything before the record that it stops for is still delivered (P5)."""

from __future__ import annotations

import json

from sinkworker.errors import Undeliverable
from sinkworker.ledger.contract import Survey
from sinkworker.model import Cursor

STANDSTILL_S = 30.0
"""How long nothing may move before the rest is left to the next start: a dead worker's lanes are free again by then."""


class Condemned(Undeliverable):
    """A worker has found what stops the connector, and counted it."""


class Halt:
    """Why one epoch cannot go on, if it cannot, and up to where it is delivered nevertheless. Times are monotonic."""

    def __init__(self) -> None:
        self.reason: Undeliverable | None = None
        self.limit: Cursor | None = None
        """What is dispatched ends before it."""
        self._seen: object = None
        self._moved_s = 0.0

    def meet(self, reason: Undeliverable) -> None:
        """The scheduler itself has read the record that stops the connector, and reads no further."""
        self.reason = reason
        assert reason.position is not None
        self.limit = Cursor(reason.position, reason.position)

    def observe(self, survey: Survey, now_s: float) -> None:
        """The ledger stands like this now. What workers have found lies before what the scheduler has read."""
        if survey.failure:
            found = json.loads(survey.failure)
            self.reason = Condemned(found["message"], code=found["code"])
            self.limit = survey.limit
        seen = survey.in_flight_bytes, survey.mailboxes, survey.limit
        if seen != self._seen:
            self._seen, self._moved_s = seen, now_s

    def is_over(self, survey: Survey, now_s: float, *, holds_some: bool) -> bool:
        """Whether there is nothing to wait for, after `observe`; `holds_some`: something before the limit is not
        dispatched yet.
        """
        if self.reason is None:
            return False
        if self.limit == Cursor.BEGINNING or not (holds_some or survey.going_on):
            return True
        return now_s - self._moved_s > STANDSTILL_S
