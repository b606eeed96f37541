"""Pure: envelope encryption of sensitive settings (contract §9), all of it by `cryptography`'s AES-256-GCM.

A random data key encrypts the values of one connector; it is kept wrapped by a key that is derived from the
deployment's token. Both are bound to the connector's id, a value to its setting as well: no ciphertext means anything
elsewhere. Without the wrapped data key nobody can read a value again, not even with the token.
"""

from __future__ import annotations

import binascii
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from uuid import UUID, uuid4

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sinkworker.config import Secret

MAGIC = b"\x5a\xc1\xd8\x01"
"""What every ciphertext begins with; its last byte is the version of the format."""

KEY_BYTES = 32
ID_BYTES = 16
SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1
"""16 MiB and some 50 ms for each guess. A token may be a word that a person chose; after HKDF, which is meant for
random keys, whoever has a copy of the database could try millions of them a second."""


class Undecipherable(ValueError):
    """The token or the data key is another one, or what was to be decrypted is damaged or from elsewhere."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it may be stored."""

    id: str
    salt: bytes
    sealed: bytes


class DataKey:
    """A connector's key, in the memory of a process that needs it. Shows nothing of itself."""

    def __init__(self, id: str, key: bytes) -> None:
        self.id = id
        self._cipher = AESGCM(key)

    def encrypt(self, connector_id: str, setting: str, value: str) -> str:
        """The value as base64url text. The same value gives another text each time."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, value.encode(), _bound_to(connector_id, self.id, setting.lower()))
        return _text(MAGIC + UUID(self.id).bytes + nonce + sealed)

    def decrypt(self, connector_id: str, setting: str, text: str) -> str:
        """Raises Undecipherable unless `encrypt` made the text with this key, for that connector and setting."""
        nonce_and_sealed = _bytes(text)[len(MAGIC) + ID_BYTES :]
        bound_to = _bound_to(connector_id, self.id, setting.lower())
        return _opened(self._cipher, nonce_and_sealed, bound_to).decode()


def new_key(token: Secret, connector_id: str) -> tuple[DataKey, WrappedKey]:
    """A data key for that connector, and the form in which it may be stored."""
    id, key = str(uuid4()), AESGCM.generate_key(KEY_BYTES * 8)
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    sealed = nonce + _wrapping(token, salt).encrypt(nonce, key, _bound_to(connector_id, id))
    return DataKey(id, key), WrappedKey(id, salt, sealed)


def unwrapped(token: Secret, connector_id: str, wrapped: WrappedKey) -> DataKey:
    """The data key. Raises Undecipherable where the token or the connector is another one."""
    key = _opened(_wrapping(token, wrapped.salt), wrapped.sealed, _bound_to(connector_id, wrapped.id))
    return DataKey(wrapped.id, key)


def key_id(text: str) -> str | None:
    """The id of the data key that the text was encrypted with; None where it is no ciphertext of ours."""
    try:
        content = _bytes(text)
    except ValueError:
        return None
    if not content.startswith(MAGIC) or len(content) < len(MAGIC) + ID_BYTES + NONCE_BYTES + TAG_BYTES:
        return None
    return str(UUID(bytes=content[len(MAGIC) :][:ID_BYTES]))


def _wrapping(token: Secret, salt: bytes) -> AESGCM:
    derivation = Scrypt(salt=salt, length=KEY_BYTES, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    return AESGCM(derivation.derive(token.reveal().encode(errors="surrogateescape")))


def _opened(cipher: AESGCM, nonce_and_sealed: bytes, bound_to: bytes) -> bytes:
    try:
        return cipher.decrypt(nonce_and_sealed[:NONCE_BYTES], nonce_and_sealed[NONCE_BYTES:], bound_to)
    except InvalidTag as exc:
        raise Undecipherable("the authentication tag does not fit") from exc


def _bound_to(*names: str) -> bytes:
    return "\0".join(names).encode()


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Raises ValueError for what is no base64url text."""
    if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise ValueError("no base64url text")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as exc:
        raise ValueError("no base64url text") from exc
