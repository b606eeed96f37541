"""Sensitive settings on their way into the database and back: encrypted there, readable only here.

Each data key is an event in a stream of its own, which ends with the connector. Nothing but the ciphertext and the
wrapped key is ever stored.
"""

from __future__ import annotations

import contextlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from kurrentdbclient import NewEvent

from sinkworker.config import SETTINGS, Config, Secret
from sinkworker.connectors import protection, streams
from sinkworker.connectors.errors import InvalidSettings, SecretsUnprotected, SecretsUnreadable
from sinkworker.connectors.protection import DataKey, Undecipherable, WrappedKey
from sinkworker.connectors.settings import PASSWORD_KEY, Discreet, is_sensitive
from sinkworker.database import Database, WrongRevision
from sinkworker.errors import OtherRelease

KEY = "$sinkworker-data-key"
DESTROYED = "$sinkworker-data-key-destroyed"
"""Types of a key stream's events."""

VERSION = 1
"""Of the events' data. A later one is refused. What it is the key of is in events of a later version then, too."""

MASK = "*****"
"""What reads show instead of a sensitive value where they are to hide it; given back, it keeps the stored one."""

_VARIABLES = " or ".join(SETTINGS[key].name for key in ("data_protection_token", "data_protection_token_file"))


@dataclass(frozen=True, slots=True)
class Protection:
    """How this deployment protects sensitive settings."""

    token: Secret | None = None
    """None: there may be none."""
    masks: bool = False
    """Whether reads show the mask, and writes take it for the stored value."""

    @staticmethod
    def of(config: Config) -> Protection:
        """As configured. Raises Invalid where the token's file cannot be read any more."""
        return Protection(config.protection_token(), config.mask_secrets)


