"""Pure: the trace that an event belongs to, out of its metadata, as headers of W3C Trace Context: our addition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TRACE_PARENT, TRACE_STATE = "traceparent", "tracestate"
NAMES = frozenset({TRACE_PARENT, TRACE_STATE})

_TRACE_ID, _SPAN_ID = "(?!0{32})[0-9a-f]{32}", "(?!0{16})[0-9a-f]{16}"
_PARENT = re.compile(f"(?!ff)(?:00|(?!00)([0-9a-f]{{2}}))-{_TRACE_ID}-{_SPAN_ID}-[0-9a-f]{{2}}(?(1)(?:-[!-~]*)?)")
"""Of version 00; those to come may have more after it."""

_MEMBER = r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_STATE = re.compile(rf"[ \t]*{_MEMBER}[ \t]*(?:,[ \t]*(?:{_MEMBER}[ \t]*)?){{0,31}}")

_CLIENTS_TRACE_ID, _CLIENTS_SPAN_ID = "$traceId", "$spanId"
"""What the clients of KurrentDB write into the metadata of JSON events, where they are instrumented."""


def headers(metadata: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """`traceparent`, with `tracestate` where there is one, of the entries of an event's metadata; none for no trace.

    A `traceparent` of the metadata counts before what KurrentDB's clients write. Malformed values count as absent: a
    consumer would begin another trace, too.
    """
    parent = metadata.get(TRACE_PARENT)
    if isinstance(parent, str) and _PARENT.fullmatch(parent):
        found = [(TRACE_PARENT, parent.encode())]
        state = metadata.get(TRACE_STATE)
        if isinstance(state, str) and _STATE.fullmatch(state):
            found.append((TRACE_STATE, state.encode()))
        return found
    if _CLIENTS_TRACE_ID in metadata:
        trace_id = _digits(metadata[_CLIENTS_TRACE_ID], 32)
        span_id = _digits(metadata.get(_CLIENTS_SPAN_ID), 16)
        parent = f"00-{trace_id}-{span_id}-01"  # they say nothing of sampling, and take it for sampled when they read
        if _PARENT.fullmatch(parent):
            return [(TRACE_PARENT, parent.encode())]
    return []


def _digits(value: Any, length: int) -> str:
    """The id as so many digits: the Python client writes a number instead, `0x…` without leading zeros."""
    if not isinstance(value, str):
        return ""
    return value[2:].rjust(length, "0") if value.startswith("0x") else value
