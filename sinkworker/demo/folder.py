"""A temporary folder that is gone at the end, unless somebody has to look into it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from sinkworker.errors import Misconfigured

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell counts it."""


def run_in_folder(prefix: str, prepare: Callable[[Path], Callable[[], int]]) -> int:
    """Run what `prepare` makes of a new folder; answer the exit code that it answers.

    The folder stays where that was neither 0 nor Ctrl-C's, or an exception; what `prepare` raises leaves nothing.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    except OSError as exc:
        raise Misconfigured(f"No temporary folder can be made: {exc.strerror}.", hint="Set TMPDIR to one.") from exc
    wanted = False
    try:
        work = prepare(folder)
        wanted = True
        code = work()
        wanted = code not in (0, INTERRUPTED)
        return code
    finally:
        if not wanted:
            shutil.rmtree(folder, ignore_errors=True)
