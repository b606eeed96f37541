"""A process for one JavaScript function: started, spoken to with deadlines, ended; how it died is what went wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from sinkworker.errors import LIMITS, Exhausted, Invalid, Misconfigured, Transient, exhausted
from sinkworker.transform import engine

CPU_S = 1.0
"""CPU time that one call may take, whatever the number of records in it."""

START_S = 20.0
ANSWER_S = 5.0
"""How long its process may use no CPU, or where the system does not tell that, how long to wait for it: it was paused.
On a busy machine the CPU time that it may take can last longer."""

MOMENT_S = 0.25
"""How often whoever waits for it may do something else."""

ANSWER_BYTES = 64 * 1024 * 1024
"""Most bytes of an answer."""

_CRASHES = {-signal.SIGTRAP, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGILL, -signal.SIGBUS}
"""How V8 ends its process when there is no memory left."""


class Rejected(Invalid):
    """The source is not a function that can be used."""

    code = "transform-invalid"


class Overrun(Exception):
    """The function used more time or memory than it may, and its process is gone. The text goes after "it"."""


class Sandbox:
    """The function in a running process. Not for use by several threads; after any error only for `close`."""

    def __init__(self, source: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """`meanwhile` is called now and then while it runs.

        Raises Rejected, Overrun for source that does so by itself, Misconfigured without V8, Transient (Exhausted where
        it is the machine).
        """
        self._meanwhile = meanwhile
        self._loaded = False
        try:
            self._channel, self._process = _started()
        except OSError as exc:
            raise exhausted(exc) or Transient(
                f"The process that runs JavaScript cannot be started: {exc}.", code="transform-unavailable"
            ) from exc
        try:
            with self._translated(START_S):
                self._received(START_S)
            self._loaded = True
            fault = orjson.loads(self._answer(source.encode(), START_S)).get("error")
            if fault is not None:
                raise Rejected(shown(fault))
        except BaseException:
            self.close()
            raise

    def run(self, batch: bytes) -> bytes:
        """The driver's answer to this batch. Raises Overrun, or Transient when the process is stopped from outside."""
        return self._answer(batch, ANSWER_S)

    def close(self) -> None:
        """End the process at once."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _answer(self, request: bytes, timeout_s: float) -> bytes:
        with self._translated(timeout_s):
            self._channel.settimeout(timeout_s)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # reading finds out why
                self._channel.sendall(engine.LENGTH.pack(len(request)) + request)
            return self._received(timeout_s)

    @contextlib.contextmanager
    def _translated(self, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError as exc:
            raise Transient(
                f"The process that runs JavaScript has not answered for {timeout_s:g} s.", code="transform-unavailable"
            ) from exc
        except (EOFError, ConnectionResetError) as exc:
            raise self._cause_of_death() from exc

    def _received(self, timeout_s: float) -> bytes:
        (length,) = engine.LENGTH.unpack(self._read(engine.LENGTH.size, timeout_s))
        if length > ANSWER_BYTES:
            raise Overrun(f"made more than {ANSWER_BYTES // 2**20} MB of its records")
        return self._read(length, timeout_s)

    def _read(self, count: int, timeout_s: float) -> bytes:
        """Raises TimeoutError where the process has used no CPU for so long."""
        found = bytearray()
        used_s, since = self._used_s(), time.monotonic()
        self._channel.settimeout(min(MOMENT_S, timeout_s))
        while len(found) < count:
            try:
                some = self._channel.recv(min(count - len(found), 1 << 20))
            except TimeoutError:
                self._meanwhile()
                before_s, used_s = used_s, self._used_s()
                if used_s > before_s:
                    since = time.monotonic()
                elif time.monotonic() - since > timeout_s:
                    raise
                continue
            if not some:
                raise EOFError
            found += some
        return bytes(found)

    def _used_s(self) -> float:
        """CPU time of its process; 0 where only other systems than Linux could tell."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _cause_of_death(self) -> Exception:
        status = self._process.wait()
        if status == -signal.SIGPROF:
            return Overrun(f"did not come to an end within {CPU_S:g} s")
        if status == engine.SHORT or (not self._loaded and status in _CRASHES):
            return Exhausted("This machine has no room for a process that runs JavaScript.", hint=LIMITS)
        if status == engine.EXHAUSTED or status in _CRASHES:
            return Overrun(f"used more memory than it may ({engine.HEAP_BYTES // 2**20} MB)")
        if status == engine.UNUSABLE:
            return Misconfigured(
                "V8 cannot be loaded, so no transformation can be run.",
                hint="Install the package mini-racer for this platform.",
                code="transform-unavailable",
            )
        return Transient(f"The process that runs JavaScript ended (status {status}).", code="transform-unavailable")


def _started() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The process, and our end of the way to it. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            return ours, subprocess.Popen(
                [sys.executable, "-I", str(Path(engine.__file__).resolve()), str(theirs.fileno()), str(CPU_S)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},  # ours has secrets
                start_new_session=True,  # Ctrl-C is for the worker, which finishes what is in flight
            )
        except BaseException:
            ours.close()
            raise


def shown(fault: dict[str, Any]) -> str:
    """A JavaScript error as a text, with its place where that is known."""
    place = ", ".join(f"{name} {fault[name]}" for name in ("line", "column") if fault.get(name) is not None)
    return f"{fault['message']} ({place})" if place else str(fault["message"])
