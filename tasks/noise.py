"""What Celery, kombu and billiard log of things that happen to a sound program: one line each, unless at DEBUG."""

from __future__ import annotations

import logging

from billiard.exceptions import WorkerLostError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

LIBRARIES = ("celery", "kombu", "multiprocessing")

EXITED = "Process %r pid:%r exited with %r"
"""What billiard says when a process of its pool has died."""

REPLACED = "%s (pid %s) died of %s; another one is started, and the lanes it held are delivered when its claims run out"


class OneLine(logging.Filter):
    """Takes the traceback from what a library logs when a server or a process went away.

    A record of ours keeps its traceback, and so does that of any other exception: somebody must find that bug.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        if record.msg == EXITED:
            record.msg = REPLACED
        error = record.exc_info[1] if record.exc_info else None
        error = getattr(error, "exc", error)  # of what a process of the pool raised, billiard logs a wrapping
        if isinstance(error, WorkerLostError) and record.name == "celery.worker.request":
            return False  # the task's side of what billiard has said
        if isinstance(error, (OSError, RedisError, OperationalError, WorkerLostError)):
            record.exc_info = None
        return True
