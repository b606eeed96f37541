"""The CPU time that processes have used, as the operating system counts it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from sinkworker.local.part import extra_missing

try:
    import psutil
except ImportError as exc:
    raise extra_missing("What the benchmark measures processes with (psutil)") from exc

Pids = Mapping[str, list[int]]
"""By what a process is for, the processes that do it."""


class Meter:
    """What processes use from now on, their children included."""

    def __init__(self, pids: Pids) -> None:
        self._pids = pids
        self._before = {name: _used_s(pids[name]) for name in pids}

    def read_us(self) -> dict[str, float]:
        """Microseconds of user and system time since the beginning, by what the processes are for."""
        return {name: (_used_s(self._pids[name]) - self._before[name]) * 1e6 for name in self._pids}


def _used_s(pids: list[int]) -> float:
    return sum(_tree_used_s(pid) for pid in pids)


def _tree_used_s(pid: int) -> float:
    used = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
                # Children that ended and were waited for; macOS does not tell of them.
                used += times.children_user + times.children_system
    return used


def connected_to(pid: int, port: int) -> bool:
    """Whether the process or one of its children has a connection to that port."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                for connection in process.net_connections("tcp"):
                    if connection.raddr and connection.raddr[1] == port and connection.status == "ESTABLISHED":
                        return True
    return False
