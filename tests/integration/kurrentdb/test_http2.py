"""What only frames show: greetings, packing, flow control, pings, goodbyes, and clients that misbehave."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hpack
import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.local.kurrentdb.wire import frame
from tests.integration.kurrentdb import differences
from tests.integration.kurrentdb.events import event, events
from tests.integration.kurrentdb.rawclient import READ, RawClient, messages
from tests.integration.kurrentdb.standin import StandIn

WIRE = Path(__file__).parents[2] / "golden" / "wire"
ANY = StreamState.ANY
EVENT_COUNT = 2000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures by /proc")


def subscription() -> bytes:
    """The framed request for everything, from the start."""
    request = streams_pb2.ReadReq()
    request.options.all.start.SetInParent()
    request.options.subscription.SetInParent()
    request.options.no_filter.SetInParent()
    request.options.uuid_option.string.SetInParent()
    return frame(request.SerializeToString())


def recorded(name: str, frame_type: str) -> list[dict[str, Any]]:
    """The frames of one type that a real server sent."""
    with (WIRE / name).open() as file:
        lines = [json.loads(line) for line in file]
    return [line for line in lines if line.get("type") == frame_type and line.get("dir") == "server"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A stand-in with some thousand events of about the recorded size."""
    server = StandIn(tmp_path_factory.mktemp("full") / "events.db").start()
    body = b'{"text":"' + b"x" * 350 + b'"}'
    with KurrentDBClient(server.uri) as client:
        for number in range(EVENT_COUNT // 500):
            batch = [NewEvent(type="Filler", data=body, metadata=b"{}") for _ in range(500)]
            client.append_to_stream(f"filler-{number}", current_version=ANY, events=batch)
    yield server
    server.kill()


def has_everything(raw: RawClient) -> bool:
    """Confirmation, every event, caught up."""
    return len(raw.payload) > EVENT_COUNT * 400 and len(messages(raw.payload)) == EVENT_COUNT + 2


def settings(hex_: str) -> dict[int, int]:
    """The settings of a recorded frame, by number."""
    raw = bytes.fromhex(hex_)
    pairs = [raw[at : at + 6] for at in range(0, len(raw), 6)]
    return {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}


def header_list(hex_: str) -> list[tuple[str, str]]:
    """The headers of a recorded frame; right for one that refers to no earlier frame, as recorded ones do not."""
    return [(str(name), str(value)) for name, value in hpack.Decoder().decode(bytes.fromhex(hex_))]


def test_a_subscription_begins_as_recorded(full: StandIn) -> None:
    with (WIRE / "idle.jsonl").open() as file:
        expected = [frame for frame in map(json.loads, file) if frame.get("dir") == "server"][:5]
    raw = RawClient(full.port)
    raw.request(READ, subscription())
    raw.receive_until(lambda r: len(r.frames) > 5)
    seen = [(type(f).__name__.removesuffix("Frame"), f.stream_id, sorted(f.flags)) for f in raw.frames[:5]]
    flags = {"SETTINGS": {1: ["ACK"]}, "HEADERS": {4: ["END_HEADERS"]}}
    assert seen == [
        (f["type"].title().replace("_", ""), f["stream"], flags.get(f["type"], {}).get(f["flags"], []))
        for f in expected
    ]
    announced, window, _, headers, confirmation = expected
    ours = dict(raw.of_type("SETTINGS")[0].settings)
    theirs = settings(announced["hex"])
    assert theirs.keys() & differences.SETTINGS.keys() == differences.SETTINGS.keys()
    assert {number: ours.pop(number) for number in differences.DEFAULT_SETTINGS} == differences.DEFAULT_SETTINGS
    assert ours == {number: value for number, value in theirs.items() if number not in differences.SETTINGS}
    assert raw.of_type("WINDOW_UPDATE")[0].window_increment == int(window["hex"], 16)
    decoded = header_list(headers["hex"])
    assert list(raw.headers[0]) == [name for name, _ in decoded]
    assert [item for item in raw.headers[0].items() if item[0] not in differences.HEADERS] == [
        item for item in decoded if item[0] not in differences.HEADERS
    ]
    assert len(raw.of_type("DATA")[0].data) == confirmation["length"]


def test_events_are_packed_into_frames_of_whole_first_messages(full: StandIn) -> None:
    raw = RawClient(full.port)
    raw.request(READ, subscription())
    raw.receive_until(has_everything)
    sizes = [len(f.data) for f in raw.of_type("DATA")]
    typical = [size for size in sizes if 4096 <= size < 4096 + 600]
    assert len(typical) > 0.9 * len(sizes)
    assert max(sizes) <= 16384


def test_large_events_are_cut_at_the_frame_size(start: Callable[..., StandIn]) -> None:
    server = start()
    with KurrentDBClient(server.uri) as client:
        client.append_to_stream("a-1", current_version=ANY, events=NewEvent(type="Large", data=b"x" * 100_000))
    raw = RawClient(server.port)
    raw.request(READ, subscription())
    raw.receive_until(lambda r: len(messages(r.payload)) == 3)
    assert [len(f.data) for f in raw.of_type("DATA")].count(16384) == 6


@pytest.mark.parametrize("window", [1, 7, 1000])
def test_a_small_window_cuts_messages_anywhere_and_loses_nothing(full: StandIn, window: int) -> None:
    raw = RawClient(full.port, window=window)
    stream = raw.request(READ, subscription())
    for _ in range(200):
        before = len(raw.payload)
        raw.receive_until(lambda r, before=before: len(r.payload) >= before + window)  # type: ignore[misc]
        assert len(raw.payload) == before + window
        raw.grant(stream, window)
    raw.grant(stream, 2**24)
    raw.receive_until(has_everything)
    assert len(messages(raw.payload)) == EVENT_COUNT + 2


@needs_proc
def test_a_client_that_grants_no_window_stalls_only_itself(full: StandIn) -> None:
    before = resident_bytes(full.pid)
    stalled = [RawClient(full.port, window=0) for _ in range(5)]
    streams = [raw.request(READ, subscription()) for raw in stalled]
    with KurrentDBClient(full.uri) as client:
        assert len(list(client.read_all())) == EVENT_COUNT
        assert len(list(client.read_all())) == EVENT_COUNT
    assert resident_bytes(full.pid) - before < 10 * 1024 * 1024
    for raw, stream in zip(stalled, streams, strict=True):
        raw.receive_for(0.01)
        assert raw.payload == b""
        raw.grant(stream, 2**24)
        raw.receive_until(has_everything)
        assert len(messages(raw.payload)) == EVENT_COUNT + 2


@needs_proc
def test_a_client_that_does_not_read_its_socket_stalls_only_itself(full: StandIn) -> None:
    before = resident_bytes(full.pid)
    stalled = [RawClient(full.port, window=2**30) for _ in range(5)]
    for raw in stalled:
        for _ in range(10):
            raw.request(READ, subscription())
    with KurrentDBClient(full.uri) as client:
        assert len(list(client.read_all())) == EVENT_COUNT
    assert resident_bytes(full.pid) - before < 50 * 1024 * 1024


def test_a_silent_client_is_pinged_and_kept_while_it_answers(start: Callable[..., StandIn]) -> None:
    server = start("--keep-alive-interval", "0.2", "--keep-alive-timeout", "0.2")
    raw = RawClient(server.port)
    raw.request(READ, subscription())
    raw.receive_until(lambda r: len(r.of_type("PING")) == 5)
    assert not raw.closed
    assert raw.of_type("PING")[0].opaque_data == bytes.fromhex(recorded("idle.jsonl", "PING")[0]["hex"])


def test_a_client_that_does_not_answer_a_ping_is_disconnected(start: Callable[..., StandIn]) -> None:
    server = start("--keep-alive-interval", "0.3", "--keep-alive-timeout", "0.3")
    raw = RawClient(server.port, acknowledge_pings=False)
    begun = time.monotonic()
    raw.request(READ, subscription())
    raw.receive_until(lambda r: r.closed)
    assert 0.5 < time.monotonic() - begun < 5
    (goodbye,) = raw.of_type("GO_AWAY")
    assert goodbye.error_code == int(recorded("no-ping-ack.jsonl", "GOAWAY")[0]["hex"][8:], 16)
    assert len(raw.of_type("PING")) == 1


def test_a_stop_says_what_the_recorded_one_said(start: Callable[..., StandIn]) -> None:
    server = start()
    raw = RawClient(server.port)
    raw.request(READ, subscription())
    raw.receive_until(lambda r: len(messages(r.payload)) == 2)
    assert server.stop()[0] == 0
    raw.receive_until(lambda r: r.closed)
    trailers = recorded("graceful-stop.jsonl", "HEADERS")[-1]
    assert list(raw.headers[-1].items()) == header_list(trailers["hex"])
    assert raw.of_type("HEADERS")[-1].flags >= {"END_STREAM", "END_HEADERS"}
    (goodbye,) = raw.of_type("GO_AWAY")
    last: Any = raw.frames[-1]
    assert last is goodbye
    expected = bytes.fromhex(recorded("graceful-stop.jsonl", "GOAWAY")[0]["hex"])
    assert goodbye.error_code == int.from_bytes(expected[4:], "big")
    assert int.from_bytes(expected[:4], "big") == 1
    assert goodbye.last_stream_id == differences.LAST_STREAM_OF_GOAWAY


def test_a_stop_does_not_wait_for_a_client_that_takes_nothing(start: Callable[..., StandIn]) -> None:
    server = start()
    with KurrentDBClient(server.uri) as client:
        for _ in range(4):
            big = [NewEvent(type="Big", data=b"x" * 900_000)]
            client.append_to_stream("a-1", current_version=ANY, events=big)
    stalled = RawClient(server.port, window=2**30)
    for _ in range(10):
        stalled.request(READ, subscription())
    begun = time.monotonic()
    assert server.stop()[0] == 0
    assert time.monotonic() - begun < 2


def test_an_error_without_messages_is_one_block_of_headers(full: StandIn) -> None:
    for path, status in [
        ("/event_store.client.streams.Streams/Nope", ("12", "Method is unimplemented.")),
        ("/nope.Nope/Nope", ("12", "Service is unimplemented.")),
    ]:
        raw = RawClient(full.port)
        raw.request(path, subscription())
        raw.receive_until(lambda r: bool(r.headers))
        (headers,) = raw.headers
        assert (headers["grpc-status"], headers["grpc-message"]) == status
        assert (headers[":status"], headers["content-length"]) == ("200", "0")
        assert headers["content-type"] == "application/grpc"
        assert "END_STREAM" in raw.of_type("HEADERS")[0].flags


def test_messages_that_are_not_ascii_are_escaped(start: Callable[..., StandIn]) -> None:
    server, stream = start(), "ü%-1"
    with KurrentDBClient(server.uri) as client:
        client.tombstone_stream(stream, current_version=ANY)
    request = streams_pb2.ReadReq()
    request.options.stream.stream_identifier.stream_name = stream.encode()
    request.options.stream.start.SetInParent()
    request.options.count = 1
    request.options.no_filter.SetInParent()
    request.options.uuid_option.string.SetInParent()
    raw = RawClient(server.port)
    raw.request(READ, frame(request.SerializeToString()))
    raw.receive_until(lambda r: bool(r.headers))
    assert raw.headers[0]["grpc-message"] == "Event stream '%C3%BC%25-1' is deleted."


def test_a_request_may_come_byte_by_byte(full: StandIn) -> None:
    raw = RawClient(full.port)
    stream = raw.request(READ, b"", end=False)
    for byte in subscription():
        raw.send(stream, bytes([byte]))
    raw.receive_until(has_everything)
    assert len(messages(raw.payload)) == EVENT_COUNT + 2


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
        PREFACE + b"\x00\x00\x05\x01\x04\x00\x00\x00\x01" + b"\xff" * 5,
    ],
    ids=["HTTP/1.1", "TLS", "headers that do not decode"],
)
def test_what_is_no_http2_is_hung_up_on(full: StandIn, junk: bytes) -> None:
    with socket.create_connection(("127.0.0.1", full.port), timeout=10) as plain:
        plain.sendall(junk)
        while plain.recv(65536):
            pass


