"""V8 in a process of its own: what a function exhausts or brings down is this process.

Run as a script by `sandbox.py`, knowing nothing of ours. Over the socket it is given go frames (four bytes of length,
then UTF-8): it says `{}` once V8 runs. Then it is given the function's source, answered with `{}` or `{"error": …}`,
and batches, answered by `driver.js`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

EXHAUSTED, UNUSABLE, SHORT = 3, 4, 5
"""Exit codes: the memory limit was reached; V8 cannot be loaded; the machine has no room for it."""

HEAP_BYTES = 256 * 1024 * 1024
"""Of JavaScript objects. V8 may find that out too late, or not at all: typed arrays are not among them."""

PROCESS_BYTES = 768 * 1024 * 1024
"""Of the whole process, which the kernel holds it to (not on macOS)."""

LENGTH = struct.Struct("!I")


def main(descriptor: int, cpu_s: float) -> int:
    """Serve until the other side closes the socket; an exit code."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_DATA, (PROCESS_BYTES, PROCESS_BYTES))
    channel = socket.socket(fileno=descriptor).makefile("rwb")
    try:
        from py_mini_racer import JSEvalException, JSOOMException, MiniRacer

        racer = MiniRacer()
    except MemoryError:
        return SHORT
    except (ImportError, OSError, RuntimeError) as exc:
        return SHORT if _lacks_room(exc) else UNUSABLE
    racer.set_hard_memory_limit(HEAP_BYTES)
    driver = (Path(__file__).parent / "driver.js").read_text(encoding="utf-8")
    run = cast("Callable[[str], str]", racer.eval(driver))

    def load(source: str) -> str:
        try:
            racer.eval(source + "\n//# sourceURL=transform.js")
            if racer.eval("typeof transform") != "function":
                return json.dumps({"error": {"message": "it has no function named `transform`"}})
        except JSOOMException:
            raise
        except JSEvalException as exc:
            return json.dumps({"error": described(str(exc))})
        return "{}"

    def say(text: bytes) -> None:
        channel.write(LENGTH.pack(len(text)) + text)
        channel.flush()

    answer: Callable[[str], str] = load
    try:
        say(b"{}")
        while length := channel.read(LENGTH.size):
            text = channel.read(*LENGTH.unpack(length)).decode()
            # The kernel ends a process that has used this much CPU since: no loop is so tight, and no builtin of V8 so
            # long, that it escapes. Waiting for a busy machine does not count. It also ends what lost its parent.
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            found = answer(text).encode()
            racer.eval("0")  # comes after what the function left to be done later, such as promises
            signal.setitimer(signal.ITIMER_PROF, 0)
            say(found)
            answer = run
    except (JSOOMException, MemoryError):
        return EXHAUSTED
    except BrokenPipeError:
        pass
    return 0


def _lacks_room(exc: Exception) -> bool:
    errors = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
    return "thread" in str(exc) or (isinstance(exc, OSError) and exc.errno in errors)


def described(text: str) -> dict[str, object]:
    """mini-racer's words, `<origin>:<line>: <error>` and the line itself below, as message and line."""
    first = text.partition("\n")[0]
    if found := re.match(r"\S*?:(\d+): (.*)", first):
        return {"message": found[2][:1000], "line": int(found[1])}
    return {"message": first[:1000]}


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), float(sys.argv[2])))  # V8 itself may take long to end
