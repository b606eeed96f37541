"""The stand-in as a child process: started, awaited, stopped, killed, started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

LISTENING = re.compile(r"listening on (\S+):(\d+)")
EXIT_TIMEOUT_S = 10.0


class StandIn:
    """One server over one data file. It keeps its port over restarts."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.port = 0
        self._options = options
        self._process: subprocess.Popen[str] | None = None

    @property
    def uri(self) -> str:
        """What clients connect to."""
        return f"kurrentdb://127.0.0.1:{self.port}?tls=false"

    @property
    def pid(self) -> int:
        """The process that serves."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> StandIn:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "sinkworker.local.kurrentdb", "--data", str(self.data)]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port), *self._options], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if match := LISTENING.search(line):
                self.port = int(match.group(2))
                return self
        raise AssertionError(f"the stand-in did not start: {''.join(said)}")

    def stop(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to stop; the answer is its exit code and what it said since it listened."""
        assert self._process is not None
        self._process.send_signal(signum)
        _, said = self._process.communicate(timeout=EXIT_TIMEOUT_S)
        return self._process.returncode, said

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        if self._process is not None:
            if self._process.poll() is None:
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.communicate(timeout=EXIT_TIMEOUT_S)
