"""The API role: serves the management API until told to stop."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable

import uvicorn

from sinkworker import logs
from sinkworker.config import Config
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.vault import Protection
from sinkworker.database import Database
from sinkworker.errors import Misconfigured, SinkworkerError
from sinkworker.ledger import redis_client
from sinkworker.management.api import create_app
from sinkworker.management.scrape import scrape
from sinkworker.metrics.recorder import recorded

log = logging.getLogger(__name__)

GRACE_S = 2
"""How long requests in progress have when the role stops."""

LOOK_S = 2.0
"""How often the API looks whether its servers answer, to say so when that changes."""


class ApiServer:
    """Creates, starts, stops and lists connectors over HTTP."""

    name = "api"
    purpose = "serving the HTTP API that manages connectors"

    def __init__(self, config: Config) -> None:
        assert config.redis_url is not None
        assert config.kurrentdb_uri is not None
        self._host, self._port = config.api_host, config.api_port
        self._redis = redis_client.connect(config.redis_url)
        self._database = Database(config.kurrentdb_uri)
        self._registry = Registry(self._database, Protection.of(config))
        self._probes: dict[str, Callable[[], object]] = {
            "KurrentDB": self._database.head,
            "Redis": lambda: redis_client.check(self._redis),
        }

    def run(self, stop: threading.Event) -> None:
        """Raises Misconfigured when the address cannot be listened on."""
        listener = _listen(self._host, self._port)
        app = create_app(self._registry, self._notify, self._unready, self._metrics)
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_S, lifespan="off")
        )
        # In a thread of its own uvicorn leaves the signals to us.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True)
        thread.start()
        log.info("listening on http://%s:%d", self._host, self._port)
        threading.Thread(target=self._watch, args=(stop,), name="watch", daemon=True).start()
        try:
            while thread.is_alive() and not stop.wait(0.2):
                pass
        finally:
            server.should_exit = True
            thread.join(GRACE_S + 2)
            listener.close()
            self._database.close()
            self._redis.close()

    def _watch(self, stop: threading.Event) -> None:
        """Say once what the API waits for, and once that it is back. Requests meanwhile are answered 503."""
        troubles = {name: logs.Troubles(log) for name in self._probes}
        while not stop.is_set():
            down = self._down()
            for name, trouble in troubles.items():
                if name in down:
                    trouble.say(down[name], "Requests are answered 503 until it does.")
                else:
                    trouble.over(f"{name} answers again")
            stop.wait(LOOK_S)

    def _notify(self, connector_id: str) -> None:
        with contextlib.suppress(SinkworkerError):  # schedulers also look by themselves
            redis_client.poke(self._redis, connector_id)

    def _metrics(self) -> str:
        return scrape(self._registry, self._database.head, lambda connector: recorded(self._redis, connector))

    def _unready(self) -> list[str]:
        return list(self._down())

    def _down(self) -> dict[str, SinkworkerError]:
        """The servers that do not answer, and what they do instead."""
        down = {}
        for name, probe in self._probes.items():
            try:
                probe()
            except SinkworkerError as exc:
                down[name] = exc
        return down


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as exc:
        raise Misconfigured(
            f"The API cannot listen on {host}:{port}: {exc.strerror or exc}.",
            hint="Stop what uses the port, or choose another with SINKWORKER_API_HOST and SINKWORKER_API_PORT.",
        ) from exc
    return listener
