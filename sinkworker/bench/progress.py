"""What a benchmark says while it works: always on stderr, in place on a terminal, as lines anywhere else."""

from __future__ import annotations

from rich.console import Console
from rich.status import Status


class Progress:
    """A context. `phase` tells what is being done, `note` what has come of it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, soft_wrap=True)
        self._status: Status | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def phase(self, text: str) -> None:
        """Say what begins now. On a terminal the next one takes its place."""
        if self._status is not None:
            self._status.update(f"{text} …")
        else:
            self.note(f"{text} …")

    def update(self, text: str) -> None:
        """Say how far it is, on a terminal."""
        if self._status is not None:
            self._status.update(f"{text} …")

    def note(self, text: str) -> None:
        """Say something that stays visible."""
        self._console.print(text, markup=False, highlight=False)
