"""Pure: what goes over the wire, in the documented names and forms (contract §1.1, §1.4, §1.5)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sinkworker.connectors.configuration import JsonNumber, camel_case, unflatten
from sinkworker.connectors.errors import InvalidArgument
from sinkworker.connectors.lifecycle import Connector, State
from sinkworker.errors import Invalid
from sinkworker.model import Position

BAD_JSON = "The request's JSON payload is not correctly formatted."
MOST_PER_PAGE = 100
UINT64_MAX = 2**64 - 1

MAX_BODY_BYTES = 256 * 1024
"""Of a request's body. Settings are kept in one event, and the database takes no append above 1 MiB."""

# Bounded before `int` sees them, which refuses thousands of digits in its own way.
_UINT64 = re.compile(r"\d{1,20}", re.ASCII)
_INT32 = re.compile(r"-?\d{1,10}", re.ASCII)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with 0, 3 or 6 digits of a second as it needs."""
    moment = moment.astimezone(UTC)
    digits = f"{moment.microsecond:06d}"
    fraction = "" if digits == "000000" else f".{digits[:3]}" if digits.endswith("000") else f".{digits}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def json_object(body: bytes, content_type: str) -> dict[str, Any]:
    """A request's body. Numbers stay as they were written.

    Raises Invalid for anything but a JSON object, for one above MAX_BODY_BYTES, and for text that is no UTF-8.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise Invalid("The request needs the content type application/json.")
    if len(body) > MAX_BODY_BYTES:
        raise Invalid(f"The request's body is larger than {MAX_BODY_BYTES // 1024} KiB.")
    try:
        value = json.loads(body, parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate can be escaped, but never stored or answered
    except (ValueError, RecursionError) as exc:
        raise Invalid(BAD_JSON) from exc
    if not isinstance(value, dict):
        raise Invalid(BAD_JSON)
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def member(body: Mapping[str, Any], name: str) -> Any:
    """A member in its JSON or proto spelling and any case; None where there is none."""
    wanted = _spelling(name)
    return next((value for key, value in body.items() if _spelling(key) == wanted), None)


def text_member(body: Mapping[str, Any], name: str) -> str | None:
    """A text, None without one. Raises Invalid for a value of another type."""
    value = member(body, name)
    if value is not None and (not isinstance(value, str) or isinstance(value, JsonNumber)):
        raise Invalid(BAD_JSON)
    return value


def object_member(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object, an empty one where there is none. Raises Invalid for a value of another type."""
    value = member(body, name)
    if value is not None and not isinstance(value, dict):
        raise Invalid(BAD_JSON)
    return value or {}


def position_of(text: str) -> Position:
    """A log position in a path or a query. Raises Invalid unless it is an unsigned 64-bit number."""
    if not _UINT64.fullmatch(text) or int(text) > UINT64_MAX:
        raise Invalid(f"The position {text!r} is no unsigned 64-bit number.")
    return Position(int(text))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the settings the items of a list have."""

    settings: bool
    configuration: bool | None
    """None: they have settings, not a configuration, which with False is empty."""


class Query:
    """The query parameters of a list request, by JSON or proto name in any case."""

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in items:
            self._values.setdefault(_spelling(name), []).append(value)

    def texts(self, name: str) -> list[str]:
        return self._values.get(_spelling(name), [])

    def has(self, name: str) -> bool:
        return _spelling(name) in self._values

    def flag(self, name: str) -> bool:
        """A boolean; false where it is missing. Raises Invalid for anything but true and false."""
        values = self.texts(name)
        if not values:
            return False
        if values[-1].lower() not in ("true", "false"):
            raise Invalid(f"The parameter {name} must be true or false, not {values[-1]!r}.")
        return values[-1].lower() == "true"

    def wanted(self) -> Wanted:
        """What of the settings each item is to have. Raises Invalid, also where there will be no item."""
        configuration = self.flag("includeConfiguration") if self.has("includeConfiguration") else None
        return Wanted(self.flag("includeSettings"), configuration)

    def states(self) -> set[State]:
        """The states asked for, by name or number. Raises Invalid for any other."""
        known = {str(state): state for state in State} | {str(number): each for number, each in enumerate(State)}
        states = set()
        for text in self.texts("state"):
            if text not in known:
                raise Invalid(f"The parameter state has no value {text!r}; it has {', '.join(State)}.")
            states.add(known[text])
        return states

    def paging(self) -> tuple[int, int]:
        """Page and page size, in the proto's spelling or, without that, in the documented one.

        Raises InvalidArgument naming all that is out of its range, also in a spelling that does not count.
        """
        pages = self._numbers(("paging.page", "page"), 1)
        sizes = self._numbers(("paging.pageSize", "pageSize"), MOST_PER_PAGE)
        violations = {}
        if min(pages) < 1:
            violations["Paging.Page"] = ["must be 1 or more"]
        if min(sizes) < 1 or max(sizes) > MOST_PER_PAGE:
            violations["Paging.PageSize"] = [f"must be between 1 and {MOST_PER_PAGE}"]
        if violations:
            raise InvalidArgument(violations)
        return pages[0], sizes[0]

    def _numbers(self, names: tuple[str, ...], default: int) -> list[int]:
        """What each spelling that is given says in the end."""
        given = [(name, values[-1]) for name in names if (values := self.texts(name))]
        for name, text in given:
            if not _INT32.fullmatch(text) or abs(int(text)) >= 2**31:
                raise Invalid(f"The parameter {name} must be a whole number, not {text!r}.")
        return [int(text) for _, text in given] or [default]


def listed(
    connector: Connector, position: Position | None, wanted: Wanted, settings: Callable[[Connector], Mapping[str, str]]
) -> dict[str, Any]:
    """One item of the list, with the documented names that differ from the canonical ones beside them (G1).

    `settings` gives them as reads show them; it is asked only where they are wanted.
    """
    state_at, settings_at = timestamp(connector.state_at), timestamp(connector.settings_at)
    item: dict[str, Any] = {
        "connectorId": connector.id,
        "name": connector.name,
        "instanceTypeName": instance_type(connector),
        "state": connector.state,
        "stateUpdateTime": state_at,
        "stateTimestamp": state_at,
        "settings": {},
        "createTime": timestamp(connector.created_at),
        "updateTime": timestamp(connector.updated_at),
    }
    if wanted.configuration is not None:
        item["configuration"] = unflatten(settings(connector)) if wanted.configuration else {}
        item["configurationUpdateTime"] = settings_at
    else:
        item |= {"settingsUpdateTime": settings_at, "settingsTimestamp": settings_at}
        if wanted.settings:
            item["settings"] = shown_settings(settings(connector))
    if position is not None:
        item["position"] = position
    if connector.deleted_at is not None:
        item["deleteTime"] = timestamp(connector.deleted_at)
    if connector.error is not None:
        item["errorDetails"] = {"code": connector.error.code, "message": connector.error.message}
    return item


def instance_type(connector: Connector) -> str:
    return next((value for key, value in connector.settings.items() if key.lower() == "instancetypename"), "")


def shown_settings(settings: Mapping[str, str]) -> dict[str, str]:
    return {camel_case(key): value for key, value in settings.items()}


def _spelling(name: str) -> str:
    return name.replace("_", "").lower()
