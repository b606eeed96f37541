"""A bad network: a TCP proxy in front of a server, which delays, stalls, refuses, resets or cuts what passes it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.ports import free_port

CHUNK = 64 * 1024
LOOPBACK = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: what closing then sends is a reset."""

Answer = TypeVar("Answer")


class Proxy:
    """Listens on a free loopback port from construction to `close`. Its methods may be called from any thread."""

    def __init__(self, server: str) -> None:
        """`server`: HOST:PORT, or a URL with one."""
        parts = urlsplit(server if "://" in server else f"//{server}")
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = (parts.hostname, parts.port)
        self.port = free_port()
        self.address = server.replace(f":{parts.port}", f":{self.port}", 1)
        """The server's, as clients have to know it to come through here."""
        self.delay_s = 0.0
        """How much later everything arrives, in each direction."""
        self._cut_after: int | None = None
        self._lost: set[int] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def close(self) -> None:
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset(self) -> None:
        """Every connection that is open now ends with a reset."""
        self._do(self._reset())

    @contextlib.contextmanager
    def slow(self, delay_s: float) -> Iterator[None]:
        """Inside, everything arrives so much later."""
        self.delay_s = delay_s
        try:
            yield
        finally:
            self.delay_s = 0.0

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Inside, connections are taken and kept, and nothing passes in either direction: what a lost route looks like.

        Afterwards what was held up arrives.
        """
        self._loop.call_soon_threadsafe(self._passing.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._passing.set)

    def lose(self, ports: Iterable[int]) -> None:
        """Nothing passes any more over the connections from these ports of clients, and neither side hears of that."""
        self._lost.update(ports)

    @contextlib.contextmanager
    def unreachable(self) -> Iterator[None]:
        """Inside, connections are reset, and new ones refused."""
        self._do(self._refuse())
        try:
            yield
        finally:
            self._do(self._listen())

    @contextlib.contextmanager
    def cutting(self, after_bytes: int) -> Iterator[None]:
        """Inside, every connection is reset once the server has sent so much over it, in the middle of what it says."""
        self._cut_after = after_bytes
        try:
            yield
        finally:
            self._cut_after = None

    def _do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._connect, LOOPBACK, self.port)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._reset()

    async def _reset(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        writers = [writer]
        client = writer.get_extra_info("peername")[1]
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._server)
            writers.append(server_writer)
            ways = [
                asyncio.ensure_future(self._pass_on(reader, server_writer, client)),
                asyncio.ensure_future(self._pass_on(server_reader, writer, client, may_be_cut=True)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or the connection was reset by a test: both end it
        finally:
            self._connections.discard(connection)
            for each in writers:
                _abort(each)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: int, *, may_be_cut: bool = False
    ) -> None:
        passed = 0
        while chunk := await reader.read(CHUNK):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._passing.wait()
            if client in self._lost:
                await asyncio.Event().wait()
            if may_be_cut and self._cut_after is not None and passed + len(chunk) > self._cut_after:
                writer.write(chunk[: max(0, self._cut_after - passed)])
                return
            passed += len(chunk)
            writer.write(chunk)
            await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
