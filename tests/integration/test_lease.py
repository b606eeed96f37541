"""The right to be the one scheduler of a connector, where it runs out while its holder goes on."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from sinkworker.ledger.redis_client import Lease
from tests.processes import eventually
from tests.redis_server import RedisServer

LASTS_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no")
    yield running
    running.kill()


class Leases:
    """Two schedulers' of one connector."""

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client()
        self._connector = uuid4().hex
        self.first, self.second = (Lease(self._client, self._connector, LASTS_S) for _ in range(2))

    def run_out(self) -> None:
        key = f"sink:{{{self._connector}}}:scheduler"
        self._client.pexpire(key, 1)
        eventually(lambda: not self._client.exists(key))


@pytest.fixture
def leases(server: RedisServer) -> Leases:
    return Leases(server)


def test_one_that_ran_out_is_taken_back_where_nobody_has_it(leases: Leases) -> None:
    assert leases.first.acquire()
    leases.run_out()
    leases.first.keep()
    assert leases.first.held
    assert not leases.second.acquire()


def test_one_that_another_has_by_now_is_lost(leases: Leases) -> None:
    """And is not waited for: whether to acquire it again is for the one to say that stands by."""
    assert leases.first.acquire()
    leases.run_out()
    assert leases.second.acquire()
    leases.first.keep()
    assert not leases.first.held
    leases.second.release()
    leases.first.keep()
    assert leases.second.acquire()


def test_one_that_is_released_stays_so(leases: Leases) -> None:
    assert leases.first.acquire()
    leases.first.release()
    leases.first.keep()
    assert not leases.first.held
    assert leases.second.acquire()
