"""What the fuzzer's requests are bent to, so that they meet a few connectors again and again. It loads this itself."""

from __future__ import annotations

from typing import Any

import schemathesis

from sinkworker.connectors.naming import id_faults

CONNECTORS = [f"fuzzed-{number}" for number in range(4)]
SETTINGS = {"instanceTypeName": "kafka-sink", "topic": "loans"}


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """A right id becomes that of one of the few."""
    wanted = (path_parameters or {}).get("connector_id")
    if path_parameters and isinstance(wanted, str) and not id_faults(wanted):
        path_parameters["connector_id"] = CONNECTORS[sum(wanted.encode()) % len(CONNECTORS)]
    return path_parameters


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Settings of the right form become, half of the time, those of a connector."""
    for settings in (body, body.get("settings"), body.get("configuration")) if isinstance(body, dict) else ():
        if isinstance(settings, dict) and len(settings) % 2 == 0:
            settings |= SETTINGS
    return body


@schemathesis.hook
def filter_query(context: Any, query: dict[str, Any] | None) -> bool:
    """Unknown parameters are ignored, as everywhere in the original: they are no fault that is to be refused."""
    known = {parameter.name for parameter in context.operation.query}
    return not query or query.keys() <= known
