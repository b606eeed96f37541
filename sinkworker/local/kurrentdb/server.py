"""The server: one data file, one listening socket, its connections, and an orderly stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from sinkworker.local.kurrentdb.connection import Connection, KeepAlive
from sinkworker.local.kurrentdb.log import Log
from sinkworker.local.kurrentdb.schema import open_data_file
from sinkworker.local.kurrentdb.service import Service
from sinkworker.local.kurrentdb.writer import Writer

# How long a client may take to accept the goodbye of a stopping server.
CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class ServerOptions:
    """Where the data lies and where clients come in. Port 0 takes one that is free."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    keep_alive: KeepAlive = field(default_factory=KeepAlive)


class Server:
    """The stand-in. `start` it inside a running event loop, `stop` it once."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._connections: set[Connection] = set()

    async def start(self) -> tuple[str, int]:
        """Open the data file and listen; the answer is the address.

        Raises `DataFileError` where the file cannot be used, `OSError` where the address cannot.
        """
        options = self._options
        open_data_file(options.data)
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(options.data, self._committed)
        self._log = Log(options.data, self._writer.end)
        self._service = Service(self._log, self._writer)
        self._writer.start()
        try:
            self._listener = await self._loop.create_server(self._connect, options.host, options.port)
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
