"""A command of ours that starts a whole system, for tests: what it says, its processes, what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import clean_environment, start_sinkworker


@dataclass
class Command:
    """A running command that starts processes; its data dir is in a temporary folder of its own."""

    process: subprocess.Popen[bytes]
    temporary: Path
    log: Path

    def result(self) -> dict[str, object]:
        out, _ = self.process.communicate(timeout=50)
        return dict(json.loads(out))

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def processes(self, mentioning: str = "") -> list[int]:
        """Its processes, its children's children included, by their working directory."""
        return [pid for pid in _pids() if self._owns(pid) and mentioning in _command(pid)]

    def _owns(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/cwd").startswith(str(self.temporary))
        except OSError:
            return False


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@contextlib.contextmanager
def command(folder: Path, *arguments: str, **variables: str) -> Iterator[Command]:
    """`sinkworker` with these arguments, and nothing of it left afterwards."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    log = folder / f"{arguments[0]}.err"
    environ = clean_environment(TMPDIR=str(temporary), **variables)
    process = start_sinkworker(*arguments, cwd=folder, log=log, environ=environ)
    try:
        yield Command(process, temporary, log)
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(temporary, ignore_errors=True)
