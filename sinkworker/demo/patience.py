"""Calls of the demo's own that outlast a server's restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sinkworker.errors import Transient
from sinkworker.process import Stopped

PATIENCE_S = 60.0
PAUSE_S = 0.2

Answer = TypeVar("Answer")


def patiently(call: Callable[[], Answer], stop: threading.Event, patience_s: float = PATIENCE_S) -> Answer:
    """The call's answer, tried again while it raises Transient, at most so long. Raises Stopped when told to stop."""
    deadline = time.monotonic() + patience_s
    while True:
        if stop.is_set():
            raise Stopped
        try:
            return call()
        except Transient:
            if time.monotonic() > deadline:
                raise
        stop.wait(PAUSE_S)
