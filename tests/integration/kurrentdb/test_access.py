"""Credentials and TLS, and the recorded answers of a real server that asks for credentials."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import AccessDeniedError, KurrentDBClientError, UnauthenticatedError
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.local.kurrentdb.wire import frame
from tests.integration.kurrentdb import differences
from tests.integration.kurrentdb.events import event
from tests.integration.kurrentdb.rawclient import READ, RawClient, messages
from tests.integration.kurrentdb.standin import StandIn

GOLDEN = Path(__file__).parents[2] / "golden"
TLS = Path(__file__).parent / "tls"

TYPES: dict[str, tuple[Any, Any]] = {
    "Read": (streams_pb2.ReadReq, streams_pb2.ReadResp),
    "BatchAppend": (streams_pb2.BatchAppendReq, streams_pb2.BatchAppendResp),
}


def lines(name: str) -> list[dict[str, Any]]:
    with (GOLDEN / name).open() as file:
        return [json.loads(line) for line in file]


def basic(credentials: str) -> tuple[str, str]:
    return "authorization", "Basic " + base64.b64encode(credentials.encode()).decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A stand-in that asks for credentials, without TLS, as the recorded server was."""
    server = StandIn(tmp_path_factory.mktemp("guarded") / "events.db", "--user", "admin:changeit").start()
    yield server
    server.kill()


DENIED = [line for line in lines("denied.jsonl") if "response" in line or line.get("end")]
REQUESTS = {line["step"]: line["requests"] for line in lines("denied.jsonl") if line.get("open")}


@pytest.mark.parametrize("recorded", DENIED, ids=lambda line: line["step"])
def test_an_anonymous_call_is_denied_as_recorded(guarded: StandIn, recorded: dict[str, Any]) -> None:
    request_type, response_type = TYPES[recorded["method"].rpartition("/")[2]]
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port}") as channel:
        method = channel.stream_stream(
            recorded["method"],
            request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString,
        )
        requests = [json_format.ParseDict(request, request_type()) for request in REQUESTS[recorded["step"]]]
        call = method(iter(requests), timeout=10)
        if "response" in recorded:
            response = json_format.MessageToDict(next(call), preserving_proto_field_name=True)
            assert response == recorded["response"]
            return
        with pytest.raises(grpc.RpcError):
            next(call)
        assert (str(call.code()), call.details()) == (recorded["code"], recorded["details"])
        assert [(key, value) for key, value in call.trailing_metadata() if key not in differences.HEADERS] == [
            (key, value) for key, value in recorded["trailers"] if key not in differences.HEADERS
        ]


def request_of(case: str) -> tuple[str, bytes, list[tuple[str, str]]]:
    """The path, body and headers that were sent in a case of `auth-headers.jsonl`."""
    request = streams_pb2.ReadReq()
    request.options.all.start.SetInParent()
    if "invalid request" not in case:
        request.options.count = 3
        request.options.no_filter.SetInParent()
        request.options.uuid_option.string.SetInParent()
    path = READ if case != "unknown method" else READ.replace("Read", "Nope")
    credentials = {"anonymous reads $all": [], "wrong password": [basic("admin:wrong")]}
    return path, frame(request.SerializeToString()), credentials.get(case, [basic("admin:changeit")])


@pytest.mark.parametrize("recorded", lines("auth-headers.jsonl"), ids=lambda line: line["case"])
def test_headers_and_trailers_are_the_recorded_ones(guarded: StandIn, recorded: dict[str, Any]) -> None:
    with KurrentDBClient(guarded.uri):
        pass
    raw = RawClient(guarded.port)
    raw.request(*request_of(recorded["case"]))
    raw.receive_until(lambda r: "grpc-status" in (r.headers[-1] if r.headers else {}))
    expected: list[list[tuple[str, str]]] = [[]]
    for line in recorded["headers_and_trailers"]:
        if line.startswith("HTTP/2 "):
            expected[-1].append((":status", line.removeprefix("HTTP/2 ")))
        elif line:
            name, _, value = line.partition(": ")
            expected[-1].append((name, value))
        else:
            expected.append([])
    expected = [block for block in expected if block]
    if recorded["case"] == "admin":
        # The recorded log held events, this one holds none, and a call without messages is answered in one block.
        expected = [[*expected[0], ("content-length", "0"), *expected[1]]]
    for block in expected:
        for name, value in block:
            if name in differences.STRIPPED_HEADERS:
                block[block.index((name, value))] = (name, value.strip())
    seen = [[header for header in block.items() if header[0] not in differences.HEADERS] for block in raw.headers]
    assert seen == [[header for header in block if header[0] not in differences.HEADERS] for block in expected]


