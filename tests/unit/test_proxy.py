"""The suite's own bad network does what it says."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.processes import eventually
from tests.proxy import LOOPBACK, Proxy

PATIENCE_S = 10.0


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while said := self.request.recv(1 << 16):
                self.request.sendall(said)
        except ConnectionError:
            pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with socketserver.ThreadingTCPServer((LOOPBACK, 0), Echo) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"{LOOPBACK}:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    proxy = Proxy(server)
    yield proxy
    proxy.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=PATIENCE_S)


def echoes(connection: socket.socket, said: bytes = b"loan") -> bool:
    connection.sendall(said)
    heard = b""
    while len(heard) < len(said):
        heard += connection.recv(len(said))
    return heard == said


def test_everything_passes(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert echoes(connection, bytes(range(256)) * 1000)


def test_an_address_is_the_server_s_but_for_its_port(server: str) -> None:
    proxy = Proxy(f"redis://:secret@{server}/0")
    assert proxy.address == f"redis://:secret@{LOOPBACK}:{proxy.port}/0"
    proxy.close()


def test_a_slow_network_is_slow_in_both_directions(proxy: Proxy) -> None:
    with connect(proxy) as connection, proxy.slow(0.1):
        began = time.monotonic()
        assert echoes(connection)
        assert time.monotonic() - began >= 0.2


def test_what_stalls_arrives_afterwards(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert echoes(connection)
        with proxy.stalled():
            connection.sendall(b"loan")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(4)
        connection.settimeout(PATIENCE_S)
        assert connection.recv(4) == b"loan"


def test_a_reset_ends_open_connections_alone(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert echoes(connection)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(4)
    with connect(proxy) as connection:
        assert echoes(connection)


def test_an_unreachable_server_resets_and_refuses_until_it_is_back(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert echoes(connection)
        with proxy.unreachable():
            with pytest.raises(ConnectionResetError):
                connection.recv(4)
            with pytest.raises(ConnectionRefusedError):
                connect(proxy)
    with connect(proxy) as connection:
        assert echoes(connection)


def test_a_connection_is_cut_in_the_middle(proxy: Proxy) -> None:
    with connect(proxy) as connection, proxy.cutting(after_bytes=6):
        assert echoes(connection)
        connection.sendall(b"loan")
        heard = b""

        def ended() -> bool:
            nonlocal heard
            try:
                heard += connection.recv(4)
            except ConnectionResetError:
                return True
            return False

        eventually(ended)
        assert heard in {b"", b"lo"}  # a reset may overtake what came before it


def test_a_server_that_is_away_ends_the_connection() -> None:
    with socket.socket() as unused:
        unused.bind((LOOPBACK, 0))
        proxy = Proxy(f"{LOOPBACK}:{unused.getsockname()[1]}")
    assert _ended(proxy)
    proxy.close()


def _ended(proxy: Proxy) -> bool:
    try:
        with connect(proxy) as connection:
            return connection.recv(4) == b""
    except ConnectionResetError:
        return True
