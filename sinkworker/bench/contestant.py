"""Who takes part: what the benchmark asks of a contestant, and the script as one."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sinkworker.bench.cpu import Pids
from sinkworker.bench.events import CATEGORY
from sinkworker.bench.servers import Servers
from sinkworker.demo.processes import how_it_ended
from sinkworker.errors import Misconfigured
from sinkworker.local.children import import_path, python
from sinkworker.local.family import Family
from sinkworker.model import Position

Wait = Callable[[float], None]
"""Waits so many seconds at most; raises what ends the benchmark: Stopped, Misconfigured for a process that died."""

STOP_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where contestants take part."""

    family: Family
    folder: Path
    environ: Mapping[str, str]
    """What the processes' environment is made from."""
    servers: Servers


class Contestant(Protocol):
    """One run's processes. Driven from one thread: every call may take seconds, and raises what its `Wait` raises."""

    def start(self) -> None:
        """Start the processes; return when they can be told to begin."""

    def warm_up(self, after: Position, delivered: Callable[[], object]) -> None:
        """Bring the one record after that position to the topic, and be idle again.

        `delivered` returns when the topic has one record more. Afterwards every process is connected to what it needs.
        """

    def begin(self, after: Position) -> None:
        """Deliver what is after that position, and go on until `stop`. Returns at once."""

    def check(self) -> None:
        """Raise Misconfigured if a process has died."""

    def pids(self) -> Pids:
        """The processes, by what they do."""

    def retire(self) -> None:
        """After a run: leave nothing that a later one would see."""

    def stop(self) -> None:
        """End the processes, whatever they do. Raises nothing."""


class Script:
    """`script.py`, as a process of its own."""

    def __init__(self, site: Site, name: str, *, tuned: bool) -> None:
        """`name` is the topic's, too."""
        self._site = site
        self._name = name
        self._log = site.folder / f"{name}.log"
        self._argv = python(
            "sinkworker.bench.script",
            *("--name", name, "--kurrentdb", site.servers.kurrentdb, "--kafka", site.servers.kafka),
            *("--topic", name, "--prefix", CATEGORY, *(["--tuned"] if tuned else [])),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        site = self._site
        environ = {**site.environ, "PYTHONPATH": import_path(site.environ)}
        self._process = site.family.spawn(
            self._argv, env=environ, cwd=site.folder, log=self._log, stdin=subprocess.PIPE
        )

    def warm_up(self, after: Position, delivered: Callable[[], object]) -> None:
        self._tell(f"{after} 1\n")
        delivered()

    def begin(self, after: Position) -> None:
        self._tell(f"{after}\n")

    def check(self) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            said = self._log.read_text(errors="replace").splitlines()[-1:] or ["it said nothing"]
            raise Misconfigured(
                f"The script {self._name} is gone ({how_it_ended(code)}): {said[0]}.", hint=f"Its log is {self._log}."
            )

    def pids(self) -> Pids:
        assert self._process is not None
        return {"script": [self._process.pid]}

    def retire(self) -> None:
        pass

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None

    def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError as exc:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_PATIENCE_S)
            self.check()
            raise Misconfigured(f"The script {self._name} does not listen any more.") from exc