def test_a_blank_before_a_message_is_still_recorded_and_still_not_sent(guarded: StandIn) -> None:
    recorded = [line for case in lines("auth-headers.jsonl") for line in case["headers_and_trailers"]]
    assert all(any(line.startswith(f"{name}:  ") for line in recorded) for name in differences.STRIPPED_HEADERS)
    raw = RawClient(guarded.port)
    raw.request(*request_of("invalid request"))
    raw.receive_until(lambda r: bool(r.headers))
    assert not any(raw.headers[0][name].startswith((" ", "%20")) for name in differences.STRIPPED_HEADERS)


@pytest.mark.parametrize("service", ["streams.Streams/Nope", "gossip.Gossip/Read", "nope.Nope/Nope"])
def test_a_wrong_password_is_refused_whatever_is_called(guarded: StandIn, service: str) -> None:
    raw = RawClient(guarded.port)
    raw.request(f"/event_store.client.{service}", frame(b""), [basic("admin:wrong")])
    raw.receive_until(lambda r: bool(r.headers))
    assert raw.headers[0]["grpc-status"] == "16"


@pytest.mark.parametrize("credentials", ["Bearer x", "Basic !!!", "Basic " + base64.b64encode(b"admin").decode()])
def test_credentials_that_cannot_be_read_are_wrong(guarded: StandIn, credentials: str) -> None:
    path, body, _ = request_of("admin")
    raw = RawClient(guarded.port)
    raw.request(path, body, [("authorization", credentials)])
    raw.receive_until(lambda r: bool(r.headers))
    assert raw.headers[0]["grpc-status"] == "16"


def secured_uri(server: StandIn, user: str = "") -> str:
    return f"kurrentdb://{user}localhost:{server.port}?tls=true&tlsCaFile={TLS / 'ca.pem'}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A stand-in with TLS that asks for credentials."""
    files = ["--tls-cert", str(TLS / "server.pem"), "--tls-key", str(TLS / "server.key")]
    data = tmp_path_factory.mktemp("secured") / "events.db"
    server = StandIn(data, *files, "--user", "admin:changeit", "--user", "other:secret").start()
    yield server
    server.kill()


@pytest.mark.parametrize("user", ["admin:changeit@", "other:secret@"])
def test_a_client_with_the_right_password_works_over_tls(secured: StandIn, user: str) -> None:
    with KurrentDBClient(secured_uri(secured, user)) as client:
        client.append_to_stream("a-1", current_version=StreamState.ANY, events=event())
        assert len(client.get_stream("a-1")) > 0
        with client.subscribe_to_all() as subscription:
            assert next(subscription).stream_name == "a-1"


def test_a_client_with_a_wrong_password_is_unauthenticated(secured: StandIn) -> None:
    with KurrentDBClient(secured_uri(secured, "admin:wrong@")) as client:
        with pytest.raises(UnauthenticatedError):
            client.append_to_stream("a-1", current_version=StreamState.ANY, events=event())
        with pytest.raises(UnauthenticatedError):
            client.get_stream("a-1")


def test_a_client_that_does_not_trust_the_certificate_is_not_served(secured: StandIn) -> None:
    uri = f"kurrentdb://admin:changeit@localhost:{secured.port}?tls=true"
    with pytest.raises(KurrentDBClientError), KurrentDBClient(uri) as client:
        client.get_stream("a-1", timeout=3)


def test_a_stop_is_orderly_over_tls_too(start: Callable[..., StandIn]) -> None:
    server = start("--tls-cert", str(TLS / "server.pem"), "--tls-key", str(TLS / "server.key"))
    with KurrentDBClient(secured_uri(server, "any:body@")) as client:
        client.append_to_stream("a-1", current_version=StreamState.ANY, events=event())
        subscription = client.subscribe_to_all()
        next(subscription)
        assert server.stop()[0] == 0
        with pytest.raises(Exception, match="Server Is Shutting Down"):
            next(subscription)


def test_a_denied_batch_does_not_end_the_call(guarded: StandIn) -> None:
    request = streams_pb2.BatchAppendReq(is_final=True)
    request.correlation_id.string = "256123b0-9345-421f-952a-174484e410e4"
    request.options.stream_identifier.stream_name = b"a-1"
    request.options.any.SetInParent()
    raw = RawClient(guarded.port)
    body = frame(request.SerializeToString())
    raw.request(READ.replace("Read", "BatchAppend"), body + body)
    raw.receive_until(lambda r: len(r.headers) == 2)
    assert len(messages(raw.payload)) == 2
    assert raw.headers[-1]["grpc-status"] == "0"


def test_the_command_line_user_is_denied_nothing(secured: StandIn) -> None:
    with KurrentDBClient(secured_uri(secured, "admin:changeit@")) as client:
        try:
            client.append_to_stream("$system", current_version=StreamState.ANY, events=event())
            list(client.read_all(filter_exclude=[]))
        except AccessDeniedError:
            pytest.fail("a known user may do everything")
