"""What the one thread that works for a connector waits for: a bell that others ring, and what comes in on sockets."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Mapping
from typing import Protocol


def pause(seconds: float) -> None:
    """Sleep. Unlike `time.sleep`, also where libfaketime has the wall clock jump and leaves the others alone."""
    threading.Event().wait(seconds)


class Bell(Protocol):
    """Rung by any thread, cleared and waited for by one. `threading.Event` is one."""

    def set(self) -> None:
        """Ring: whoever waits goes on, or does not begin to wait."""

    def clear(self) -> None:
        """From now on only new rings count."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a ring, at most `timeout` seconds; whether there was one."""


class SocketBell:
    """A bell that can be waited for together with sockets, so that a reader needs no thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rung = False
        self._closed = True  # until there is something to close
        self._out, self._in = os.pipe()
        self._closed = False
        os.set_blocking(self._out, False)

    def set(self) -> None:
        with self._lock:
            if not self._rung and not self._closed:
                self._rung = True
                os.write(self._in, b"!")

    def clear(self) -> None:
        with self._lock:
            if self._rung and not self._closed:
                self._rung = False
                os.read(self._out, 1)

    def wait(self, timeout: float | None = None) -> bool:
        self.wait_with({}, timeout)
        return self._rung

    def wait_with(self, sockets: Mapping[int, int], timeout: float | None) -> list[tuple[int, int]]:
        """Wait for a ring or one of the sockets, at most `timeout` seconds; the sockets that are ready, and for what.

        A socket is a file descriptor, and what it is waited for (and ready for) a mask of `select.POLL…`.
        """
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        for descriptor, mask in sockets.items():
            poll.register(descriptor, mask)
        ready = poll.poll(None if timeout is None else timeout * 1000)
        return [each for each in ready if each[0] != self._out]

    def close(self) -> None:
        """Let go of its descriptors. It may still be rung, which nobody hears."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._out)
                os.close(self._in)

    def __del__(self) -> None:
        self.close()
