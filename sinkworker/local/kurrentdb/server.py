"""The server: one data file, one listening socket, its connections, and an orderly stop."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from sinkworker.local.kurrentdb.access import Access
from sinkworker.local.kurrentdb.connection import Connection, KeepAlive
from sinkworker.local.kurrentdb.log import Log
from sinkworker.local.kurrentdb.schema import open_data_file, unusable
from sinkworker.local.kurrentdb.service import Service
from sinkworker.local.kurrentdb.writer import Writer

# How long a client may take to accept the goodbye of a stopping server.
CLOSE_TIMEOUT_S = 1.0


class CertificateError(Exception):
    """The certificate or its key cannot be used. The message is one sentence for whoever started the server."""


@dataclass(frozen=True)
class Tls:
    """Files in PEM form: the certificate, with any intermediate ones, and its key."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What connections are secured with. Raises `CertificateError` where the files cannot be used."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["h2"])
        try:
            # An empty password, so that an encrypted key is an error and not a question on the terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except OSError as exc:
            raise CertificateError(
                f"{self.certificate} and {self.key} cannot be used as certificate and key ({exc.strerror or exc}); "
                "name a certificate and its key in PEM form, readable without a password."
            ) from exc
        return context


@dataclass(frozen=True)
class ServerOptions:
    """Where the data lies and where clients come in. Port 0 takes one that is free."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    access: Access = field(default_factory=Access)
    tls: Tls | None = None
    keep_alive: KeepAlive = field(default_factory=KeepAlive)


class Server:
    """The stand-in. `start` it inside a running event loop, `stop` it once."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._connections: set[Connection] = set()

    async def start(self) -> tuple[str, int]:
        """Open the data file and listen; the answer is the address.

        Raises `DataFileError` or `CertificateError` where a file cannot be used, `OSError` where the address cannot.
        """
        options = self._options
        tls = None if options.tls is None else options.tls.context()
        self._lock = open_data_file(options.data)
        self._loop = asyncio.get_running_loop()
        try:
            self._writer = Writer(options.data, self._committed)
            self._log = Log(options.data, self._writer.end)
        except sqlite3.DatabaseError as exc:
            raise unusable(exc, options.data) from exc
        self._service = Service(self._log, self._writer, options.access)
        self._writer.start()
        try:
            self._listener = await self._loop.create_server(self._connect, options.host, options.port, ssl=tls)
        except OSError:
            self._close_files()
            raise
        host, port, *_ = self._listener.sockets[0].getsockname()
        return host, port

    async def stop(self) -> None:
        """End every call as a stopping server does, then close the connections and the file."""
        self._listener.close()
        connections = list(self._connections)
        for connection in connections:
            connection.shut_down()
        closed = asyncio.gather(*(connection.closed.wait() for connection in connections))
        try:
            await asyncio.wait_for(closed, CLOSE_TIMEOUT_S)
        except TimeoutError:
            for connection in connections:
                connection.abort()
        self._close_files()

    def _connect(self) -> Connection:
        connection = Connection(self._service, self._options.keep_alive)
        self._connections.add(connection)
        task = asyncio.ensure_future(connection.closed.wait())
        task.add_done_callback(lambda _: self._connections.discard(connection))
        return connection

    def _committed(self, end: int) -> None:
        """Called in the writer's thread."""
        self._loop.call_soon_threadsafe(self._log.grown, end)

    def _close_files(self) -> None:
        self._writer.close()
        self._log.close()
        self._lock.release()
