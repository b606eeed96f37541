"""Pure: settings as they travel: a flat map, its nested form `configuration`, and a change to it (contract §1.5).

Keys are case-insensitive and joined by `:`; a key keeps the casing in which it was first given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from sinkworker.connectors.errors import InvalidArgument
from sinkworker.connectors.settings import is_sensitive

Nested: TypeAlias = dict[str, Any]
"""A JSON object of objects, arrays, numbers, texts, booleans and nulls."""

TYPE_KEY = "instancetypename"

MAX_KEY_LENGTH = 512
MAX_KEY_PARTS = 32
"""Of a settings key. Whoever asks for `configuration` gets every part of a key as a level of nesting."""


class JsonNumber(str):
    """A number of a request's body as it was written there: it is stored as that text."""

    __slots__ = ()


def amended(current: Mapping[str, str], change: Mapping[str, str | None]) -> dict[str, str]:
    """The settings after `change`: one that names `instanceTypeName` replaces all of them, any other merges.

    In a merge None removes a key. (Contract §1.7: the documented samples are partial bodies.)
    """
    replaces = any(key.lower() == TYPE_KEY and value is not None for key, value in change.items())
    return _folded({} if replaces else current, change)


def _folded(current: Mapping[str, str], change: Mapping[str, str | None]) -> dict[str, str]:
    casing = {key.lower(): key for key in current}
    settings = dict(current)
    for key, value in change.items():
        known = casing.setdefault(key.lower(), key)
        if value is None:
            settings.pop(known, None)
        else:
            settings[known] = value
    return settings


def texts(settings: Mapping[str, Any]) -> dict[str, str | None]:
    """A settings map of a request as texts: numbers and booleans in their JSON form, null as None.

    Raises InvalidArgument naming every key that is too long or too deep, or has an object or an array as its value.
    """
    violations: dict[str, list[str]] = {}
    for key, value in settings.items():
        if fault := _key_fault(key):
            violations.setdefault(_shown(key), []).append(fault)
        elif isinstance(value, dict | list):
            wrapped = " (send the bare map of settings, without a member around it)" if len(settings) == 1 else ""
            violations[key] = [f"must be a text, a number, a boolean or null{wrapped}"]
    if violations:
        raise InvalidArgument(violations)
    return {key: None if value is None else _text(value, "true", "false") for key, value in settings.items()}


def flatten(configuration: Nested) -> dict[str, str | None]:
    """A `configuration` object as settings: objects join with `:`, arrays become `key:0…`, booleans `True`/`False`.

    Raises InvalidArgument naming every key that is too long or too deep.
    """
    flat: dict[str, str | None] = {}
    violations: dict[str, list[str]] = {}

    def walk(key: str, value: Any) -> None:
        # Before what is below the key: that bounds the recursion.
        if fault := _key_fault(key):
            violations.setdefault(_shown(key), []).append(fault)
        elif isinstance(value, dict | list):
            for name, child in value.items() if isinstance(value, dict) else enumerate(value):
                walk(f"{key}:{name}", child)
        else:
            flat[key] = None if value is None else _text(value, "True", "False")

    for name, child in configuration.items():
        walk(name, child)
    if violations:
        raise InvalidArgument(violations)
    return flat


def unflatten(settings: Mapping[str, str]) -> Nested:
    """Settings as a `configuration` object, each leaf in the type that its text looks like; empty values are left out.

    A key that is at once a value and a prefix of others (`a` and `a:b`) keeps only what is below it. A password stays
    the text that it is: a number would come back as another one.
    """
    root: Nested = {}
    for key, text in settings.items():
        if not text:
            continue
        *path, leaf = key.split(":")
        node = root
        for part in path:
            child = node.get(part)
            if not isinstance(child, dict):
                child = node[part] = {}
            node = child
        if not isinstance(node.get(leaf), dict):
            node[leaf] = text if is_sensitive(key) else _typed(text)
    return {name: _with_arrays(child) for name, child in root.items()}


def camel_case(key: str) -> str:
    """A settings key as responses show it: its leading run of capitals lowered, as .NET's JSON naming does it.

    The last capital of a run stays when a small letter follows: `Transformer` → `transformer`, `IOWait` → `ioWait`.
    """
    run = len(key) - len(key.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    if 1 < run < len(key) and key[run] != " ":
        run -= 1
    return key[:run].lower() + key[run:]


def _key_fault(key: str) -> str | None:
    if len(key) > MAX_KEY_LENGTH:
        return f"may have at most {MAX_KEY_LENGTH} characters"
    if key.count(":") >= MAX_KEY_PARTS:
        return f"may have at most {MAX_KEY_PARTS} parts between its colons"
    return None


def _shown(key: str) -> str:
    """A key as an error names it: one that is too long is cut."""
    return key if len(key) <= MAX_KEY_LENGTH else f"{key[:64]}…"


def _text(value: Any, true: str, false: str) -> str:
    if isinstance(value, bool):
        return true if value else false
    return str(value)


def _with_arrays(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    children = {name: _with_arrays(child) for name, child in node.items()}
    if children and all(name.isascii() and name.isdigit() for name in children):
        return [children[name] for name in sorted(children, key=_magnitude)]
    return children


def _magnitude(digits: str) -> tuple[int, str]:
    """Orders numbers of any length by their value, which `int` refuses from some thousand digits on."""
    significant = digits.lstrip("0")
    return len(significant), significant


_WHOLE = re.compile(r"\s*[+-]?\d{1,19}\s*", re.ASCII)
_DECIMAL = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,7})?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_UUID = re.compile(r"[{(]?[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}[)}]?", re.ASCII)


def _typed(text: str) -> Any:
    """The leaf that a reader of `configuration` sees: boolean, number, normalised date or UUID, else the text."""
    if text.strip().lower() in {"true", "false"}:
        return text.strip().lower() == "true"
    if _WHOLE.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    if _DECIMAL.fullmatch(text) and float(text) not in {float("inf"), float("-inf")}:
        return float(text)
    if _DATE_TIME.fullmatch(text):
        return _round_trip(text)
    if _UUID.fullmatch(text):
        return str(UUID(text.strip("(){}")))
    return text


def _round_trip(text: str) -> str:
    """A date in .NET's round-trip form, seven digits of a second; a text that is no real date as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    fraction = re.search(r"\.(\d+)", text)
    digits = fraction.group(1).ljust(7, "0") if fraction else "0000000"
    zone = "" if moment.tzinfo is None else "Z" if text.endswith("Z") else moment.strftime("%z")
    if len(zone) == 5:
        zone = f"{zone[:3]}:{zone[3:]}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{digits}{zone}"
