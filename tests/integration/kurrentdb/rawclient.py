"""A client that sees and sends HTTP/2 frames, for what no gRPC library shows or would do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from hyperframe.frame import Frame

TIMEOUT_S = 10.0

READ = "/event_store.client.streams.Streams/Read"


class RawClient:
    """One connection. `frames` are those received; `payloads` the bytes of each stream's DATA."""

    def __init__(self, port: int, window: int = 2**24, acknowledge_pings: bool = True) -> None:
        self.frames: list[Frame] = []
        self.headers: list[dict[str, str]] = []
        self.payload = b""
        self.closed = False
        self._acknowledge_pings = acknowledge_pings
        self._unparsed = b""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**24)
        self._send()

    def request(self, path: str, payload: bytes, headers: Iterable[tuple[str, str]] = (), end: bool = True) -> int:
        """Begin a call; the answer is its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "test"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                *headers,
            ],
        )
        if payload:
            self.h2.send_data(stream, payload, end_stream=end)
        self._send()
        return stream

    def send(self, stream: int, payload: bytes, end: bool = False) -> None:
        """One more DATA frame of a request."""
        self.h2.send_data(stream, payload, end_stream=end)
        self._send()

    def reset(self, stream: int) -> None:
        """Give a call up."""
        self.h2.reset_stream(stream)
        self._send()

    def grant(self, stream: int, window: int) -> None:
        """Let the server send so many bytes more."""
        self.h2.increment_flow_control_window(window, stream)
        self._send()

    def receive_until(self, done: Callable[[RawClient], bool]) -> None:
        """Take frames in until `done`, or until the server has closed."""
        while not done(self) and not self.closed:
            self._receive()

    def receive_for(self, seconds: float) -> None:
        """Take in what comes in this time."""
        self._socket.settimeout(seconds)
        try:
            while not self.closed:
                self._receive()
        except TimeoutError:
            pass
        finally:
            self._socket.settimeout(TIMEOUT_S)

    def of_type(self, name: str) -> list[Any]:
        """The frames received of one type, as `DATA`."""
        return [frame for frame in self.frames if type(frame).__name__ == f"{name.title().replace('_', '')}Frame"]

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return
        self._parse(data)
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived(headers=headers) | h2.events.TrailersReceived(headers=headers):
                    self.headers.append({str(name): str(value) for name, value in headers or ()})
                case h2.events.DataReceived(data=payload):
                    self.payload += payload
        out = self.h2.data_to_send()
        if self._acknowledge_pings:
            self._socket.sendall(out)

    def _parse(self, data: bytes) -> None:
        self._unparsed += data
        while len(self._unparsed) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._unparsed[:9]))
            if len(self._unparsed) < 9 + length:
                return
            frame.parse_body(memoryview(self._unparsed[9 : 9 + length]))
            self.frames.append(frame)
            self._unparsed = self._unparsed[9 + length :]

    def _send(self) -> None:
        self._socket.sendall(self.h2.data_to_send())


def messages(payload: bytes) -> list[bytes]:
    """The whole gRPC messages in these bytes."""
    found = []
    while len(payload) >= 5 and len(payload) >= 5 + int.from_bytes(payload[1:5], "big"):
        length = int.from_bytes(payload[1:5], "big")
        found.append(payload[5 : 5 + length])
        payload = payload[5 + length :]
    return found
