"""The management HTTP API: every route on one screen, answers and errors as the contract has them (contract §1)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, FastAPI, Path, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from sinkworker import __version__
from sinkworker.connectors import commands, naming, settings
from sinkworker.connectors.configuration import flatten, texts, unflatten
from sinkworker.connectors.errors import InvalidArgument
from sinkworker.connectors.lifecycle import Connector
from sinkworker.connectors.registry import Registry
from sinkworker.errors import SinkworkerError
from sinkworker.management import faults, openapi, shapes
from sinkworker.management.shapes import Query
from sinkworker.metrics import exposition
from sinkworker.model import Position

log = logging.getLogger(__name__)

Answer: TypeAlias = dict[str, Any]

_NOT_FOUND = 404
_METHOD = 405


class Json(JSONResponse):
    """JSON with the content type that clients of the original see."""

    media_type = "application/json; charset=utf-8"


async def _object(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in request.stream():
        if len(body) <= shapes.MAX_BODY_BYTES:  # what is too large anyway is read to its end, but not kept
            body += chunk
    return shapes.json_object(bytes(body), request.headers.get("content-type", ""))


def _checked_id(connector_id: Annotated[str, Path(json_schema_extra=openapi.ID)]) -> str:
    if violations := naming.id_faults(connector_id):
        raise InvalidArgument({"ConnectorId": violations})
    return connector_id


Body = Annotated[dict[str, Any], Depends(_object)]
Id = Annotated[str, Depends(_checked_id)]
At = Annotated[str, Path(json_schema_extra=openapi.POSITION)]


def create_app(
    registry: Registry, notify: Callable[[str], None], unready: Callable[[], list[str]], metrics: Callable[[], str]
) -> FastAPI:
    """The application. `notify` tells schedulers of a changed connector; `unready` names what does not answer.

    `metrics` is the text that Prometheus scrapes.

    Handlers are plain functions, run in threads: the registry blocks.
    """
    app = FastAPI(
        title="sinkworker",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        responses=openapi.ERRORS,
        redirect_slashes=False,
    )

    def done(connector: Connector) -> Answer:
        notify(connector.id)
        return {}

    @app.post("/connectors/{connector_id}", openapi_extra=openapi.CREATE)
    def create(connector_id: Id, body: Body) -> Answer:
        name = shapes.text_member(body, "name") or ""
        named = bool(name.strip())  # a blank name counts as none
        if named and (violations := naming.name_faults(name)):
            raise InvalidArgument({"Name": violations})
        configuration = shapes.object_member(body, "configuration")
        given = flatten(configuration) if configuration else texts(shapes.object_member(body, "settings"))
        return done(registry.create(connector_id, given, name if named else None))

    @app.put("/connectors/{connector_id}", openapi_extra=openapi.SETTINGS)
    @app.put("/connectors/{connector_id}/settings", openapi_extra=openapi.SETTINGS)
    def reconfigure(connector_id: Id, body: Body) -> Answer:
        return done(registry.reconfigure(connector_id, texts(body)))

    @app.put("/connectors/{connector_id}/configuration", openapi_extra=openapi.CONFIGURATION)
    def reconfigure_nested(connector_id: Id, body: Body) -> Answer:
        return done(registry.reconfigure(connector_id, flatten(body)))

    @app.delete("/connectors/{connector_id}")
    def delete(connector_id: Id) -> Answer:
        return done(registry.delete(connector_id))

    @app.post("/connectors/{connector_id}/start", openapi_extra=openapi.START)
    def start(connector_id: Id, request: Request) -> Answer:
        asked = Query(request.query_params.multi_items()).texts("start.position")
        return done(registry.start(connector_id, shapes.position_of(asked[-1]) if asked else None))

    @app.post("/connectors/{connector_id}/start/{position}")
    def start_at(connector_id: Id, position: At) -> Answer:
        return done(registry.start(connector_id, shapes.position_of(position)))

    @app.post("/connectors/{connector_id}/reset")
    def reset(connector_id: Id) -> Answer:
        return done(registry.reset(connector_id))

    @app.post("/connectors/{connector_id}/reset/{position}")
    def reset_to(connector_id: Id, position: At) -> Answer:
        return done(registry.reset(connector_id, shapes.position_of(position)))

    @app.post("/connectors/{connector_id}/stop")
    def stop(connector_id: Id) -> Answer:
        return done(registry.stop(connector_id))

    @app.put("/connectors/{connector_id}/rename", openapi_extra=openapi.RENAME)
    def rename(connector_id: Id, body: Body) -> Answer:
        name = shapes.text_member(body, "name") or ""
        if violations := naming.name_faults(name):
            raise InvalidArgument({"Name": violations})
        registry.rename(connector_id, name)
        return {}

    @app.get("/connectors", openapi_extra=openapi.LIST)
    def list_connectors(request: Request) -> Answer:
        return _list(registry, Query(request.query_params.multi_items()))

    @app.get("/connectors/{connector_id}/settings")
    def get_settings(connector_id: Id) -> Answer:
        connector = commands.existing(registry.get(connector_id), connector_id)
        return {
            "settings": shapes.shown_settings(registry.shown_settings(connector)),
            "settingsUpdateTime": shapes.timestamp(connector.settings_at),
        }

    @app.get("/connectors/{connector_id}/configuration")
    def get_configuration(connector_id: Id) -> Answer:
        connector = commands.existing(registry.get(connector_id), connector_id)
        return {
            "configuration": unflatten(registry.shown_settings(connector)),
            "configurationUpdateTime": shapes.timestamp(connector.settings_at),
        }

    @app.get("/livez")
    async def livez() -> Answer:
        return {"status": "alive"}

    @app.get("/readyz")
    def readyz() -> Json:
        down = unready()
        return Json({"status": "waiting" if down else "ready", "waitingFor": down}, status_code=503 if down else 200)

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics_text() -> Response:
        return Response(metrics(), media_type=exposition.CONTENT_TYPE)

    _answer_errors(app)
    return app


def _list(registry: Registry, query: Query) -> Answer:
    states, ids = query.states(), set(query.texts("connectorId"))
    types = query.texts("instanceTypeName")
    page, size = query.paging()
    deleted_too = query.flag("showDeleted")
    matching = [
        connector
        for connector in registry.all()
        if (deleted_too or not connector.deleted)
        and (not states or connector.state in states)
        and (not ids or connector.id in ids)
        # There is one type; every spelling of it finds every connector.
        and (not types or any(name in settings.TYPE_NAMES for name in types))
    ]
    shown = matching[(page - 1) * size : page * size]
    return {
        "items": [shapes.listed(each, _position(registry, each), query, registry.shown_settings) for each in shown],
        "totalSize": len(shown),
        "totalCount": len(matching),
        "paging": {"page": page, "pageSize": size},
    }


def _position(registry: Registry, connector: Connector) -> Position | None:
    return None if connector.deleted else registry.position(connector.id)


def _allowed(request: Request) -> str:
    """Every method of the request's path. The framework names those of the first route alone."""
    routes = (route for route in request.app.routes if isinstance(route, Route))
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in matching for method in route.methods or ()}))


def _answer_errors(app: FastAPI) -> None:
    """Every error in the documented body, also those that the framework finds by itself."""

    @app.exception_handler(SinkworkerError)
    async def ours(_: Request, exc: SinkworkerError) -> Json:
        status, body = faults.answer(exc)
        return Json(body, status)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, exc: HTTPException) -> Json:
        code = {_NOT_FOUND: 5, _METHOD: 12}.get(exc.status_code, 3)
        message = f"{request.method} {request.url.path}: {exc.detail}."
        headers = {"Allow": _allowed(request)} if exc.status_code == _METHOD else exc.headers
        return Json(faults.body(code, message), exc.status_code, headers)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, exc: Exception) -> Json:
        log.error("a request failed: %s: %s", type(exc).__name__, exc)
        return Json(faults.internal("An internal error; the log of the API says more."), 500)
