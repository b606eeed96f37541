"""Everything that is wrong, and everything that looks wrong, with a body, without any server."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from sinkworker.commands.bodies import Body
from sinkworker.connectors import naming
from sinkworker.connectors.errors import InvalidArgument
from sinkworker.connectors.functions import refuse_unusable
from sinkworker.connectors.settings import PASSWORD_KEY, SinkSettings, parse

KNOWN = (
    "instanceTypeName",
    "topic",
    "bootstrapServers",
    "subscription:filter:scope",
    "subscription:filter:filterType",
    "subscription:filter:expression",
    "subscription:initialPosition",
    "partitionKeyExtraction:enabled",
    "partitionKeyExtraction:source",
    "partitionKeyExtraction:expression",
    "partitioner",
    "waitForBrokerAck",
    "autocommit:enabled",
    "autocommit:interval",
    "autocommit:recordsThreshold",
    "headers:ignoreSystem",
    "headers:traceContext",
    "format",
    "transformer:enabled",
    "transformer:function",
    "authentication:securityProtocol",
    "authentication:saslMechanism",
    "authentication:username",
    PASSWORD_KEY,
    "authentication:sslCaLocation",
    "compression:type",
    "compression:level",
    "brokerAddressFamily",
    "resilience:reconnectBackoffMaxMs",
    "resilience:messageSendMaxRetries",
    "logging:enabled",
    "lanes:count",
    "errors:policy",
    "errors:deadLetterTopic",
    "delivery:guarantee",
    "delivery:progressTopic",
)
"""The keys that mean something here."""

IGNORED = (
    "subscription:startPosition",
    "subscription:nodeAffinity",
    "resilience:enabled",
    *(
        f"resilience:{bound}DelayBound:{limit}"
        for bound in ("first", "second", "third")
        for limit in ("upperLimitMs", "delayMs")
    ),
    "resilience:maxRetries",
    "resilience:transientErrorDelay",
    "resilience:requestTimeoutMs",
    "partitionKeyExtraction:headerKey",
    "transformer:functionName",
)
"""Keys of the original, of today or of former times, that mean nothing here (contract §2)."""

_HEADERS = "defaultHeaders"
_ALIKE = 0.8


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at a body found."""

    settings: SinkSettings | None
    """None where there is a fault."""
    violations: dict[str, list[str]]
    warnings: list[str]


def examine(body: Body) -> Findings:
    """Every fault, under its field, and what is no fault and probably not meant."""
    violations = {key: list(texts) for key, texts in body.faults.items()}
    if body.name is not None and (faults := naming.name_faults(body.name)):
        violations["Name"] = faults
    settings: SinkSettings | None = None
    try:
        settings = parse(body.given)
        refuse_unusable(settings)
    except InvalidArgument as exc:
        violations |= exc.violations
    return Findings(None if violations else settings, violations, [*_twice(body.settings), *_misspelled(body.settings)])


def _twice(keys: Iterable[str]) -> list[str]:
    seen: dict[str, str] = {}
    found = []
    for key in keys:
        if key.lower() in seen:
            found.append(f"{key} is {seen[key.lower()]} again: keys are case-insensitive, and the last one counts.")
        seen[key.lower()] = key
    return found


def _misspelled(keys: Iterable[str]) -> list[str]:
    known = {key.lower(): key for key in (*KNOWN, *IGNORED)}
    found = []
    for key in keys:
        lower = key.lower()
        head, colon, rest = key.partition(":")
        if lower in known or lower.startswith("_") or head.lower() == _HEADERS.lower():
            continue  # an underscore is the samples' way to put a setting out of use
        if colon and difflib.get_close_matches(head.lower(), [_HEADERS.lower()], 1, _ALIKE):
            meant = f"{_HEADERS}:{rest}"
        elif alike := difflib.get_close_matches(lower, known, 1, _ALIKE):
            meant = known[alike[0]]
        else:
            continue
        found.append(f"{key} is no setting of this connector and will be ignored; did you mean {meant}?")
    return found
