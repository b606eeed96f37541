"""Child processes that never outlive this one, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from sinkworker.errors import Misconfigured
from sinkworker.local import guardian

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Family:
    """A process group of children under a guardian (see `guardian.py`).

    A child joins the group between fork and exec, so there is no instant at which it exists unguarded. Not for several
    threads. Leaving the context kills whatever still runs; stop what wants an orderly end before that.
    """

    def __init__(self, *, hold: Sequence[int] = ()) -> None:
        """`hold` are descriptors that stay open until the last of the family is gone, such as one with a lock."""
        self._hold = tuple(hold)
        self._children: dict[subprocess.Popen[bytes], int] = {}
        self._guardian = self._guard(())

    def __enter__(self) -> Family:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a child whose output is appended to `log`. Raises Misconfigured when it cannot be started."""
        self._keep_guarded()
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    argv,
                    env=dict(env),
                    cwd=cwd,
                    stdin=stdin,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=self._guardian.pid,
                )
        except OSError as exc:
            raise Misconfigured(f"{argv[0]} cannot be started: {exc.strerror or exc}.") from exc
        self._children[child] = self._guardian.pid
        return child

    def close(self) -> None:
        """Kill every child and what they started, and wait until they are gone. A second call does nothing."""
        assert self._guardian.stdin is not None
        self._keep_guarded()
        self._guardian.stdin.close()
        self._guardian.wait()
        # Who kills the guardian at this very moment must not make us wait for children that nobody has killed.
        for group in set(self._children.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for child in self._children:
            child.wait()
        self._children.clear()

    def _keep_guarded(self) -> None:
        """Replace a guardian that somebody killed; the new one also answers for the group of the old."""
        self._children = {child: group for child, group in self._children.items() if child.poll() is None}
        if self._guardian.poll() is not None and self._guardian.stdin and not self._guardian.stdin.closed:
            self._guardian.stdin.close()
            self._guardian = self._guard(sorted(set(self._children.values())))

    def _guard(self, groups: Sequence[int]) -> subprocess.Popen[bytes]:
        # Born with these signals blocked: ignoring them itself, it could be hit before it comes to that.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            return subprocess.Popen(
                [sys.executable, "-I", guardian.__file__, *map(str, groups)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
                pass_fds=self._hold,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
