"""Passwords over the API: encrypted at rest, in plain text to who may read settings (contract §9, A57)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from sinkworker.config import Config, Secret
from sinkworker.connectors import streams, vault
from sinkworker.connectors.errors import SecretsUnreadable
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.vault import Protection
from sinkworker.database import Database
from sinkworker.errors import OtherRelease
from tests.integration.api.conftest import served
from tests.integration.api.test_api import SETTINGS, assert_error, create, listed, settings_of, violations
from tests.integration.kurrentdb.standin import StandIn
from tests.ports import free_port

TOKEN = Secret("the token of these tests")
PASSWORD = "correct-horse-battery-staple"
KEY = "authentication:password"
SASL = {
    "authentication:securityProtocol": "saslPlaintext",
    "authentication:username": "loans",
    "Authentication:Password": PASSWORD,
}
SHOWN_KEY = "authentication:Password"


@pytest.fixture(scope="module")
def protected(config: Config) -> Iterator[httpx.Client]:
    with served(replace(config, api_port=free_port(), data_protection_token=TOKEN)) as client:
        yield client


@pytest.fixture(scope="module")
def masking(config: Config) -> Iterator[httpx.Client]:
    with served(replace(config, api_port=free_port(), data_protection_token=TOKEN, mask_secrets=True)) as client:
        yield client


@pytest.fixture(scope="module")
def of_another_token(config: Config) -> Iterator[httpx.Client]:
    with served(replace(config, api_port=free_port(), data_protection_token=Secret("another token"))) as client:
        yield client


def stored(database: Database, connector_id: str) -> dict[str, str]:
    """The settings as the database has them, by keys in lower case."""
    connector = Registry(database).get(connector_id)
    assert connector is not None
    return {key.lower(): value for key, value in connector.settings.items()}


def password_of(database: Database, connector_id: str, token: Secret | None = TOKEN) -> str:
    """As a worker gets it for a connector that was started."""
    registry = Registry(database, Protection(token))
    connector = registry.get(connector_id)
    assert connector is not None
    return registry.active_settings(connector).authentication.password.reveal()


@pytest.mark.check("A57")
def test_reads_give_the_password_and_the_database_has_it_nowhere(
    protected: httpx.Client, database: Database, stand_in: StandIn, connector_id: str
) -> None:
    assert create(protected, connector_id, **SASL).status_code == 200
    assert settings_of(protected, connector_id)[SHOWN_KEY] == PASSWORD
    nested = protected.get(f"/connectors/{connector_id}/configuration").json()["configuration"]
    assert nested["authentication"]["securityProtocol"] == "saslPlaintext"
    assert nested["Authentication"]["Password"] == PASSWORD
    assert listed(protected, connector_id, includeSettings="true")["settings"][SHOWN_KEY] == PASSWORD
    assert PASSWORD not in str(listed(protected, connector_id))
    assert stored(database, connector_id)[KEY] not in ("", PASSWORD)
    assert stored(database, connector_id)["authentication:username"] == "loans"
    files = list(stand_in.data.parent.glob(f"{stand_in.data.name}*"))
    assert any(connector_id.encode() in file.read_bytes() for file in files)
    assert not any(PASSWORD.encode() in file.read_bytes() for file in files)
    assert not any(TOKEN.reveal().encode() in file.read_bytes() for file in files)


@pytest.mark.check("A57")
def test_without_a_token_a_password_is_refused_and_stored_ones_stay_closed(
    api: httpx.Client, protected: httpx.Client, database: Database, connector_id: str
) -> None:
    body = assert_error(create(api, connector_id, **SASL), 400, 9)
    assert "SINKWORKER_DATA_PROTECTION_TOKEN" in body["message"]
    assert PASSWORD not in body["message"]
    create(protected, connector_id, **SASL)
    assert settings_of(api, connector_id)[SHOWN_KEY] == stored(database, connector_id)[KEY]
    assert_error(api.put(f"/connectors/{connector_id}", json={"topic": "other"}), 400, 9)


@pytest.mark.check("A16")
def test_the_documented_partial_bodies_merge_and_keep_the_topic(protected: httpx.Client, connector_id: str) -> None:
    create(protected, connector_id)
    password = {
        "authentication:securityProtocol": "SaslSsl",
        "authentication:username": "loans",
        "authentication:password": PASSWORD,
    }
    header = {"defaultHeaders:X-Team": "lending"}
    assert protected.put(f"/connectors/{connector_id}/settings", json=password).json() == {}
    assert protected.put(f"/connectors/{connector_id}", json=header).json() == {}
    assert settings_of(protected, connector_id) == {**SETTINGS, **password, **header}


@pytest.mark.check("A26")
def test_keys_and_values_of_any_case_are_honoured(
    protected: httpx.Client, database: Database, connector_id: str
) -> None:
    odd = {
        "SUBSCRIPTION:InitialPosition": "Earliest",
        "authentication:SECURITYPROTOCOL": "SaslSsl",
        "Authentication:Username": "loans",
        "AUTHENTICATION:password": PASSWORD,
    }
    assert create(protected, connector_id, **odd).status_code == 200
    protected.post(f"/connectors/{connector_id}/start")
    registry = Registry(database, Protection(TOKEN))
    connector = registry.get(connector_id)
    assert connector is not None
    settings = registry.active_settings(connector)
    assert settings.initial_position == "earliest"
    assert settings.authentication.security_protocol == "SASL_SSL"
    assert settings.authentication.password.reveal() == PASSWORD


@pytest.mark.parametrize("replaces", [False, True])
def test_a_read_that_is_written_back_changes_nothing(
    protected: httpx.Client, database: Database, connector_id: str, replaces: bool
) -> None:
    create(protected, connector_id, **SASL)
    if replaces:
        protected.put(f"/connectors/{connector_id}/settings", json=settings_of(protected, connector_id))
    else:
        kept = stored(database, connector_id)[KEY]
        protected.put(f"/connectors/{connector_id}", json={"topic": "other"})
        assert stored(database, connector_id)[KEY] == kept
    protected.post(f"/connectors/{connector_id}/start")
    assert password_of(database, connector_id) == PASSWORD


@pytest.mark.parametrize("password", ["0123456789", "true", "1e5", "2026-01-01", "x" * 1000, "päß wörd\n"])
def test_a_password_stays_a_text_whatever_it_looks_like(
    protected: httpx.Client, database: Database, connector_id: str, password: str
) -> None:
    create(protected, connector_id, **SASL | {"Authentication:Password": password})
    path = f"/connectors/{connector_id}/configuration"
    protected.put(path, json=protected.get(path).json()["configuration"])
    protected.post(f"/connectors/{connector_id}/start")
    assert password_of(database, connector_id) == password


def test_a_mask_is_shown_and_given_back_keeps_the_password(
    masking: httpx.Client, protected: httpx.Client, connector_id: str
) -> None:
    create(masking, connector_id, **SASL)
    assert settings_of(masking, connector_id)[SHOWN_KEY] == "*****"
    assert PASSWORD not in masking.get("/connectors", params={"includeConfiguration": "true"}).text
    masking.put(f"/connectors/{connector_id}/settings", json=settings_of(masking, connector_id) | {"topic": "other"})
    assert settings_of(protected, connector_id)[SHOWN_KEY] == PASSWORD
    masking.put(f"/connectors/{connector_id}", json={KEY: "another"})
    assert settings_of(protected, connector_id)[SHOWN_KEY] == "another"


def test_a_mask_with_nothing_behind_it_is_refused(masking: httpx.Client, connector_id: str) -> None:
    assert violations(create(masking, connector_id, **SASL | {"Authentication:Password": "*****"})).keys() == {KEY}


def test_another_token_is_said_to_be_one_until_the_password_is_given_again(
    of_another_token: httpx.Client, protected: httpx.Client, database: Database, connector_id: str
) -> None:
    create(protected, connector_id, **SASL)
    protected.post(f"/connectors/{connector_id}/start")
    encrypted = stored(database, connector_id)[KEY]
    other = Secret("another token")
    with pytest.raises(SecretsUnreadable, match="encrypted with another token"):
        password_of(database, connector_id, other)
    with pytest.raises(SecretsUnreadable, match="this process has no token"):
        password_of(database, connector_id, None)
    shown = settings_of(of_another_token, connector_id)
    assert shown[SHOWN_KEY] == encrypted
    of_another_token.put(f"/connectors/{connector_id}/settings", json=shown)
    assert stored(database, connector_id)[KEY] == encrypted
    of_another_token.put(f"/connectors/{connector_id}", json={KEY: "again"})
    protected.post(f"/connectors/{connector_id}/stop")
    assert settings_of(of_another_token, connector_id)[SHOWN_KEY] == "again"


def test_a_data_key_of_a_newer_release_is_left_to_it(
    protected: httpx.Client, database: Database, connector_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(protected, connector_id)
    with monkeypatch.context() as newer:
        newer.setattr(vault, "VERSION", 2)
        Registry(database, Protection(TOKEN)).reconfigure(connector_id, SASL)
    protected.post(f"/connectors/{connector_id}/start")
    with pytest.raises(OtherRelease, match="has version 2, this release knows 1"):
        password_of(database, connector_id)
    encrypted = stored(database, connector_id)[KEY]
    assert settings_of(protected, connector_id)[SHOWN_KEY] == encrypted
    assert_error(protected.put(f"/connectors/{connector_id}", json={KEY: "another"}), 503, 14)
    assert stored(database, connector_id)[KEY] == encrypted


def test_a_ciphertext_of_another_connector_is_a_password_like_any_other(
    protected: httpx.Client, database: Database, connector_id: str
) -> None:
    create(protected, connector_id, **SASL)
    encrypted = stored(database, connector_id)[KEY]
    create(protected, f"{connector_id}-2", **SASL | {"Authentication:Password": encrypted})
    assert settings_of(protected, f"{connector_id}-2")[SHOWN_KEY] == encrypted


def test_a_deletion_destroys_every_key_that_was_used(
    protected: httpx.Client, database: Database, connector_id: str
) -> None:
    create(protected, connector_id, **SASL)
    first = stored(database, connector_id)
    protected.put(f"/connectors/{connector_id}", json={KEY: None, "authentication:securityProtocol": "plaintext"})
    protected.put(f"/connectors/{connector_id}", json=SASL)
    second = stored(database, connector_id)
    keys = [*vault.key_ids(first), *vault.key_ids(second)]
    assert len(set(keys)) == 2
    settings_of(protected, connector_id)
    Registry(database, Protection(TOKEN)).delete(connector_id)  # while the API still has the key in its memory
    for key in keys:
        assert database.last_event(streams.data_key(connector_id, key)) is None
    item = listed(protected, connector_id, showDeleted="true", includeSettings="true")
    assert item["settings"][SHOWN_KEY] == second[KEY]
    reader = vault.Vault(database, Protection(TOKEN))
    with pytest.raises(SecretsUnreadable, match="was destroyed"):
        reader.opened(connector_id, second)


@pytest.mark.parametrize("again", ["delete", "create"])
def test_a_deletion_that_broke_off_is_completed(
    protected: httpx.Client,
    database: Database,
    connector_id: str,
    monkeypatch: pytest.MonkeyPatch,
    again: str,
) -> None:
    create(protected, connector_id, **SASL)
    (key,) = vault.key_ids(stored(database, connector_id))
    broken: Any = Registry(database, Protection(TOKEN))
    monkeypatch.setattr(broken, "_destroy_keys", lambda _: None)
    broken.delete(connector_id)
    assert database.last_event(streams.data_key(connector_id, key)) is not None
    if again == "delete":
        assert protected.delete(f"/connectors/{connector_id}").status_code == 404
    else:
        create(protected, connector_id, **SASL)
        assert settings_of(protected, connector_id)[SHOWN_KEY] == PASSWORD
    assert database.last_event(streams.data_key(connector_id, key)) is None


def test_a_scavenge_leaves_no_key(protected: httpx.Client, database: Database, connector_id: str) -> None:
    """It keeps the last event of a deleted stream."""
    create(protected, connector_id, **SASL)
    (key,) = vault.key_ids(stored(database, connector_id))
    before = database.head()
    protected.delete(f"/connectors/{connector_id}")
    stream = streams.data_key(connector_id, key)
    written = [event for event in _log_after(database, before) if event.stream == stream]
    assert [event.type for event in written] == [vault.DESTROYED]


def _log_after(database: Database, position: int) -> Any:
    return database._get_all(commit_position=position, limit=100)
