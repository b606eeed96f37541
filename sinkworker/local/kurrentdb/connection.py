"""One HTTP/2 connection: its streams as gRPC calls, flow control, keep-alive."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import quote

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from sinkworker.local.kurrentdb.call import Call
from sinkworker.local.kurrentdb.errors import (
    COMPRESSED_REQUEST,
    HANDLER_FAILED,
    OK,
    REQUEST_TOO_LARGE,
    SHUTTING_DOWN,
    CallFailed,
    Status,
)
from sinkworker.local.kurrentdb.service import Service
from sinkworker.local.kurrentdb.wire import Assembler, CompressedMessage, MessageTooLarge, pack

log = logging.getLogger(__name__)

# What a real server announces.
MAX_CONCURRENT_CALLS = 100
STREAM_WINDOW_BYTES = 768 * 1024
CONNECTION_WINDOW_BYTES = 1024 * 1024
MAX_HEADER_BYTES = 32 * 1024
DEFAULT_WINDOW_BYTES = 65_535

# What every client takes; a real server sends no larger ones, whatever the client offers.
MAX_FRAME_BYTES = 16 * 1024

# The last stream in a stopping server's GOAWAY: every call may have been looked at. A real server names the last it has
# seen, whereupon gRPC by itself makes those still on their way a second time; and where this finds no server, the end
# of the call can get lost in the library (1.85): its caller waits for ever.
ANY_STREAM = 2**31 - 1

SERVER_NAME = "sinkworker"

# What may wait in the socket's buffer of one connection before its senders do.
SEND_BUFFER_BYTES = 256 * 1024

# How much a call may send before it lets others have their turn. What is less goes out with what follows at once: an
# answer, its headers and trailers are one write to the socket, which costs more than all of their making.
TURN_BYTES = 16 * 1024

# The characters of a grpc-message that need no escape: printable ASCII without the percent sign.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(frozen=True)
class KeepAlive:
    """After `interval_s` without a sign of the client it is pinged; if it does not answer within `timeout_s`, the
    connection is closed."""

    interval_s: float = 11.0
    timeout_s: float = 11.0


class Connection(asyncio.Protocol):
    """Serves the calls of one client. `closed` is set once the socket is gone and all handlers have ended."""

    def __init__(self, service: Service, keep_alive: KeepAlive) -> None:
        self.closed = asyncio.Event()
        self._service = service
        self._keep_alive = keep_alive
        self._loop = asyncio.get_running_loop()
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: MAX_CONCURRENT_CALLS,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
            },
        )
        self._transport: asyncio.Transport | None = None
        self._local_address = ("", 0)
        self._calls: dict[int, _StreamCall] = {}
        self._closing = False
        self._socket_full = False
        self._unsent_bytes = 0
        self._flush_is_due = False
        # Set whenever a sender that waits may be able to go on.
        self._room = asyncio.Event()
        self._last_heard = self._loop.time()
        self._ping_sent_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        host, port, *_ = transport.get_extra_info("sockname")
        self._local_address = (host, port)
        transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES)
        self._flush()
        self._timer = self._loop.call_later(self._keep_alive.interval_s, self._check_alive)

    def data_received(self, data: bytes) -> None:
        """Take in frames, start and feed calls."""
        if self._closing:
            return
        self._last_heard = self._loop.time()
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            # h2 has queued the GOAWAY that says what was wrong.
            self._close()
            return
        for event in events:
            self._handle(event)
        self._flush_soon()

    def pause_writing(self) -> None:
        """The socket's buffer is full: senders wait."""
        self._socket_full = True

    def resume_writing(self) -> None:
        """Senders go on."""
        self._socket_full = False
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all calls; there is nobody to answer."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        for call in list(self._calls.values()):
            call.cancel()
        if not self._calls:
            self.closed.set()

    def _flush(self) -> None:
        """Hand what h2 has queued to the socket."""
        self._flush_is_due = False
        self._unsent_bytes = 0
        data = self._h2.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    def _flush_soon(self) -> None:
        """The same, together with what is queued until the loop comes to it."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def shut_down(self) -> None:
        """End every call with the status of a stopping server, say goodbye, and close when it is sent."""
        if not self.connected:
            return
        for call in list(self._calls.values()):
            call.abort(SHUTTING_DOWN)
        self._h2.close_connection(last_stream_id=ANY_STREAM)
        self._close()

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        """Send what is queued and close. Nothing can be said on any stream after that."""
        self._closing = True
        for call in list(self._calls.values()):
            call.cancel()
        self._flush()
        if self._transport is not None:
            self._transport.close()

    # Frames

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived(stream_id=stream_id, data=data, flow_controlled_length=length):
                call = self._calls.get(stream_id)
                if call is None:
                    self._h2.acknowledge_received_data(length, stream_id)
                else:
                    call.feed(data, length)
            case h2.events.RequestReceived(stream_id=stream_id, headers=headers):
                call = _StreamCall(self, stream_id, _text(headers), self._local_address)
                self._calls[stream_id] = call
                call.start(self._service)
            case h2.events.StreamEnded(stream_id=stream_id) if stream_id in self._calls:
                self._calls[stream_id].half_close()
            case h2.events.StreamReset(stream_id=stream_id) if stream_id in self._calls:
                self._calls[stream_id].cancel()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._room.set()
            case h2.events.PingAckReceived():
                self._ping_sent_at = None
            case h2.events.ConnectionTerminated():
                self._close()
            case _:
                pass

    # For calls

    @property
    def connected(self) -> bool:
        """Whether anything can still be sent."""
        return self._transport is not None and not self._closing

    def send_headers(self, stream_id: int, headers: list[tuple[str, str]], end: bool) -> None:
        """Send headers or trailers."""
        self._h2.send_headers(stream_id, headers, end_stream=end)
        self._flush_soon()

    async def send_data(self, stream_id: int, pieces: Iterable[bytes]) -> None:
        """Send each piece as one DATA frame, or as several where frame size or the client's window demand it."""
        for piece in pieces:
            start = 0
            while start < len(piece):
                room = self._h2.local_flow_control_window(stream_id)
                if room <= 0 or self._socket_full or self._unsent_bytes >= SEND_BUFFER_BYTES:
                    self._flush()
                    await self._wait_for_room(stream_id)
                    continue
                end = min(start + min(room, MAX_FRAME_BYTES), len(piece))
                self._h2.send_data(stream_id, piece if end - start == len(piece) else piece[start:end])
                self._unsent_bytes += end - start
                start = end
        if self._unsent_bytes < TURN_BYTES:
            self._flush_soon()
            return
        self._flush()
        # Also when there was room all the time: one fast reader must not keep the others from their turn.
        await asyncio.sleep(0)

    async def _wait_for_room(self, stream_id: int) -> None:
        while self._socket_full or self._h2.local_flow_control_window(stream_id) <= 0:
            self._room.clear()
            await self._room.wait()

    def acknowledge(self, stream_id: int, length: int) -> None:
        """Let the client send `length` more bytes."""
        if length and self.connected:
            self._h2.acknowledge_received_data(length, stream_id)
            self._flush_soon()

    def reset(self, stream_id: int) -> None:
        """Tell the client, answered already, to send no more of its request."""
        self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)
        self._flush_soon()

    def forget(self, stream_id: int) -> None:
        """A call has ended."""
        self._calls.pop(stream_id, None)
        if self._transport is None and not self._calls:
            self.closed.set()

    # Keep-alive

    def _check_alive(self) -> None:
        if not self.connected:
            return
        now = self._loop.time()
        if self._ping_sent_at is not None:
            if now >= self._ping_sent_at + self._keep_alive.timeout_s:
                log.info("A client did not answer a ping within %s s and was disconnected", self._keep_alive.timeout_s)
                self._h2.close_connection(h2.errors.ErrorCodes.INTERNAL_ERROR)
                self._close()
                return
            due = self._ping_sent_at + self._keep_alive.timeout_s
        elif now >= self._last_heard + self._keep_alive.interval_s:
            self._h2.ping(bytes(8))
            self._flush()
            self._ping_sent_at = now
            due = now + self._keep_alive.timeout_s
        else:
            due = self._last_heard + self._keep_alive.interval_s
        self._timer = self._loop.call_later(max(due - now, 0.001), self._check_alive)


