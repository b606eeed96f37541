"""What Celery, kombu and billiard log of things that happen to a sound program: one line each, unless at DEBUG."""

from __future__ import annotations

import logging

from billiard.exceptions import WorkerLostError
from kombu.exceptions import OperationalError
from kombu.transport.virtual.base import W_NO_CONSUMERS
from redis.exceptions import RedisError

LIBRARIES = ("celery", "kombu", "multiprocessing")

EXITED = "Process %r pid:%r exited with %r"
"""What billiard says when a process of its pool has died."""

REPLACED = "%s (pid %s) died of %s; another one is started, and the lanes it held are delivered when its claims run out"


NO_TLS = "Secure redis scheme specified (rediss) with no ssl options, defaulting to insecure SSL behaviour."
"""Not so: Celery makes a connection of the URL alone, and never connects it, to show it without its password."""

NO_NEWS = ("Couldn't ack %r, reason:%r", W_NO_CONSUMERS, NO_TLS)
"""The message's side of a lost connection, which the consumer tells, and of a stop: it goes back to the queue."""

CONSUMER = "celery.worker.consumer.consumer"
LOST = "consumer: Connection to broker lost."
NOT_FOUND = "consumer: Cannot connect to"
"""How what Celery's consumer says of a Redis that is away begins."""

REFUSALS = ("[SSL: ", "WRONGPASS", "invalid username-password pair", "Authentication required")
"""What tells a Redis that does not let us in from one that is away: it needs a person, so it is said in any case."""

LONGEST_REASON = 200
"""Characters."""


def shorten(text: str) -> str:
    """What is logged of a message that is none of ours: it may be of any length."""
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


class OneLine(logging.Filter):
    """Takes the traceback from what a library logs when a server or a process went away.

    A record of ours keeps its traceback, and so does that of any other exception: somebody must find that bug.
    """

    def __init__(self) -> None:
        super().__init__()
        self._away = False
        self._refused = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        if record.name == CONSUMER and self._repeats(record):
            return False
        if record.msg == EXITED:
            record.msg = REPLACED
        error = record.exc_info[1] if record.exc_info else None
        error = getattr(error, "exc", error)  # of what a process of the pool raised, billiard logs a wrapping
        if isinstance(error, WorkerLostError) and record.name == "celery.worker.request":
            return False  # the task's side of what billiard has said
        if record.msg in NO_NEWS:
            return False
        if isinstance(error, (OSError, RedisError, OperationalError, WorkerLostError)):
            record.exc_info = None
        return True

    def connected(self) -> None:
        """Redis answers: that it is away will be news again."""
        self._away = self._refused = False

    def _repeats(self, record: logging.LogRecord) -> bool:
        """Whether it only says again, at the next attempt to connect, that Redis is away."""
        text = record.getMessage()
        if not text.startswith((LOST, NOT_FOUND)):
            return False
        refused = any(each in text for each in REFUSALS)
        repeats = self._refused if refused else self._away
        self._away, self._refused = True, self._refused or refused
        what = "The connection to Redis was lost" if text.startswith(LOST) else text.splitlines()[0].rstrip(".")
        record.msg, record.args = "%s. Tasks wait until it answers.", (what.removeprefix("consumer: "),)
        return repeats


one_line = OneLine()
"""This process's."""
