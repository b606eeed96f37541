"""Show a demo's figures as they grow: live on a terminal, as occasional lines anywhere else. Always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from sinkworker.demo.figures import Figures

LINE_EVERY_S = 2.0
BAR_WIDTH = 40


class Progress(Protocol):
    """A context; inside, `update` is called several times a second."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, figures: Figures) -> None:
        """Show these figures."""

    def note(self, text: str) -> None:
        """Say something that stays visible."""


def for_stderr() -> Progress:
    """What suits where stderr goes."""
    return LiveProgress(Console(stderr=True)) if sys.stderr.isatty() else LineProgress()


class LineProgress:
    """A line when the phase changes, and one every two seconds while the figures do."""

    def __init__(self) -> None:
        self._phase = ""
        self._line = ""
        self._said = float("-inf")

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, figures: Figures) -> None:
        if figures.phase != self._phase:
            self._phase = figures.phase
            self._say(f"{figures.phase} …")
        elif (line := _line(figures)) != self._line and time.monotonic() - self._said >= LINE_EVERY_S:
            self._line = line
            self._say(line)

    def note(self, text: str) -> None:
        self._say(f"! {text}")

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class LiveProgress:
    """Bars and figures that are drawn again in place; notes stay above them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = Spinner("dots")
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, figures: Figures) -> None:
        self._live.update(self._table(figures))

    def note(self, text: str) -> None:
        self._console.print(f"! {text}", style="yellow", markup=False, highlight=False)

    def _table(self, figures: Figures) -> Table:
        self._spinner.update(text=figures.phase)
        table = Table.grid(padding=(0, 2))
        for name, count in (("appended", figures.appended), ("delivered", figures.delivered)):
            bar = ProgressBar(total=figures.total, completed=min(count, figures.total), width=BAR_WIDTH)
            table.add_row(name, bar, f"{count:,} of {figures.total:,}")
        table.add_row("checkpoint", _checkpoint(figures), f"lag {figures.lag:,}")
        whole = Table.grid()
        whole.add_row(self._spinner)
        whole.add_row(table)
        return whole


def _line(figures: Figures) -> str:
    return (
        f"appended {figures.appended:,} of {figures.total:,}, delivered {figures.delivered:,},"
        f" checkpoint {_checkpoint(figures)}, lag {figures.lag:,}"
    )


def _checkpoint(figures: Figures) -> str:
    return "none yet" if figures.checkpoint is None else f"at {figures.checkpoint}"
