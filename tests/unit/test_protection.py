"""Envelope encryption: what comes back, what does not, and what shows itself (contract §9, A57)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinkworker.config import Secret
from sinkworker.connectors import protection
from sinkworker.connectors.protection import DataKey, Undecipherable, WrappedKey

TOKEN = Secret("a token of this deployment")
ID, SETTING = "loans-sink", "authentication:password"


@pytest.fixture(scope="module")
def made() -> tuple[DataKey, WrappedKey]:
    return protection.new_key(TOKEN, ID)


@pytest.fixture(scope="module")
def key(made: tuple[DataKey, WrappedKey]) -> DataKey:
    return made[0]


@given(value=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_was_encrypted_comes_back(key: DataKey, value: str) -> None:
    text = key.encrypt(ID, SETTING, value)
    assert key.decrypt(ID, SETTING.upper(), text) == value
    assert protection.key_id(text) == key.id


def test_the_wrapped_key_needs_its_token_and_its_connector(made: tuple[DataKey, WrappedKey]) -> None:
    key, wrapped = made
    text = key.encrypt(ID, SETTING, "hunter2")
    assert protection.unwrapped(TOKEN, ID, wrapped).decrypt(ID, SETTING, text) == "hunter2"
    for token, connector in ((Secret("another token"), ID), (TOKEN, "other-sink")):
        with pytest.raises(Undecipherable):
            protection.unwrapped(token, connector, wrapped)
    with pytest.raises(Undecipherable):
        protection.unwrapped(TOKEN, ID, WrappedKey(protection.new_key(TOKEN, ID)[1].id, wrapped.salt, wrapped.sealed))


@pytest.mark.parametrize(("connector", "setting"), [("other-sink", SETTING), (ID, "authentication:username")])
def test_a_ciphertext_means_nothing_elsewhere(key: DataKey, connector: str, setting: str) -> None:
    with pytest.raises(Undecipherable):
        key.decrypt(connector, setting, key.encrypt(ID, SETTING, "hunter2"))


def test_a_changed_ciphertext_is_noticed(key: DataKey) -> None:
    text = key.encrypt(ID, SETTING, "hunter2")
    for place in range(28, len(text)):  # behind the format and the id of the key
        other = "A" if text[place] != "A" else "B"
        changed = text[:place] + other + text[place + 1 :]
        if protection.key_id(changed) == key.id and place < len(text) - 1:
            with pytest.raises(Undecipherable):
                key.decrypt(ID, SETTING, changed)


def test_the_same_value_never_gives_the_same_text(key: DataKey) -> None:
    assert len({key.encrypt(ID, SETTING, "hunter2") for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "hunter2", "*****", "pass word", "pässword", "a" * 200, "WsHYAQ", "a", "____"])
def test_a_text_that_is_no_ciphertext_has_no_key(text: str) -> None:
    assert protection.key_id(text) is None


def test_nothing_shows_a_key(made: tuple[DataKey, WrappedKey]) -> None:
    key, wrapped = made
    text = key.encrypt(ID, SETTING, "hunter2")
    for shown in (repr(key), str(key), repr(wrapped), text):
        assert "hunter2" not in shown
        assert TOKEN.reveal() not in shown