def test_a_payload_that_is_no_request_fails_only_its_call(full: StandIn) -> None:
    raw = RawClient(full.port)
    raw.request(READ, frame(b"\xff\xff\xff\xff"))
    raw.request(READ, subscription())
    raw.receive_until(has_everything)
    assert any(headers.get("grpc-status") == "2" for headers in raw.headers)


@needs_proc
def test_clients_that_vanish_leave_nothing_behind(start: Callable[..., StandIn]) -> None:
    server = start()
    with KurrentDBClient(server.uri) as client:
        client.append_to_stream("a-1", current_version=ANY, events=events(500))
        before = open_files(server.pid)
        for number in range(30):
            raw = RawClient(server.port, window=100)
            stream = raw.request(READ, subscription())
            raw.receive_for(0.005)
            if number % 2:
                raw.reset(stream)
            raw.close()
        while open_files(server.pid) > before:
            client.append_to_stream("a-1", current_version=ANY, events=event())
        assert len(list(client.read_all())) >= 500
    code, said = server.stop()
    assert code == 0
    assert "Traceback" not in said


def test_requests_given_up_half_way_do_not_use_up_the_connection(full: StandIn) -> None:
    raw = RawClient(full.port)
    announced = b"\x00" + (10**6).to_bytes(4, "big")
    whole = b"\x00" + (16_000 - 5).to_bytes(4, "big")
    for head in [announced, whole] * 40:
        raw.receive_until(lambda r: r.h2.outbound_flow_control_window > 200_000)
        stream = raw.request(READ.replace("Read", "BatchAppend"), b"", end=False)
        for _ in range(10):
            raw.send(stream, head + bytes(16_000 - 5))
        raw.reset(stream)
    raw.request(READ, subscription())
    raw.receive_until(has_everything)


def test_many_calls_share_one_connection(full: StandIn) -> None:
    with KurrentDBClient(full.uri) as client:
        found: list[int] = []
        readers = [threading.Thread(target=lambda: found.append(len(list(client.read_all())))) for _ in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert found == [EVENT_COUNT] * 8


def resident_bytes(pid: int) -> int:
    """The memory a process has in use, its mapped files apart."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