class _StreamCall(Call):
    """A call on one stream of a connection."""

    def __init__(
        self, connection: Connection, stream_id: int, headers: dict[str, str], local_address: tuple[str, int]
    ) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._headers = headers
        self._local_address = local_address
        self._assembler = Assembler()
        self._received: deque[bytes] = deque()
        self._unacknowledged = 0
        self._arrived = asyncio.Event()
        self._half_closed = False
        self._request_error: Status | None = None
        self._headers_sent = False
        self._ended = False
        self._task: asyncio.Task[None] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    @property
    def local_address(self) -> tuple[str, int]:
        return self._local_address

    async def receive(self) -> bytes | None:
        while not self._received:
            if self._request_error is not None:
                raise CallFailed(self._request_error)
            if self._half_closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._received.popleft()
        if not self._received:
            self._acknowledge()
        return message

    async def send(self, messages: Iterable[bytes]) -> None:
        if not self._headers_sent:
            self._headers_sent = True
            self._connection.send_headers(self._stream_id, _response_headers(), end=False)
        await self._connection.send_data(self._stream_id, pack(messages))

    def start(self, service: Service) -> None:
        """Let the service answer."""
        self._task = asyncio.create_task(self._serve(service))
        self._task.add_done_callback(lambda _: self._forget())

    def feed(self, data: bytes, length: int) -> None:
        """Take in a part of the request."""
        self._unacknowledged += length
        if self._ended:
            self._acknowledge()
            return
        try:
            self._received.extend(self._assembler.feed(data))
        except MessageTooLarge:
            self._request_error = REQUEST_TOO_LARGE
        except CompressedMessage:
            self._request_error = COMPRESSED_REQUEST
        if self._received or self._request_error:
            self._arrived.set()
        if not self._received:
            # The middle of a message. Whole messages are acknowledged when the handler takes them, so a client that
            # sends faster than it is served is held back by its window.
            self._acknowledge()

    def half_close(self) -> None:
        """The request is complete."""
        self._half_closed = True
        self._arrived.set()

    def cancel(self) -> None:
        """The client has gone: stop working for it."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()

    def abort(self, status: Status) -> None:
        """End the call from outside, with `status`."""
        self._end(status)
        self.cancel()

    def _forget(self) -> None:
        self._acknowledge()
        self._connection.forget(self._stream_id)

    def _acknowledge(self) -> None:
        """Also for a call that has ended: what it leaves unacknowledged is missing from the connection's window."""
        self._connection.acknowledge(self._stream_id, self._unacknowledged)
        self._unacknowledged = 0

    async def _serve(self, service: Service) -> None:
        try:
            await service.answer(self)
        except CallFailed as exc:
            self._end(exc.status)
        except Exception:
            if not self._ended:
                log.exception("The handler of %s failed", self._headers.get(":path"))
                self._end(HANDLER_FAILED)
        else:
            self._end(OK)

    def _end(self, status: Status) -> None:
        """Send the trailers; together with the headers, and nothing else, if there was no message."""
        if self._ended or not self._connection.connected:
            return
        self._ended = True
        code = [("grpc-status", str(int(status.code)))]
        message = [("grpc-message", quote(status.message, safe=_PLAIN))] if status.message else []
        extra = [(name, _header_value(value)) for name, value in status.trailers]
        if self._headers_sent:
            trailers = [*message, *code, *extra]
        else:
            trailers = [*_response_headers(), ("content-length", "0"), *extra, *code, *message]
        self._connection.send_headers(self._stream_id, trailers, end=True)
        if not self._half_closed:
            self._connection.reset(self._stream_id)


def _text(headers: Iterable[tuple[str | bytes, str | bytes]]) -> dict[str, str]:
    """h2 decodes them as it was told to; its types do not say so."""
    return {str(name): str(value) for name, value in headers}


def _header_value(value: str) -> str:
    """A stream may have a name that no header can hold."""
    return value if value.isascii() and value.isprintable() else quote(value, safe=_PLAIN)


def _response_headers() -> list[tuple[str, str]]:
    return [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("date", formatdate(usegmt=True)),
        ("server", SERVER_NAME),
    ]
