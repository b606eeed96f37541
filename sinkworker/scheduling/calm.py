"""When a scheduler that stands by may take over: after an outage of the database, whoever ran a connector goes first.

A scheduler that does not reach the database does not keep its leases, so that one that does takes over. Where none
reaches it, the leases run out all the same; who takes them once it answers would otherwise be chance, and each change
of hands ends an epoch and has records sent again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sinkworker.database import TIMEOUT_S

SETTLED_S = 3.0
"""How long the database must have answered again. By then whoever reaches it has found out and keeps its leases."""


class Calm:
    """Whether the database answers, and has for long enough. Asked by other threads than the one that tells."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since = float("-inf")
        """When it began to answer; a scheduler that starts knows of no outage."""
        self._asked_at: float | None = None

    def asks(self) -> None:
        """The database is asked something."""
        with self._lock:
            self._asked_at = self._clock()

    def answered(self) -> None:
        """It has answered."""
        with self._lock:
            self._asked_at = None
            if self._since == float("inf"):
                self._since = self._clock()

    def failed(self) -> None:
        """It has not."""
        with self._lock:
            self._asked_at = None
            self._since = float("inf")

    def __call__(self) -> bool:
        """False in an outage, and for a while after it. One answer that takes long may be the beginning of one."""
        with self._lock:
            now = self._clock()
            overdue = self._asked_at is not None and now - self._asked_at > TIMEOUT_S
            return not overdue and now - self._since >= SETTLED_S
