"""The management HTTP API: every route on one screen, answers and errors as the contract has them (contract §1)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sinkworker import __version__
from sinkworker.connectors import commands, naming
from sinkworker.connectors.configuration import amended, flatten, texts, unflatten
from sinkworker.connectors.errors import InvalidArgument
from sinkworker.connectors.functions import refuse_unusable
from sinkworker.connectors.lifecycle import Connector
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.settings import TYPE_NAMES, parse
from sinkworker.errors import SinkworkerError
from sinkworker.management import faults, guard, openapi, shapes
from sinkworker.management.answers import Json
from sinkworker.management.guard import Credentials
from sinkworker.management.shapes import Query
from sinkworker.metrics import exposition
from sinkworker.model import Position

log = logging.getLogger(__name__)

_NOT_FOUND = 404
_METHOD = 405


async def _object(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in request.stream():
        if len(body) <= shapes.MAX_BODY_BYTES:  # what is too large anyway is read to its end, but not kept
            body += chunk
    return shapes.json_object(bytes(body), request.headers.get("content-type", ""))


def _checked_id(connector_id: UncheckedId) -> str:
    if violations := naming.id_faults(connector_id):
        raise InvalidArgument({"ConnectorId": violations})
    return connector_id


Body = Annotated[dict[str, Any], Depends(_object)]
UncheckedId = Annotated[str, Path(json_schema_extra=openapi.ID)]
Id = Annotated[str, Depends(_checked_id)]
At = Annotated[str, Path(json_schema_extra=openapi.POSITION)]


class _LastSlash:
    """Takes a path with a slash at its end for the one without, as the original does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        await self._app({**scope, "path": path.removesuffix("/") or path}, receive, send)


class _App(FastAPI):
    """Describes itself as it is, which the framework's own description would not."""

    def __init__(self, credentials: Credentials | None, **options: Any) -> None:
        super().__init__(**options)
        self._open_paths = None if credentials is None else guard.OPEN
        self.add_middleware(_LastSlash)
        if credentials is not None:
            self.add_middleware(guard.Guard, credentials=credentials)  # in front: it judges paths as they come

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = openapi.completed(super().openapi(), self._open_paths)
        return self.openapi_schema


