"""The body of a connector from a file or standard input, in any of the documented shapes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from sinkworker.connectors.configuration import JsonNumber, amended, flatten, texts
from sinkworker.connectors.errors import InvalidArgument
from sinkworker.errors import Invalid
from sinkworker.management import shapes

STDIN = "-"


class Shape(StrEnum):
    """How a body has its settings; the value is how it is called."""

    SETTINGS = "a body with `settings`"
    CONFIGURATION = "a body with `configuration`"
    BARE = "a bare map of settings"


@dataclass(frozen=True, slots=True)
class Body:
    """What a body says."""

    settings: Mapping[str, str | None]
    """As texts. None is JSON's null, which removes a key in a merge."""
    name: str | None = None
    """None where it has none, or a blank one."""
    shape: Shape = Shape.SETTINGS
    faults: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of members that can be no settings, and are not among them, by their keys."""

    @property
    def given(self) -> dict[str, str]:
        """The settings that a connector created from it has."""
        return amended({}, self.settings)


def read(source: str) -> Body:
    """The body in the file, or on standard input for `-`. Raises Invalid, which says where it is not as it must be."""
    where = "Standard input" if source == STDIN else f"The file {source}"
    try:
        raw = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
    except IsADirectoryError:
        raise Invalid(f"{source} is a folder.", hint="Name a file with a connector's JSON body.") from None
    except OSError as exc:
        raise Invalid(f"{where} cannot be read: {exc.strerror or exc}.") from exc
    return parsed(raw, where)


def parsed(raw: bytes, where: str) -> Body:
    """The body in these bytes; `where` begins the sentence of what is wrong with them."""
    if len(raw) > shapes.MAX_BODY_BYTES:
        raise Invalid(f"{where} is larger than {shapes.MAX_BODY_BYTES // 1024} KiB, which is the most for a body.")
    if not raw.strip():
        raise Invalid(f"{where} is empty.", hint="Give a connector's JSON body.")
    value = _object(raw, where)
    members = {name: shapes.member(value, name) for name in ("settings", "configuration", "name")}
    if members["settings"] is None and members["configuration"] is None:
        return _with_settings(value, texts, None, Shape.BARE)
    for name in ("settings", "configuration"):
        if members[name] is not None and not isinstance(members[name], dict):
            raise Invalid(f"{where}: `{name}` must be a JSON object.")
    name = members["name"]
    if name is not None and (not isinstance(name, str) or isinstance(name, JsonNumber)):
        raise Invalid(f"{where}: `name` must be a text.")
    named = name if name and name.strip() else None
    if members["configuration"]:
        return _with_settings(members["configuration"], flatten, named, Shape.CONFIGURATION)
    return _with_settings(members["settings"] or {}, texts, named, Shape.SETTINGS)


def _with_settings(
    members: Mapping[str, Any],
    converted: Callable[[dict[str, Any]], dict[str, str | None]],
    name: str | None,
    shape: Shape,
) -> Body:
    settings: dict[str, str | None] = {}
    faults: dict[str, list[str]] = {}
    for key, value in members.items():
        try:
            settings |= converted({key: value})
        except InvalidArgument as exc:
            faults |= exc.violations
    return Body(settings, name, shape, faults)


def _object(raw: bytes, where: str) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8-sig")
        # Numbers stay as they are written, as the API has it.
        value = json.loads(text, parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        raise Invalid(f"{where} is no JSON: line {exc.lineno}, column {exc.colno}: {exc.msg}.") from exc
    except UnicodeDecodeError as exc:
        raise Invalid(f"{where} is no UTF-8 text: byte {exc.start} cannot be.") from exc
    except RecursionError as exc:
        raise Invalid(f"{where} is nested too deeply.") from exc
    except ValueError as exc:  # NaN, a half of a surrogate pair
        raise Invalid(f"{where} is no JSON: {exc}.") from exc
    if not isinstance(value, dict):
        kind = "an array" if isinstance(value, list) else "a single value"
        raise Invalid(f"{where} must hold a JSON object, not {kind}.")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
