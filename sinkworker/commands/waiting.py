"""Until a connector has come to the state that was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sinkworker.commands.api import ManagementApi
from sinkworker.commands.tables import error_of, state_of
from sinkworker.errors import Misconfigured, Unavailable

POLL_S = 0.2


def until_running(
    api: ManagementApi, connector_id: str, timeout_s: float, say: Callable[[str], None], earlier: str = ""
) -> dict[str, Any]:
    """The connector once it runs. Raises Misconfigured with its error when it stopped, Unavailable after the time.

    `earlier`: the error that it had before it was started, which it keeps until it runs.
    """
    item = _until(api, connector_id, {"RUNNING", "STOPPED"}, timeout_s, say, earlier)
    if state_of(item) == "STOPPED":
        why = error_of(item) or "somebody stopped it"
        raise Misconfigured(f"Connector {connector_id} did not come to run: {why}")
    return item


def until_stopped(
    api: ManagementApi, connector_id: str, timeout_s: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """The connector once it is stopped. Raises Unavailable after the time."""
    return _until(api, connector_id, {"STOPPED"}, timeout_s, say)


def _until(
    api: ManagementApi,
    connector_id: str,
    wanted: set[str],
    timeout_s: float,
    say: Callable[[str], None],
    earlier: str = "",
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    said = ""
    while True:
        try:
            item = api.connector(connector_id)
        except Unavailable as exc:
            doing = str(exc)
        else:
            if state_of(item) in wanted:
                return item
            error = "" if error_of(item) == earlier else error_of(item)
            doing = f"Connector {connector_id} is {state_of(item)}{f', {error}' if error else '.'}"
        if doing != said:
            said = doing
            say(doing)
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"Connector {connector_id} did not get there within {timeout_s:g} s. {said}",
                hint="What was asked for still holds; `sinkworker connectors show` tells how it goes on.",
            )
        time.sleep(POLL_S)
