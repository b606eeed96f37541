"""The API as it is served, over the stand-in, with no Redis to be had: it must do without."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from sinkworker.config import Config, Secret
from sinkworker.database import Database
from sinkworker.management.server import ApiServer
from tests.integration.kurrentdb.standin import StandIn
from tests.ports import free_port
from tests.processes import eventually


@contextmanager
def standing_in(folder: Path) -> Iterator[StandIn]:
    """A database with its file in that folder."""
    running = StandIn(folder / "data.sqlite").start()
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with standing_in(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="session")
def config(stand_in: StandIn) -> Config:
    return Config(
        kurrentdb_uri=Secret(stand_in.uri), redis_url=Secret(f"redis://127.0.0.1:{free_port()}/0"), api_port=free_port()
    )


@pytest.fixture(scope="session")
def api(config: Config) -> Iterator[httpx.Client]:
    with served(config) as client:
        yield client


@contextmanager
def served(config: Config, scheme: str = "http", **client: Any) -> Iterator[httpx.Client]:
    """An API of that configuration, and a client of it with these options."""
    stop = threading.Event()
    server = threading.Thread(target=ApiServer(config).run, args=(stop,))
    server.start()
    with httpx.Client(
        base_url=f"{scheme}://127.0.0.1:{config.api_port}", timeout=10, trust_env=False, **client
    ) as http:
        eventually(lambda: _answers(http))
        yield http
    stop.set()
    server.join(10)
    assert not server.is_alive()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def database(config: Config) -> Iterator[Database]:
    assert config.kurrentdb_uri is not None
    with closing(Database(config.kurrentdb_uri)) as opened:
        yield opened


@pytest.fixture
def connector_id() -> str:
    return f"loans-{uuid4().hex[:8]}"
