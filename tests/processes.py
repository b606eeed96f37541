"""What tests of real processes share: waiting for a condition, and looking whether a process lives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import sinkworker

Found = TypeVar("Found")
HOME = Path(sinkworker.__file__).resolve().parents[1]


def eventually(probe: Callable[[], Found], *, within_s: float = 15.0, every_s: float = 0.02) -> Found:
    """The first truthy answer of `probe`. Fails the test when none comes in time."""
    deadline = time.monotonic() + within_s
    while not (found := probe()):
        assert time.monotonic() < deadline, f"{getattr(probe, '__name__', probe)} did not come true in {within_s} s"
        time.sleep(every_s)
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state not in "ZX"


def processes_mentioning(text: str) -> list[int]:
    """The processes, other than this one, whose command line contains `text`."""
    listed = subprocess.run(["ps", "-eo", "pid,args", "-ww"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 1) for line in listed.splitlines()[1:]]
    return [int(pid) for pid, *args in rows if args and text in args[0] and int(pid) != os.getpid()]


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without anything that configures sinkworker, and with these variables."""
    ours = ("SINKWORKER_", "KURRENTDB_URI", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "CELERY_", "FLOWER_")
    base = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**base, "PYTHONPATH": str(HOME), **variables}


def start_sinkworker(
    *arguments: str, cwd: Path, log: Path, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `sinkworker …` in `cwd` with its stderr in `log`."""
    with log.open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "sinkworker", *arguments],
            cwd=cwd,
            env=dict(environ or clean_environment()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
