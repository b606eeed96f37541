"""Pure: what the API's own description says beyond the signatures of its routes. It checks nothing (contract §1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinkworker.connectors.configuration import MAX_KEY_LENGTH
from sinkworker.connectors.lifecycle import State
from sinkworker.connectors.naming import ID_CHARACTERS, ID_LENGTHS, NAME_LENGTHS
from sinkworker.management.shapes import MOST_PER_PAGE

_ERROR = {
    "type": "object",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer"},
        "message": {"type": "string"},
        "details": {"type": "array", "items": {"type": "object"}},
    },
}
_MEANINGS: dict[int | str, str] = {
    400: "The request is wrong, or not possible in the connector's state",
    404: "There is no such connector",
    409: "A connector of this id exists",
    500: "An internal error",
    503: "KurrentDB does not answer",
    "default": "Any other error",  # without it FastAPI describes a 422 of its own, which is never answered
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": {"application/json": {"schema": _ERROR}}}
    for status, meaning in _MEANINGS.items()
}

ID = {"minLength": ID_LENGTHS[0], "maxLength": ID_LENGTHS[-1], "pattern": f"^{ID_CHARACTERS}$"}
POSITION = {"type": "integer", "format": "uint64", "minimum": 0}
"""Of the log: exclusive, 0 is the beginning."""

_NAME = {"type": "string", "minLength": NAME_LENGTHS[0], "maxLength": NAME_LENGTHS[-1], "pattern": r"\S"}
_SETTINGS = {
    "type": "object",
    "propertyNames": {"maxLength": MAX_KEY_LENGTH},
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}
_CONFIGURATION = {"type": "object"}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _query(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {"parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]}


CREATE = _body(
    {
        "type": "object",
        "properties": {
            "name": {
                "description": "Missing, null or blank: the connector is named by its id.",
                "anyOf": [_NAME, {"type": "string", "pattern": r"^\s*$"}, {"type": "null"}],
            },
            "settings": _SETTINGS,
            "configuration": {**_CONFIGURATION, "description": "The settings, nested; where it has any, they count."},
        },
    }
)
SETTINGS = _body(_SETTINGS)
CONFIGURATION = _body(_CONFIGURATION)
RENAME = _body({"type": "object", "required": ["name"], "properties": {"name": _NAME}})

START = _query({"start.position": POSITION})

_TEXTS = {"type": "array", "items": {"type": "string"}}
_FLAG = {"type": "boolean", "default": False}
_PAGE = {"type": "integer", "minimum": 1, "default": 1}
_PAGE_SIZE = {"type": "integer", "minimum": 1, "maximum": MOST_PER_PAGE, "default": MOST_PER_PAGE}
LIST = _query(
    {
        "state": {"type": "array", "items": {"type": "string", "enum": list(State)}},
        "instanceTypeName": _TEXTS,
        "connectorId": _TEXTS,
        "includeSettings": _FLAG,
        "includeConfiguration": {
            "type": "boolean",
            "description": "Given at all, items have `configuration` in place of `settings`; with false an empty one.",
        },
        "showDeleted": _FLAG,
        "page": _PAGE,
        "pageSize": _PAGE_SIZE,
        "paging.page": _PAGE,
        "paging.pageSize": _PAGE_SIZE,
    }
)
