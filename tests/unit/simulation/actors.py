"""Threads that run one at a time, each up to its next pause: any interleaving can be chosen, and chosen again."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Killed(BaseException):
    """What a killed actor meets at its pause. Like a SIGKILL, it is handled nowhere in the code under test."""


_running = threading.local()


class Actor:
    """One process of the simulation. Only `step` and `kill` are for the driver; `pause` is for the actor itself."""

    def __init__(self, name: str, body: Callable[[Actor], None]) -> None:
        self.name = name
        self.done = False
        self.error: BaseException | None = None
        self._body = body
        self._killed = False
        self._go = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @staticmethod
    def current() -> Actor:
        """The actor whose code is running: for code under test that knows of no actors."""
        actor: Actor = _running.actor
        return actor

    def step(self) -> None:
        """Let it run to its next pause, or to its end. Raises what it died of."""
        if self.done:
            return
        self._go.release()
        self._paused.acquire()
        if self.error is not None:
            raise self.error

    def kill(self) -> None:
        """End it where it stands."""
        if not self.done:
            self._killed = True
            self._go.release()
            self._thread.join()

    def pause(self) -> None:
        self._paused.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def _run(self) -> None:
        _running.actor = self
        self._go.acquire()
        try:
            if not self._killed:
                self._body(self)
        except Killed:
            pass
        except BaseException as exc:
            self.error = exc
        self.done = True
        self._paused.release()
