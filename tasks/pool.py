"""The worker's pool: Celery's own, but for how its processes leave."""

from __future__ import annotations

import os

from celery.concurrency import asynpool, prefork


class Child(asynpool.Worker):  # type: ignore[misc]
    """A pool process that leaves as soon as it is told to and has nothing left to do."""

    def _ensure_messages_consumed(self, completed: int) -> bool:
        """Not awaited.

        Celery's parent forgets a task that it has handed over just before it stops or loses the broker, and then does
        not read what the child says of it: the child waited 30 s for that, and the parent for the child.
        """
        return False

    def _do_exit(self, pid: int, exitcode: int | None, exc: Exception | None = None) -> None:
        """Without the second that billiard gives the parent to read: what is in a pipe outlives who wrote it."""
        code = exitcode if exitcode is not None else int(exc is not None)
        try:
            if self.on_exit is not None:
                self.on_exit(pid, code)
        finally:
            os._exit(code)


class AsynPool(asynpool.AsynPool):  # type: ignore[misc]
    Worker = Child


class Pool(prefork.TaskPool):  # type: ignore[misc]
    """Celery's prefork pool of such processes."""

    Pool = AsynPool
