from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from sinkworker.config import Secret
from sinkworker.ledger import redis_client
from sinkworker.ledger.contract import Ledger
from tests.contract.worlds import MemoryWorld, RedisWorld, World
from tests.redis_cluster import RedisCluster
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


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.destroy()


@pytest.fixture
def cluster_world(redis_cluster: RedisCluster) -> Iterator[RedisWorld]:
    client = redis_client.connect(Secret(redis_cluster.url_as("")))  # a test evicts keys and rolls them back
    yield RedisWorld(client, uuid4().hex)
    client.close()


@pytest.fixture(params=["memory", "redis", pytest.param("cluster", marks=pytest.mark.long)])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    world: RedisWorld = request.getfixturevalue(f"{request.param}_world")
    return world


@pytest.fixture
def ledger(world: World) -> Ledger:
    return world.ledger
