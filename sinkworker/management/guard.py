"""Who may use the API: everybody, or the one who knows the user and the password (contract §1.1)."""

from __future__ import annotations

import binascii
import secrets
from base64 import b64decode
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sinkworker.config import Secret
from sinkworker.management import faults
from sinkworker.management.answers import Json

OPEN = frozenset({"/livez", "/readyz"})
"""Paths that ask nobody: what looks whether a process lives has no password, and they tell nothing."""

CHALLENGE = {"WWW-Authenticate": 'X-Basic realm="ESDB"'}
"""The original's: a scheme that browsers do not know, so that none asks for a password in a window of its own."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user of the API, and the password."""

    user: str
    password: Secret

    def match(self, authorization: str) -> bool:
        """Whether the header of a request has both, in a time that does not tell how much of them is right."""
        scheme, _, encoded = authorization.strip().partition(" ")
        try:
            given = b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):  # ValueError: it is no ASCII
            return False
        user, _, password = given.partition(b":")
        right_user = secrets.compare_digest(user, self.user.encode())
        right_password = secrets.compare_digest(password, self.password.reveal().encode())
        return scheme.lower() == "basic" and right_user and right_password


class Guard:
    """In front of the application: answers what comes without the right credentials, whatever it asks for."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self._app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist("authorization")
        if not given:
            await Json(faults.anonymous(), 403)(scope, receive, send)
        elif all(self._credentials.match(each) for each in given):
            await self._app(scope, receive, send)
        else:
            await Json(faults.unauthenticated(), 401, CHALLENGE)(scope, receive, send)
