"""Places where a test has a process die, so that a crash is met there by intention and not by luck.

Without the variable that names the tests' folder, which nothing but tests sets, reaching one does nothing.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum

from sinkworker import config


class CrashPoint(StrEnum):
    """Between two steps that only a crash can tear apart."""

    CONFIRMED = "worker-confirmed"
    """Kafka has confirmed batches that are not acknowledged yet."""
    ACKNOWLEDGED = "worker-acknowledged"
    """They are acknowledged, and the lane is still held."""
    DISPATCHED = "scheduler-dispatched"
    """Batches are in their mailboxes, and no task says so."""
    ENQUEUED = "scheduler-enqueued"
    """The task is sent, and nothing has been read since."""
    WATERMARK = "coordinator-watermark"
    """The watermark is read, and not yet a checkpoint."""


_FOLDER = config.crash_folder()


def reach(point: CrashPoint) -> None:
    """Die at once, as by SIGKILL, if the tests' folder has a file of this name; the file is gone then."""
    if _FOLDER is None:
        return
    try:
        (_FOLDER / point).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
