"""Keep programs running: start them, start again what dies, stop them in turn."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sinkworker.local.family import Family

QUICK_DEATH_S = 3.0
"""A program that lived shorter than this is given a growing pause before its next start."""
LONGEST_PAUSE_S = 10.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep running."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path

    def last_lines(self, count: int = 8) -> list[str]:
        """The end of its log; empty when there is none."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
        except OSError:
            return []


@dataclass(frozen=True, slots=True)
class Death:
    """A program ended though nobody stopped it."""

    program: Program
    code: int
    """As subprocess gives it: negative for a signal."""
    quick: int
    """How many times in a row it has died soon after its start, this time included: 0 if it lived for a while."""
    again_in_s: float

    def __str__(self) -> str:
        how = f"was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"ended with code {self.code}"
        return f"{self.program.name} {how}; starting it again{f' in {self.again_in_s:g} s' if self.again_in_s else ''}"


@dataclass(slots=True)
class _Running:
    program: Program
    process: subprocess.Popen[bytes] | None
    since: float
    quick: int = 0


class Supervisor:
    """Programs of one family, by name. Driven by calls of `check`; has no thread of its own."""

    def __init__(self, family: Family, on_death: Callable[[Death], None]) -> None:
        """`on_death` hears of every program that ended by itself, before it is started again."""
        self._family = family
        self._on_death = on_death
        self._running: dict[str, _Running] = {}

    def start(self, program: Program) -> None:
        """Start a program under a name that is not yet taken. Raises Misconfigured when that is not possible."""
        assert program.name not in self._running
        self._running[program.name] = _Running(program, self._spawn(program), time.monotonic())

    def check(self) -> None:
        """Report and start again what died since the last call. Call it several times a second."""
        for each in self._running.values():
            if each.process is None:
                if time.monotonic() >= each.since:
                    each.process, each.since = self._spawn(each.program), time.monotonic()
            elif (code := each.process.poll()) is not None:
                self._bury(each, code)

    def exit_code(self, name: str) -> int | None:
        """The code the program's present process ended with; None while it runs."""
        each = self._running[name]
        return None if each.process is None else each.process.poll()

    def pid(self, name: str) -> int | None:
        """The program's process; None between its death and its next start."""
        each = self._running[name]
        return None if each.process is None else each.process.pid

    def forget(self, name: str) -> None:
        """Stop supervising a program that has ended, so that its name is free again."""
        del self._running[name]

    def stop(self, names: Collection[str], patience_s: float) -> list[str]:
        """Ask these programs to end, kill those that do not within `patience_s`; answer the names of the killed."""
        ending = {name: each.process for name in names if (each := self._running.pop(name, None)) and each.process}
        for process in ending.values():
            process.terminate()
        deadline = time.monotonic() + patience_s
        while any(process.poll() is None for process in ending.values()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        late = [name for name, process in ending.items() if process.poll() is None]
        for name in late:
            ending[name].kill()
            ending[name].wait()
        return late

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        return self._family.spawn(program.argv, env=program.env, cwd=program.cwd, log=program.log)

    def _bury(self, each: _Running, code: int) -> None:
        now = time.monotonic()
        each.quick = each.quick + 1 if now - each.since < QUICK_DEATH_S else 0
        pause = min(LONGEST_PAUSE_S, 0.5 * 2 ** (each.quick - 1)) if each.quick else 0.0
        each.process, each.since = None, now + pause
        self._on_death(Death(each.program, code, each.quick, pause))
