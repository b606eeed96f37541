"""Stand-ins to test against: one that a whole run shares, and fresh ones for tests that stop or kill theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kurrentdbclient import KurrentDBClient

from tests.integration.kurrentdb.standin import StandIn


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A stand-in for tests that only need streams of their own."""
    server = StandIn(tmp_path_factory.mktemp("stand-in") / "events.db").start()
    yield server
    server.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., StandIn]]:
    """Starts a stand-in with an empty data file, and the options given."""
    servers: list[StandIn] = []

    def start_one(*options: str) -> StandIn:
        servers.append(StandIn(tmp_path / f"events-{len(servers)}.db", *options))
        return servers[-1].start()

    yield start_one
    for server in servers:
        server.kill()


@pytest.fixture
def client(shared: StandIn) -> Iterator[KurrentDBClient]:
    """A client of the shared stand-in."""
    with KurrentDBClient(shared.uri) as one:
        yield one


@pytest.fixture
def connect() -> Iterator[Callable[[StandIn], KurrentDBClient]]:
    """Makes clients of any stand-in, closed at the end of the test."""
    clients: list[KurrentDBClient] = []

    def connect_one(server: StandIn) -> KurrentDBClient:
        clients.append(KurrentDBClient(server.uri))
        return clients[-1]

    yield connect_one
    for one in clients:
        one.close()
