"""Pure: what the API's own description says beyond the signatures of its routes. It checks nothing (contract §1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from sinkworker.connectors.configuration import MAX_KEY_LENGTH
from sinkworker.connectors.lifecycle import State
from sinkworker.connectors.naming import ID_CHARACTERS, ID_LENGTHS, NAME_LENGTHS
from sinkworker.management.shapes import MOST_PER_PAGE, UINT64_MAX

Answers: TypeAlias = dict[int | str, dict[str, Any]]
"""By status, as the framework takes them for a route."""

JSON = "application/json"


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An object that has these members and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _detail(kind: str, **members: Any) -> dict[str, Any]:
    return _object({"@type": {"const": f"type.googleapis.com/google.rpc.{kind}"}, **members})


_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}
_UINT64 = {"type": "integer", "format": "uint64", "minimum": 0, "maximum": UINT64_MAX}
_NESTED = {"type": "object"}
_TEXT_BY_KEY = {"type": "object", "additionalProperties": _TEXT}

_SCHEMAS = {
    "Error": _object(
        {
            "code": {
                "type": "integer",
                "enum": [3, 5, 6, 7, 9, 12, 13, 14, 16],
                "description": "As gRPC numbers them.",
            },
            "message": _TEXT,
            "details": {
                "type": "array",
                "items": {
                    "anyOf": [
                        _detail(
                            "BadRequest",
                            fieldViolations={
                                "type": "array",
                                "items": _object({"field": _TEXT, "description": _TEXT}),
                            },
                        ),
                        _detail("ResourceInfo", resourceType=_TEXT, resourceName=_TEXT, owner=_TEXT, description=_TEXT),
                        _detail("ErrorInfo", reason=_TEXT, domain=_TEXT),
                        _detail("DebugInfo", stackEntries={"type": "array", "items": _TEXT}, detail=_TEXT),
                    ]
                },
            },
        }
    ),
    "Connector": _object(
        {
            "connectorId": _TEXT,
            "name": _TEXT,
            "instanceTypeName": _TEXT,
            "state": {"type": "string", "enum": list(State)},
            "stateUpdateTime": _TIME,
            "stateTimestamp": _TIME,
            "settings": _TEXT_BY_KEY,
            "createTime": _TIME,
            "updateTime": _TIME,
        },
        {
            "settingsUpdateTime": _TIME,
            "settingsTimestamp": _TIME,
            "configuration": _NESTED,
            "configurationUpdateTime": _TIME,
            "position": {**_UINT64, "description": "Of the log: the last checkpoint."},
            "deleteTime": _TIME,
            "errorDetails": _object({"code": _TEXT, "message": _TEXT}),
        },
    ),
}

_MEANINGS = {
    400: "The request is wrong, or not possible in the connector's state",
    401: "The credentials are not the right ones",
    403: "There are no credentials",
    404: "There is no such connector",
    409: "A connector of this id exists",
    500: "An internal error",
    503: "KurrentDB does not answer: after a command, ask whether it took effect",
}


def _answers(schema: Mapping[str, Any], *errors: int) -> Answers:
    """Success with a body of that schema, and these errors."""
    return {
        200: {"description": "Done", "content": {JSON: {"schema": schema}}},
        **{status: _error(status) for status in errors},
    }


def _error(status: int) -> dict[str, Any]:
    return {"description": _MEANINGS[status], "content": {JSON: {"schema": _ref("Error")}}}


_DONE = _object({})
CREATED = _answers(_DONE, 400, 409, 500, 503)
DONE = _answers(_DONE, 400, 404, 500, 503)
LISTED = _answers(
    _object(
        {
            "items": {"type": "array", "items": _ref("Connector")},
            "totalSize": {**_COUNT, "description": "Items of this page."},
            "totalCount": {**_COUNT, "description": "Items of all pages."},
            "paging": _object({"page": _COUNT, "pageSize": _COUNT}),
        }
    ),
    *(400, 500, 503),
)
SETTINGS_SHOWN = _answers(_object({"settings": _TEXT_BY_KEY, "settingsUpdateTime": _TIME}), 400, 404, 500, 503)
CONFIGURATION_SHOWN = _answers(
    _object({"configuration": _NESTED, "configurationUpdateTime": _TIME}), 400, 404, 500, 503
)

ALIVE = _answers(_object({"status": {"const": "alive"}}))
_READINESS = _object(
    {
        "status": {"enum": ["ready", "waiting"]},
        "waitingFor": {"type": "array", "items": {"enum": ["KurrentDB", "Redis"]}},
    }
)
READY = {
    **_answers(_READINESS),
    503: {"description": "It waits for a server", "content": {JSON: {"schema": _READINESS}}},
}
SCRAPED: Answers = {500: _error(500), 503: _error(503)}


def completed(described: dict[str, Any], open_paths: Collection[str] | None) -> dict[str, Any]:
    """The framework's description with what it does not know, and without what it takes for granted.

    All but the open paths need credentials; where that is None, none does.
    """
    described["components"] = {"schemas": _SCHEMAS}
    if open_paths is not None:
        described["components"]["securitySchemes"] = {"basic": {"type": "http", "scheme": "basic"}}
    for path, operations in described["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # we check by ourselves, and answer 400
            if open_paths is not None and path not in open_paths:
                operation["security"] = [{"basic": []}]
                operation["responses"] |= {str(status): _error(status) for status in (401, 403)}
    return described


ID = {
    "minLength": ID_LENGTHS[0],
    "maxLength": ID_LENGTHS[-1],
    "pattern": f"^{ID_CHARACTERS}$",
    "examples": ["loans-sink"],
}
POSITION = {**_UINT64, "description": "Of the log: exclusive, 0 is the beginning."}

_NAME = {"type": "string", "minLength": NAME_LENGTHS[0], "maxLength": NAME_LENGTHS[-1], "pattern": r"\S"}
_SETTINGS = {
    "type": "object",
    "propertyNames": {"maxLength": MAX_KEY_LENGTH},
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}
_SAMPLE = {
    "instanceTypeName": "kafka-sink",
    "bootstrapServers": "localhost:9092",
    "topic": "customers",
    "subscription:filter:scope": "record",
    "subscription:filter:filterType": "regex",
    "subscription:filter:expression": "example-stream.*?",
}
_NESTED_SAMPLE = {
    "instanceTypeName": "kafka-sink",
    "topic": "customers",
    "subscription": {"initialPosition": "earliest", "filter": {"scope": "stream", "expression": "example-"}},
}


def _body(schema: Mapping[str, Any], **samples: Any) -> dict[str, Any]:
    examples = {name: {"value": sample} for name, sample in samples.items()}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema, "examples": examples}}}}


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
            "configuration": {**_NESTED, "description": "The settings, nested; where it has any, they count."},
        },
    },
    settings={"settings": _SAMPLE},
    configuration={"name": "Customers", "configuration": _NESTED_SAMPLE},
)
SETTINGS = _body(_SETTINGS, replaces=_SAMPLE, merges={"defaultHeaders:Team": "lending", "compression:level": None})
CONFIGURATION = _body(_NESTED, replaces=_NESTED_SAMPLE, merges={"autocommit": {"interval": 1000}})
RENAME = _body({"type": "object", "required": ["name"], "properties": {"name": _NAME}}, renames={"name": "Customers"})

START = _query({"start.position": POSITION})

_TEXTS = {"type": "array", "items": _TEXT}
_FLAG = {"type": "boolean", "default": False}
_PAGE = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 2**31 - 1, "default": 1}
_PAGE_SIZE = {"type": "integer", "minimum": 1, "maximum": MOST_PER_PAGE, "default": MOST_PER_PAGE}
LIST = _query(
    {
        "state": {"type": "array", "items": {"type": "string", "enum": [*State, *map(str, range(len(State)))]}},
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
