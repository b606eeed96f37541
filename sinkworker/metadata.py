"""Pure: the custom metadata of an event as named texts, the way keys and headers use it (contract §4.1)."""

from __future__ import annotations

import json
from typing import Any

import orjson


def entries(metadata: bytes) -> dict[str, str]:
    """Every entry of the metadata as text; nulls are left out. Metadata that is no JSON object has no entries."""
    return {name: text for name, value in parsed(metadata).items() if (text := as_text(value)) is not None}


def parsed(metadata: bytes) -> dict[str, Any]:
    """The metadata's JSON object, its values to be read with `as_text`; empty for anything else."""
    if not metadata:
        return {}
    try:
        values = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(values, dict):
        return {}
    if float in map(type, values.values()):
        # orjson reads a whole number beyond 64 bits as a float, and 1e3 as 1000.0; the text must stay as it was written
        try:
            exact = json.loads(metadata, parse_float=_Number, parse_int=_Number)
        except RecursionError:
            return values
        return {name: exact[name] if type(value) is float else value for name, value in values.items()}
    return values


def as_text(value: Any) -> str | None:
    """A JSON value as text: texts as they are, numbers and booleans as in JSON, the rest compact.

    None for null, and for what is nested so deep (beyond 254) that it cannot be written.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested deeper than it writes, though it read it
        return None


class _Number(str):
    """A number's own spelling."""

    __slots__ = ()
