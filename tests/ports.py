"""Ports for the servers of the tests."""

from __future__ import annotations

import socket

_kept: list[socket.socket] = []


def free_port() -> int:
    """A loopback port that the system gives to nobody else while this process lives, since its server may start late.

    That server can listen on it all the same, as often as it starts, if it sets SO_REUSEADDR, as nearly all do.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    _kept.append(probe)
    port: int = probe.getsockname()[1]
    return port
