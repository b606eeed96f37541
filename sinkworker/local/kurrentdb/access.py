"""Who may call: everyone, or, once a user is configured, whoever knows a user's password."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping

from sinkworker.local.kurrentdb.errors import UNAUTHENTICATED, CallFailed


class Access:
    """The users of this server and their passwords. Without any, it is insecure: credentials are not even read."""

    def __init__(self, passwords: Mapping[str, str] | None = None) -> None:
        self._passwords = dict(passwords or {})

    def allows(self, headers: Mapping[str, str]) -> bool:
        """Whether the caller may read and write; an anonymous one may not where users are configured.

        Raises `CallFailed` for credentials that are wrong, which is another answer than having none.
        """
        if not self._passwords:
            return True
        authorization = headers.get("authorization")
        if authorization is None:
            return False
        user, password = _basic(authorization)
        known = self._passwords.get(user)
        if known is None or not hmac.compare_digest(known.encode(), password.encode()):
            raise CallFailed(UNAUTHENTICATED)
        return True

    def __repr__(self) -> str:
        return f"Access(users={sorted(self._passwords)})"


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise CallFailed(UNAUTHENTICATED)
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise CallFailed(UNAUTHENTICATED) from exc
    if not colon:
        raise CallFailed(UNAUTHENTICATED)
    return user, password
