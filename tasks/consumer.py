"""The worker's consumer: Celery's own, but for what it does when Redis was away, and with what is no task."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker import consumer
from kombu.exceptions import OperationalError
from redis.exceptions import OutOfMemoryError, RedisError

from sinkworker.bell import pause
from tasks import noise

log = logging.getLogger(__name__)

RECONNECT_S = 1
LONGEST_RECONNECT_S = 3

FULL_S = 5.0
"""A Redis that was full within this time may still be."""


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery ships no annotations
    """Comes back soon after the broker does, and says in one line what it drops."""

    _found_full_s = float("-inf")

    def ensure_connected(self, conn: Any) -> Any:
        # Celery's own pauses grow to 30 s, however short the outage.
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=RECONNECT_S, interval_step=1, interval_max=LONGEST_RECONNECT_S
        )
        connected = super().ensure_connected(conn)
        if time.monotonic() - self._found_full_s > FULL_S:
            noise.one_line.connected()
        return connected

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        super().on_connection_error_before_connected(exc)
        self._wait_for_room(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        super().on_connection_error_after_connected(exc)
        self._wait_for_room(exc)

    def _wait_for_room(self, exc: Exception) -> None:
        """A full Redis takes the connection at once, and then nothing that has to be stored."""
        if isinstance(exc, OutOfMemoryError):
            self._found_full_s = time.monotonic()
            pause(RECONNECT_S)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            try:
                _refuse_time_limit(message.headers)
                handle(message)
            except (OSError, RedisError, OperationalError):
                raise  # of the connection: the consumer connects again
            except Exception as exc:  # headers are taken for what they should be
                self._drop(message, exc)

        return on_task_received

    def on_unknown_message(self, body: Any, message: Any) -> None:
        self._drop(message, "it names no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._drop(message, f"there is no task {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._drop(message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._drop(message, exc)

    def _drop(self, message: Any, why: Exception | str) -> None:
        what = why if isinstance(why, str) else f"{type(why).__name__}: {why}"
        log.error("dropped a message of the queue: %s", noise.shorten(what), exc_info=log.isEnabledFor(logging.DEBUG))
        message.reject_log_error(log, self.connection_errors)


def _refuse_time_limit(headers: dict[str, Any]) -> None:
    """Only the pool would look at it, and an error there ends the worker. We never send one."""
    if any(headers.get("timelimit") or ()):
        raise InvalidTaskError("it has a time limit")
