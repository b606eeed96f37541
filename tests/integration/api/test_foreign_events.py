"""What others write into our streams harms at most the connector whose stream it is."""

from __future__ import annotations

import httpx
import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

from sinkworker.config import Config
from tests.integration.api.test_api import SETTINGS, listed

GARBAGE = b"\xff\x00 no json"


@pytest.fixture
def database(config: Config) -> KurrentDBClient:
    assert config.kurrentdb_uri is not None
    return KurrentDBClient(config.kurrentdb_uri.reveal())


@pytest.fixture
def connector(api: httpx.Client, connector_id: str) -> str:
    assert api.post(f"/connectors/{connector_id}", json={"settings": SETTINGS}).status_code == 200
    return connector_id


def write(database: KurrentDBClient, stream: str, type: str, data: bytes) -> None:
    event = NewEvent(type=type, data=data, content_type="application/octet-stream")
    database.append_to_stream(stream, current_version=StreamState.ANY, events=event)


@pytest.mark.parametrize("type", ["garbage", "$sinkworker-nonsense"])
@pytest.mark.parametrize("data", [GARBAGE, b"{}"])
def test_an_event_of_another_type_is_passed_over(
    api: httpx.Client, database: KurrentDBClient, connector: str, type: str, data: bytes
) -> None:
    write(database, f"$sinkworker/{connector}", type, data)
    write(database, "$sinkworker", type, data)
    assert listed(api, connector)["state"] == "CONNECTOR_STATE_STOPPED"
    assert api.put(f"/connectors/{connector}/rename", json={"name": "other"}).status_code == 200


@pytest.mark.parametrize("data", [GARBAGE, b"[]", b"{}", b'{"version": 1}', b'{"version": 1, "time": "noon"}'])
def test_a_damaged_event_of_ours_costs_that_connector_only_and_is_named(
    api: httpx.Client, database: KurrentDBClient, connector: str, data: bytes
) -> None:
    sound = f"{connector}-sound"
    assert api.post(f"/connectors/{sound}", json={"settings": SETTINGS}).status_code == 200
    write(database, f"$sinkworker/{connector}", "$sinkworker-activating", data)
    assert listed(api, sound)["state"] == "CONNECTOR_STATE_STOPPED"
    answer = api.get(f"/connectors/{connector}/settings")
    assert answer.status_code == 500
    assert f"$sinkworker/{connector}" in answer.json()["message"]


def test_a_stream_of_ours_that_is_tombstoned_costs_that_connector_only(
    api: httpx.Client, database: KurrentDBClient, connector: str
) -> None:
    sound = f"{connector}-sound"
    assert api.post(f"/connectors/{sound}", json={"settings": SETTINGS}).status_code == 200
    database.tombstone_stream(f"$sinkworker/{connector}", current_version=StreamState.ANY)
    assert listed(api, sound)["state"] == "CONNECTOR_STATE_STOPPED"


@pytest.mark.parametrize("type", ["$sinkworker-renamed", "$sinkworker-of-tomorrow"])
def test_an_event_of_a_newer_release_costs_that_connector_only_and_says_so(
    api: httpx.Client, database: KurrentDBClient, connector: str, type: str
) -> None:
    sound = f"{connector}-sound"
    assert api.post(f"/connectors/{sound}", json={"settings": SETTINGS}).status_code == 200
    write(database, f"$sinkworker/{connector}", type, b'{"version": 99}')
    assert listed(api, sound)["state"] == "CONNECTOR_STATE_STOPPED"
    answer = api.post(f"/connectors/{connector}/start")
    assert answer.status_code == 503
    assert "has version 99" in answer.json()["message"]


def test_a_checkpoint_that_is_not_ours_has_no_position(
    api: httpx.Client, database: KurrentDBClient, connector: str
) -> None:
    write(database, f"$connectors/{connector}/checkpoints", "$conn-ctrl-checkpoint", GARBAGE)
    assert "position" not in listed(api, connector)


def test_an_index_entry_that_is_not_ours_is_passed_over(
    api: httpx.Client, database: KurrentDBClient, connector: str
) -> None:
    write(database, "$sinkworker", "$sinkworker-registered", GARBAGE)
    write(database, "$sinkworker", "$sinkworker-registered", b"{}")
    assert listed(api, connector)["connectorId"] == connector
    assert api.post(f"/connectors/{connector}-2", json={"settings": SETTINGS}).status_code == 200