class Vault:
    """The sensitive settings of one database's connectors. May be used from any thread.

    Every method raises what `Database` raises.
    """

    def __init__(self, database: Database, protection: Protection) -> None:
        self._database = database
        self._protection = protection
        self._keys: dict[str, DataKey] = {}
        """By id. Unwrapping one takes a moment and much memory on purpose."""

    def check(self, settings: Mapping[str, str], stored: Mapping[str, str]) -> None:
        """Whether these may replace the stored ones.

        Raises SecretsUnprotected for a sensitive key, even an empty one, that nothing can encrypt, and InvalidSettings
        for a mask with nothing behind it.
        """
        before = _sensitive(stored)
        for key in _sensitive(settings).values():
            if self._protection.token is None:
                raise SecretsUnprotected(
                    f"The setting {key} is sensitive, and there is no token to encrypt it with.",
                    hint=f"Set {_VARIABLES}, the same for every process.",
                )
            if self._is_mask(settings[key]) and key.lower() not in before:
                raise InvalidSettings({PASSWORD_KEY: [f"is {MASK}, which stands for the stored one: there is none"]})

    def sealed(self, connector_id: str, settings: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
        """Checked settings as they may be stored. A ciphertext that is stored already stays as it is."""
        sealed = dict(settings)
        before = {name: stored[key] for name, key in _sensitive(stored).items()}
        for name, key in _sensitive(settings).items():
            value, kept = settings[key], before.get(name, "")
            if self._is_mask(value):
                value = kept
            stays = not value or (value == kept and protection.key_id(kept) is not None)
            sealed[key] = value if stays else self._key_to_use(connector_id, kept).encrypt(connector_id, name, value)
        return sealed

    def opened(self, connector_id: str, settings: Mapping[str, str]) -> Discreet[str]:
        """Stored settings with their sensitive values in plain text; one that is no ciphertext is taken as it is.

        Raises SecretsUnreadable, with the reason, or OtherRelease.
        """
        opened = Discreet(settings)
        for name, key in _sensitive(settings).items():
            if (id := protection.key_id(settings[key])) is not None:
                data_key = self._key(connector_id, id)
                try:
                    opened[key] = data_key.decrypt(connector_id, name, settings[key])
                except Undecipherable as exc:
                    raise SecretsUnreadable(
                        f"The stored {key} of connector {connector_id} is damaged.", hint="Set it again."
                    ) from exc
        return opened

    def shown(self, connector_id: str, settings: Mapping[str, str]) -> Discreet[str]:
        """Stored settings as reads show them: in plain text or masked; as they are stored where nothing can decrypt."""
        if self._protection.masks:
            masked = {key: MASK for key in _sensitive(settings).values() if settings[key]}
            return Discreet({**settings, **masked})
        try:
            return Discreet(settings) if self._protection.token is None else self.opened(connector_id, settings)
        except (SecretsUnreadable, OtherRelease):
            return Discreet(settings)

    def destroy(self, connector_id: str, key_ids: Iterable[str]) -> None:
        """Make what was encrypted with these keys unreadable for ever. Repeatable."""
        for id in key_ids:
            self._keys.pop(id, None)
            stream = streams.data_key(connector_id, id)
            last = self._database.last_event(stream)
            if last is not None and last.type == KEY:
                # A scavenge keeps a deleted stream's last event: that must not be the key.
                with contextlib.suppress(WrongRevision):  # somebody else is destroying it
                    self._database.append(stream, last.revision, [_event(DESTROYED, keyId=id)])
            self._database.delete_stream(stream)

    def _is_mask(self, value: str) -> bool:
        return self._protection.masks and value == MASK

    def _key_to_use(self, connector_id: str, kept: str) -> DataKey:
        """The key of the stored ciphertext; a new one where there is none, or its own cannot be had."""
        if (id := protection.key_id(kept)) is not None:
            try:
                return self._key(connector_id, id)
            except SecretsUnreadable:
                pass  # of a lost token: giving the value anew is the way out
        assert self._protection.token is not None
        key, wrapped = protection.new_key(self._protection.token, connector_id)
        data = {"keyId": key.id, "salt": _text(wrapped.salt), "key": _text(wrapped.sealed)}
        self._database.append(streams.data_key(connector_id, key.id), None, [_event(KEY, **data)])
        self._keys[key.id] = key
        return key

    def _key(self, connector_id: str, id: str) -> DataKey:
        if (known := self._keys.get(id)) is not None:
            return known
        token = self._protection.token
        if token is None:
            raise SecretsUnreadable(
                f"The {PASSWORD_KEY} of connector {connector_id} is encrypted, and this process has no token.",
                hint=f"Set {_VARIABLES}, the same for every process, then start the connector again.",
            )
        event = self._database.last_event(streams.data_key(connector_id, id))
        if event is None or event.type != KEY:
            raise SecretsUnreadable(
                f"The data key of connector {connector_id} was destroyed.", hint=f"Set {PASSWORD_KEY} again."
            )
        try:
            data = orjson.loads(event.data)
            if data["version"] > VERSION:
                raise OtherRelease(
                    f"The data key of connector {connector_id} has version {data['version']}, this release knows "
                    f"{VERSION}.",
                    hint="Every process must run the same release of sinkworker, the newest that ever ran here.",
                )
            wrapped = WrappedKey(id, b64decode(data["salt"]), b64decode(data["key"]))
        except (KeyError, ValueError, TypeError) as exc:
            raise SecretsUnreadable(
                f"The data key of connector {connector_id} is damaged.", hint=f"Set {PASSWORD_KEY} again."
            ) from exc
        try:
            key = self._keys[id] = protection.unwrapped(token, connector_id, wrapped)
        except Undecipherable as exc:
            raise SecretsUnreadable(
                f"The {PASSWORD_KEY} of connector {connector_id} was encrypted with another token than this process "
                "has.",
                hint=f"Give every process that token in {_VARIABLES}, or set the password again; then start the "
                "connector.",
            ) from exc
        return key


def key_ids(settings: Mapping[str, str]) -> Iterator[str]:
    """The data keys that these stored settings need."""
    for key in _sensitive(settings).values():
        if (id := protection.key_id(settings[key])) is not None:
            yield id


def _sensitive(settings: Mapping[str, str]) -> dict[str, str]:
    """The sensitive keys as they are spelled there, by their names in lower case."""
    return {key.lower(): key for key in settings if is_sensitive(key)}


def _event(type: str, **data: str) -> NewEvent:
    recorded = {"version": VERSION, "time": datetime.now(UTC).isoformat(), **data}
    return NewEvent(type=type, data=orjson.dumps(recorded))


def _text(content: bytes) -> str:
    return b64encode(content).decode()
