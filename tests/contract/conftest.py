from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from sinkworker.ledger.contract import Ledger
from tests.contract.worlds import MemoryWorld, RedisWorld, World
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all contract tests, in memory only; each test has a connector id of its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no")
    yield server
    server.kill()


@pytest.fixture
def redis_world(redis_server: RedisServer) -> Iterator[RedisWorld]:
    with redis_server.client() as client:
        yield RedisWorld(client, uuid4().hex)


@pytest.fixture(params=["memory", "redis"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    redis_world: RedisWorld = request.getfixturevalue("redis_world")
    return redis_world


@pytest.fixture
def ledger(world: World) -> Ledger:
    return world.ledger
