"""A server that sends what a script says, frame by frame: recorded frames of a real server, or any others."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from hpack import Decoder
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.source.framing import PREFIX_BYTES, frame

WIRE = Path(__file__).parents[2] / "golden" / "wire"
SOCKET_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Headers:
    """A HEADERS frame; the trailers where `end`."""

    fields: Sequence[tuple[str, str]]
    end: bool = False


@dataclass(frozen=True)
class Data:
    payload: bytes


@dataclass(frozen=True)
class Ping:
    """Sent, and its acknowledgement awaited."""


@dataclass(frozen=True)
class Goaway:
    last_stream: int
    code: int


@dataclass(frozen=True)
class Reset:
    code: int


Step = Headers | Data | Ping | Goaway | Reset

OK_HEADERS = Headers([(":status", "200"), ("content-type", "application/grpc")])


def confirmation() -> bytes:
    confirmation = streams_pb2.ReadResp.SubscriptionConfirmation(subscription_id="5c3bd6ca-7e3a-4b54-8d5f-6a0e5a3f7c11")
    return streams_pb2.ReadResp(confirmation=confirmation).SerializeToString()


def numbered(number: int, size: int | None = None) -> bytes:
    """The message of an event that carries its number in its position, of exactly `size` bytes where one is given."""
    response = streams_pb2.ReadResp()
    recorded = response.event.event
    recorded.id.string = f"{number:036d}"
    recorded.stream_identifier.stream_name = b"s-1"
    recorded.commit_position = recorded.prepare_position = response.event.commit_position = 1_000_000 + number
    recorded.metadata["type"] = "T"
    if size is None:
        return response.SerializeToString()
    for metadata in (b"", b"m", b"mm"):  # a length of its own may take a byte more
        recorded.custom_metadata, recorded.data = metadata, b""
        for _ in range(3):
            recorded.data = bytes(max(0, len(recorded.data) + size - response.ByteSize()))
        if response.ByteSize() == size:
            return response.SerializeToString()
    raise AssertionError(f"no event has {size} bytes")


def recorded(name: str) -> tuple[list[Step], int]:
    """The server's frames of a recording, with events of the recorded sizes in them, and how many of these are whole.

    The recording has where messages start in each frame (the first dozen), but not their bytes.
    """
    lines = [json.loads(line) for line in (WIRE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    frames = [line for line in lines if line.get("dir") == "server"]
    payload, events = _payload([each for each in frames if each["type"] == "DATA"], _is_whole(lines))
    return list(_steps(frames, payload)), events


def _is_whole(lines: list[dict[str, Any]]) -> bool:
    """Whether the recording has all that was sent."""
    starts = sum(line.get("starts", 0) for line in lines)
    return any(line.get("summary", {}).get("messages") == starts for line in lines)


def _payload(frames: list[dict[str, Any]], whole: bool) -> tuple[bytes, int]:
    starts: list[int] = []
    end = 0
    for each in frames:
        known = each["messages_start_at"]
        missing = each["starts"] - len(known)
        last = known[-1] if known else 0
        step = (each["length"] - last) // (missing + 1)
        starts += [end + at for at in (*known, *(last + step * (n + 1) for n in range(missing)))]
        end += each["length"]
    bounds = [*starts, end if whole else end + 1000]
    payload, events = frame(confirmation()), 0
    assert bounds[1] == len(payload)
    for begin, following in itertools.pairwise(bounds[1:]):
        payload += frame(numbered(events, following - begin - PREFIX_BYTES))
        events += 1
    return payload[:end], events if whole else events - 1


def _steps(frames: list[dict[str, Any]], payload: bytes) -> Iterator[Step]:
    decoder, sent = Decoder(), 0
    for each in frames:
        match each["type"]:
            case "HEADERS":
                fields = [(str(name), str(value)) for name, value in decoder.decode(bytes.fromhex(each["hex"]))]
                yield Headers(fields, end=bool(each["flags"] & 1))
            case "DATA":
                yield Data(payload[sent : sent + each["length"]])
                sent += each["length"]
            case "PING":
                yield Ping()
            case "GOAWAY":
                last_stream, code = (int(each["hex"][at : at + 8], 16) for at in (0, 8))
                yield Goaway(last_stream, code)


class ScriptedServer:
    """Serves one call after the other by their scripts, each on a connection of its own. `failure` is the scripts' own.

    A connection is closed after its call, unless it is to stay.
    """

    def __init__(self, calls: Sequence[Sequence[Step]], stays: bool = False) -> None:
        self._calls = calls
        self._stays = stays
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.request_headers: dict[str, str] = {}
        self.request = b""
        self.failure: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        for steps in self._calls:
            try:
                self._socket, _ = self._listener.accept()
            except OSError:
                return  # the test is over
            try:
                self._answer(steps)
            except Exception as exc:
                self.failure = exc
            self._socket.close()

    def _answer(self, steps: Sequence[Step]) -> None:
        self._socket.settimeout(SOCKET_TIMEOUT_S)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._acknowledged = 0
        self.request = b""
        self._send()
        while not self.request:
            self._receive()
        pings = 0
        for step in steps:
            pings += isinstance(step, Ping)
            self._play(step, pings)
        if self._stays:
            self._done.wait(SOCKET_TIMEOUT_S)
        # Closed with unread bytes in it, a socket would take back what it has sent.
        self._socket.shutdown(socket.SHUT_WR)
        while self._socket.recv(65536):
            pass

    def _play(self, step: Step, pings: int) -> None:
        match step:
            case Headers(fields=fields, end=end):
                self._h2.send_headers(self._stream, fields, end_stream=end)
            case Data(payload=payload):
                while self._h2.local_flow_control_window(self._stream) < len(payload):
                    self._receive()
                self._h2.send_data(self._stream, payload)
            case Ping():
                self._h2.ping(bytes(8))
            case Goaway(last_stream=last_stream, code=code):
                self._h2.close_connection(code, last_stream_id=last_stream)
            case Reset(code=code):
                self._h2.reset_stream(self._stream, code)
        self._send()
        while self._acknowledged < pings:
            self._receive()

    def _receive(self) -> None:
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError("the client has gone")
        for event in self._h2.receive_data(received):
            match event:
                case h2.events.RequestReceived(stream_id=stream_id, headers=headers):
                    self._stream = stream_id or 0
                    self.request_headers = {str(name): str(value) for name, value in headers or ()}
                case h2.events.DataReceived(data=data):
                    self.request += data or b""
                case h2.events.PingAckReceived():
                    self._acknowledged += 1
        self._send()

    def _send(self) -> None:
        self._socket.sendall(self._h2.data_to_send())