def create_app(
    registry: Registry,
    notify: Callable[[str], None],
    unready: Callable[[], list[str]],
    metrics: Callable[[], str],
    credentials: Credentials | None = None,
) -> FastAPI:
    """The application. `notify` tells schedulers of a changed connector; `unready` names what does not answer.

    `metrics` is the text that Prometheus scrapes. Without `credentials` everybody may do everything.

    Handlers are plain functions, run in threads: the registry blocks.
    """
    app = _App(
        credentials,
        title="sinkworker",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )

    def done(connector: Connector) -> Json:
        notify(connector.id)
        return Json({})

    @app.post("/connectors/{connector_id}", responses=openapi.CREATED, openapi_extra=openapi.CREATE)
    def create(connector_id: UncheckedId, body: Body) -> Json:
        name = shapes.text_member(body, "name") or ""
        named = bool(name.strip())  # a blank name counts as none
        configuration = shapes.object_member(body, "configuration")
        given = flatten(configuration) if configuration else texts(shapes.object_member(body, "settings"))
        faulty = {"ConnectorId": naming.id_faults(connector_id), "Name": naming.name_faults(name) if named else []}
        if any(faulty.values()):
            raise InvalidArgument({field: found for field, found in faulty.items() if found} | _faults_of(given))
        return done(registry.create(connector_id, given, name if named else None))

    @app.put("/connectors/{connector_id}", responses=openapi.DONE, openapi_extra=openapi.SETTINGS)
    @app.put("/connectors/{connector_id}/settings", responses=openapi.DONE, openapi_extra=openapi.SETTINGS)
    def reconfigure(connector_id: Id, body: Body) -> Json:
        return done(registry.reconfigure(connector_id, texts(body)))

    @app.put("/connectors/{connector_id}/configuration", responses=openapi.DONE, openapi_extra=openapi.CONFIGURATION)
    def reconfigure_nested(connector_id: Id, body: Body) -> Json:
        return done(registry.reconfigure(connector_id, flatten(body)))

    @app.delete("/connectors/{connector_id}", responses=openapi.DONE)
    def delete(connector_id: Id) -> Json:
        return done(registry.delete(connector_id))

    @app.post("/connectors/{connector_id}/start", responses=openapi.DONE, openapi_extra=openapi.START)
    def start(connector_id: Id, request: Request) -> Json:
        asked = Query(request.query_params.multi_items()).texts("start.position")
        return done(registry.start(connector_id, shapes.position_of(asked[-1]) if asked else None))

    @app.post("/connectors/{connector_id}/start/{position}", responses=openapi.DONE)
    def start_at(connector_id: Id, position: At) -> Json:
        return done(registry.start(connector_id, shapes.position_of(position)))

    @app.post("/connectors/{connector_id}/reset", responses=openapi.DONE)
    def reset(connector_id: Id) -> Json:
        return done(registry.reset(connector_id))

    @app.post("/connectors/{connector_id}/reset/{position}", responses=openapi.DONE)
    def reset_to(connector_id: Id, position: At) -> Json:
        return done(registry.reset(connector_id, shapes.position_of(position)))

    @app.post("/connectors/{connector_id}/stop", responses=openapi.DONE)
    def stop(connector_id: Id) -> Json:
        return done(registry.stop(connector_id))

    @app.put("/connectors/{connector_id}/rename", responses=openapi.DONE, openapi_extra=openapi.RENAME)
    def rename(connector_id: Id, body: Body) -> Json:
        name = shapes.text_member(body, "name") or ""
        if violations := naming.name_faults(name):
            raise InvalidArgument({"Name": violations})
        registry.rename(connector_id, name)
        return Json({})

    @app.get("/connectors", responses=openapi.LISTED, openapi_extra=openapi.LIST)
    def list_connectors(request: Request) -> Json:
        return Json(_list(registry, Query(request.query_params.multi_items())))

    @app.get("/connectors/{connector_id}/settings", responses=openapi.SETTINGS_SHOWN)
    def get_settings(connector_id: Id) -> Json:
        connector = commands.existing(registry.get(connector_id), connector_id)
        shown = shapes.shown_settings(registry.shown_settings(connector))
        return Json({"settings": shown, "settingsUpdateTime": shapes.timestamp(connector.settings_at)})

    @app.get("/connectors/{connector_id}/configuration", responses=openapi.CONFIGURATION_SHOWN)
    def get_configuration(connector_id: Id) -> Json:
        connector = commands.existing(registry.get(connector_id), connector_id)
        shown = unflatten(registry.shown_settings(connector))
        return Json({"configuration": shown, "configurationUpdateTime": shapes.timestamp(connector.settings_at)})

    @app.get("/livez", responses=openapi.ALIVE)
    async def livez() -> Json:
        return Json({"status": "alive"})

    @app.get("/readyz", responses=openapi.READY)
    def readyz() -> Json:
        down = unready()
        return Json({"status": "waiting" if down else "ready", "waitingFor": down}, status_code=503 if down else 200)

    @app.get("/metrics", response_class=PlainTextResponse, responses=openapi.SCRAPED)
    def metrics_text() -> Response:
        return Response(metrics(), media_type=exposition.CONTENT_TYPE)

    _answer_errors(app)
    return app


def _faults_of(settings: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Everything that is wrong with the settings of a new connector, which is refused for something else already."""
    try:
        refuse_unusable(parse(amended({}, settings)))
    except InvalidArgument as exc:
        return exc.violations
    return {}


def _list(registry: Registry, query: Query) -> dict[str, Any]:
    states, ids = query.states(), set(query.texts("connectorId"))
    types = query.texts("instanceTypeName")
    page, size = query.paging()
    deleted_too, wanted = query.flag("showDeleted"), query.wanted()
    matching = [
        connector
        for connector in registry.all(only=ids)
        if (deleted_too or not connector.deleted)
        and (not states or connector.state in states)
        # There is one type; every spelling of it finds every connector.
        and (not types or any(name in TYPE_NAMES for name in types))
    ]
    shown = matching[(page - 1) * size : page * size]
    return {
        "items": [shapes.listed(each, _position(registry, each), wanted, registry.shown_settings) for each in shown],
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

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it: the client left before its request was complete

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, exc: Exception) -> Json:
        log.error("a request failed: %s: %s", type(exc).__name__, exc)
        return Json(faults.internal("An internal error; the log of the API says more."), 500)
