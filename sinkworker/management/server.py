"""The API role: serves the management API until told to stop."""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
from collections.abc import Callable

import uvicorn

from sinkworker import logs
from sinkworker.config import Config
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.vault import Protection
from sinkworker.database import Database
from sinkworker.errors import SinkworkerError
from sinkworker.ledger import redis_client
from sinkworker.management import binding
from sinkworker.management.api import create_app
from sinkworker.management.guard import Credentials
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
        self._config = config
        self._redis = redis_client.connect(config.redis_url)
        self._database = Database(config.kurrentdb_uri)
        self._registry = Registry(self._database, Protection.of(config))
        self._probes: dict[str, Callable[[], object]] = {
            "KurrentDB": self._database.head,
            "Redis": lambda: redis_client.check(self._redis),
        }

    def run(self, stop: threading.Event) -> None:
        """Raises Misconfigured when the address cannot be listened on, Invalid when it, or a file, must not be used."""
        config = self._config
        credentials, context = _credentials(config), _tls(config)
        anonymous = credentials is None and not config.api_allow_anonymous
        listener = binding.listen(config.api_host, config.api_port, only_loopback=anonymous)
        app = create_app(self._registry, self._notify, self._unready, self._metrics, credentials)
        served = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_S, lifespan="off", ws="none"
        )
        served.load()
        served.ssl = context
        server = uvicorn.Server(served)
        # In a thread of its own uvicorn leaves the signals to us.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True)
        thread.start()
        log.info(
            "listening on %s://%s%s",
            "http" if context is None else "https",
            binding.address_of(config.api_host, config.api_port),
            "" if credentials is None else f" for the user {credentials.user}",
        )
        if credentials is not None and context is None and not binding.is_loopback(listener.getsockname()[0]):
            log.warning("The password travels unencrypted: set SINKWORKER_API_CERTIFICATE and SINKWORKER_API_KEY.")
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


def _credentials(config: Config) -> Credentials | None:
    password = config.password_of_api()
    return None if config.api_user is None or password is None else Credentials(config.api_user, password)


def _tls(config: Config) -> ssl.SSLContext | None:
    if config.api_certificate is None or config.api_key is None:
        return None
    return binding.tls(config.api_certificate, config.api_key)
