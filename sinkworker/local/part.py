"""What a part of the local stack is."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sinkworker.errors import Misconfigured

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Part:
    """A server that the local stack runs where no real one is configured."""

    name: str
    """One word, for file names and logs."""
    title: str
    """What it is, in a sentence: never the name of a product that it is not."""
    key: str
    """The field of `Config` that holds its address."""
    argv: Callable[[int], Sequence[str]]
    """The command that serves on this loopback port."""
    address: Callable[[int], str]
    """The value of its variable for this port."""
    port: Callable[[str], int | None]
    """The port in such a value; None where it is no loopback address of this form."""
    answers: Callable[[str], bool]
    """Whether the server at this address answers a real request within a second or so. Never raises."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables it needs besides the process's own."""


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do, so that connections of the previous run in TIME_WAIT do not make its port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def executable(binary: Path, folder: Path) -> Path:
    """`binary`, or a copy of it in `folder` where an installer has lost its permission to run. Raises Misconfigured."""
    if os.access(binary, os.X_OK):
        return binary
    copy = folder / binary.name
    try:
        folder.mkdir(exist_ok=True)
        if not copy.exists() or copy.stat().st_size != binary.stat().st_size:
            shutil.copyfile(binary, copy)
        copy.chmod(stat.S_IRWXU)
    except OSError as exc:
        raise Misconfigured(f"{copy} cannot be made executable: {exc.strerror}.") from exc
    return copy


def extra_missing(what: str) -> Misconfigured:
    """The error for a stack whose packages are not installed."""
    return Misconfigured(
        f"{what} is part of an extra that is not installed.",
        hint="Install it with `pip install 'sinkworker[local]'`, or configure a server of your own.",
    )
