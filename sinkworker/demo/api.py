"""The management HTTP API, as any client of it would use it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import orjson

from sinkworker.errors import Misconfigured, Unavailable

TIMEOUT_S = 10.0
ALREADY_EXISTS = 409
STOPPED = "CONNECTOR_STATE_STOPPED"
RUNNING = "CONNECTOR_STATE_RUNNING"


class Refused(Misconfigured):
    """The API understood and said no. `status` is the HTTP one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One server of it. Every call raises Unavailable when it does not answer, Refused when it says no."""

    def __init__(self, address: str) -> None:
        self.address = address

    def create(self, connector_id: str, settings: Mapping[str, str]) -> None:
        """Create a connector. That it exists already is taken for the effect of an earlier try."""
        try:
            self._ask("POST", f"/connectors/{connector_id}", {"settings": dict(settings)})
        except Refused as exc:
            if exc.status != ALREADY_EXISTS:
                raise

    def start(self, connector_id: str) -> None:
        """Start a connector, unless an earlier try has."""
        if self.connector(connector_id)["state"] == STOPPED:
            self._ask("POST", f"/connectors/{connector_id}/start")

    def start_at(self, connector_id: str, position: int) -> None:
        """Start a connector that is stopped, after that position of the log."""
        self._ask("POST", f"/connectors/{connector_id}/start/{position}")

    def stop(self, connector_id: str) -> None:
        """Ask for a stop; the connector's state says when it is complete."""
        self._ask("POST", f"/connectors/{connector_id}/stop")

    def delete(self, connector_id: str) -> None:
        """Delete a connector that is stopped."""
        self._ask("DELETE", f"/connectors/{connector_id}")

    def connector(self, connector_id: str) -> dict[str, Any]:
        """The connector as the list shows it."""
        (found,) = self._ask("GET", f"/connectors?connectorId={connector_id}")["items"]
        return dict(found)

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  # the address is the demo's own
            self.address + path,
            method=method,
            data=None if body is None else orjson.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return dict(orjson.loads(answer.read()))
        except urllib.error.HTTPError as exc:
            said = exc.read().decode(errors="replace")
            if exc.code >= 500:
                raise Unavailable(f"The API failed at {method} {path}: {said}.") from exc
            raise Refused(exc.code, f"The API refused {method} {path}: {said}.") from exc
        except (OSError, orjson.JSONDecodeError) as exc:
            raise Unavailable(f"The API at {self.address} does not answer: {exc}.") from exc


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy that the user has configured leads nowhere near a loopback address."""
