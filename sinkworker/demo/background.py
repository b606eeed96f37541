"""A function at work in a thread of its own, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """Starts at once. The process may end without it: no result is waited for that nobody asks for."""

    def __init__(self, work: Callable[[], Result], name: str) -> None:
        self._work = work
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def done(self) -> bool:
        """Whether it came to an end, a good one or a bad one."""
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Give it so long to come to an end."""
        self._thread.join(timeout_s)

    def result(self) -> Result:
        """Wait for what the function answers, or raises."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as exc:  # whoever asks for the result gets it
            self._error = exc
