"""The management API of KurrentDB's own connectors, for tests: answers in the contract's shapes, over real HTTP."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "admin", "change:it@home"


@dataclass
class Original:
    """One server: what it has, in which shape it says so, and what it was asked."""

    connectors: dict[str, dict[str, Any]]
    """By id: `settings`, and what else differs from a stopped connector named by its id."""
    documented: bool = False
    """Names as in the documentation's samples, else those of the protocol, as servers emit them."""
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://{USER}:{PASSWORD.replace('@', '%40').replace(':', '%3A')}@127.0.0.1:{self.port}"

    def answer(self, method: str, target: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(f"{method} {target}")
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        if method != "GET":
            return 500, {"code": 13, "message": "nothing here is to be changed", "details": []}
        if parts.path == "/connectors":
            return 200, self._list(query)
        connector_id = parts.path.removeprefix("/connectors/").removesuffix("/settings")
        return 200, {
            "settings": self.connectors[connector_id]["settings"],
            "settingsUpdateTime": "2024-08-16T12:15:34Z",
        }

    def _list(self, query: dict[str, list[str]]) -> dict[str, Any]:
        wanted = query.get("connectorId", list(self.connectors))
        items = [self._item(name, each) for name, each in self.connectors.items() if name in wanted]
        # Each shape knows its own spelling and ignores the other (contract §1.3).
        names = ("page", "pageSize") if self.documented else ("paging.page", "paging.pageSize")
        page, size = (int(query[name][0]) for name in names)
        shown = items[(page - 1) * size : page * size]
        if self.documented:
            return {"items": shown, "totalCount": len(items), "paging": {"page": page, "pageSize": size}}
        return {"items": shown, "totalSize": len(shown)}

    def _item(self, connector_id: str, given: dict[str, Any]) -> dict[str, Any]:
        facts = {key: value for key, value in given.items() if key != "settings"}
        ending = "Timestamp" if self.documented else "UpdateTime"
        item = {
            "connectorId": connector_id,
            "name": connector_id,
            "state": "CONNECTOR_STATE_STOPPED",
            "settings": given["settings"],
            **dict.fromkeys((f"state{ending}", f"settings{ending}"), "2024-08-13T12:21:50.506102900Z"),
            **facts,
        }
        return item if self.documented else {"instanceTypeName": given["settings"]["instanceTypeName"], **item}


@contextlib.contextmanager
def serving(original: Original, certificate: Path | None = None) -> Iterator[Original]:
    """While inside, the server answers at its URL, to its user alone; over TLS with a certificate."""
    expected = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            """Not among the output of the tests."""

        def _answer(self) -> None:
            if self.headers.get("Authorization") != expected:
                self.send_response(401)  # as the original's HTTP layer does: without a body
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, body = original.answer(self.command, self.path)
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    original.port = server.server_port
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield original
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
