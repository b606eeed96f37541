"""Requests that kurrentdbclient never sends, but other clients and mistaken ones do: how they are answered."""

from __future__ import annotations

import base64
import queue
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from tests.integration.kurrentdb.events import events, new_stream
from tests.integration.kurrentdb.standin import StandIn

STREAMS = "/event_store.client.streams.Streams/"
FEATURES = "/event_store.client.server_features.ServerFeatures/GetSupportedMethods"
TIMEOUT_S = 10.0

Json = dict[str, Any]

TYPES: dict[str, tuple[Any, Any]] = {
    "Read": (streams_pb2.ReadReq, streams_pb2.ReadResp),
    "Append": (streams_pb2.AppendReq, streams_pb2.AppendResp),
    "BatchAppend": (streams_pb2.BatchAppendReq, streams_pb2.BatchAppendResp),
}


@pytest.fixture
def channel(shared: StandIn) -> Iterator[grpc.Channel]:
    """A channel to the shared stand-in."""
    with grpc.insecure_channel(f"127.0.0.1:{shared.port}") as one:
        yield one


def call(channel: grpc.Channel, method: str, requests: Iterable[Json]) -> list[Json]:
    """The responses to requests given as JSON."""
    request_type, response_type = TYPES[method]
    running = channel.stream_stream(
        STREAMS + method,
        request_serializer=request_type.SerializeToString,
        response_deserializer=response_type.FromString,
    )
    sent = (json_format.ParseDict(request, request_type()) for request in requests)
    return [json_format.MessageToDict(r, preserving_proto_field_name=True) for r in running(sent, timeout=TIMEOUT_S)]


def name(stream: str) -> Json:
    return json_format.MessageToDict(
        shared_pb2.StreamIdentifier(stream_name=stream.encode()), preserving_proto_field_name=True
    )


def read_request(**changes: Any) -> Json:
    """A read of everything, with other options in place of some; None leaves one out."""
    options: Json = {"all": {"start": {}}, "count": 1, "no_filter": {}, "uuid_option": {"string": {}}, **changes}
    return {"options": {key: value for key, value in options.items() if value is not None}}


FILTER: Json = {"event_type": {"prefix": ["a"]}, "max": 32, "checkpointIntervalMultiplier": 1}
OPTIONS = "EventStore.Client.Streams.ReadReq+Types+Options"


@pytest.mark.parametrize(
    ("changes", "code", "details"),
    [
        ({"all": None}, grpc.StatusCode.INVALID_ARGUMENT, f"'None' is not a valid {OPTIONS}+StreamOptionOneofCase"),
        (
            {"no_filter": None},
            grpc.StatusCode.INVALID_ARGUMENT,
            "The combination of (All, Count, Forwards, None) is invalid.",
        ),
        (
            {"count": None, "read_direction": "Backwards"},
            grpc.StatusCode.INVALID_ARGUMENT,
            "The combination of (All, None, Backwards, NoFilter) is invalid.",
        ),
        (
            {"all": None, "stream": {"stream_identifier": name("a"), "start": {}}, "no_filter": None, "filter": FILTER},
            grpc.StatusCode.INVALID_ARGUMENT,
            "The combination of (Stream, Count, Forwards, Filter) is invalid.",
        ),
        (
            {"count": None, "subscription": {}, "read_direction": "Backwards"},
            grpc.StatusCode.INVALID_ARGUMENT,
            "The combination of (All, Subscription, Backwards, NoFilter) is invalid.",
        ),
        (
            {"no_filter": None, "filter": {key: value for key, value in FILTER.items() if key != "max"}},
            grpc.StatusCode.INVALID_ARGUMENT,
            f"'None' is not a valid {OPTIONS}+Types+FilterOptions+WindowOneofCase",
        ),
        (
            {
                "count": None,
                "subscription": {},
                "no_filter": None,
                "filter": FILTER | {"checkpointIntervalMultiplier": 0},
            },
            grpc.StatusCode.UNKNOWN,
            "Exception was thrown by handler.",
        ),
        ({"all": {}}, grpc.StatusCode.UNKNOWN, "Exception was thrown by handler."),
        (
            {"all": None, "stream": {"stream_identifier": name("a")}},
            grpc.StatusCode.UNKNOWN,
            "Exception was thrown by handler.",
        ),
        (
            {"all": None, "stream": {"start": {}}},
            grpc.StatusCode.UNKNOWN,
            "Exception was thrown by handler.",
        ),
        (
            {"all": None, "stream": {"stream_identifier": name("a"), "end": {}}},
            grpc.StatusCode.UNKNOWN,
            "Unexpected ReadStreamResult: Error",
        ),
    ],
)
def test_what_a_read_does_not_say_is_refused_and_not_guessed(
    channel: grpc.Channel, changes: Json, code: grpc.StatusCode, details: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, "Read", [read_request(**changes)])
    assert (refused.value.code(), refused.value.details()) == (code, details)


def test_a_stream_is_read_backwards_from_its_start(channel: grpc.Channel, client: KurrentDBClient) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=StreamState.ANY, events=events(3))
    source = {"stream_identifier": name(stream), "start": {}}
    read = call(channel, "Read", [read_request(all=None, stream=source, count=9, read_direction="Backwards")])
    assert [response["event"]["event"].get("stream_revision", "0") for response in read] == ["0"]


@pytest.fixture(scope="module")
def truncated(shared: StandIn) -> str:
    """A stream of fifty events of which the last ten are still to be seen."""
    stream = new_stream()
    with KurrentDBClient(shared.uri) as client:
        client.append_to_stream(stream, current_version=StreamState.ANY, events=events(50))
        client.set_stream_metadata(stream, metadata={"$tb": 40})
    return stream


@pytest.mark.parametrize(
    ("start", "count", "direction", "first", "revisions"),
    [
        (0, 5, "Forwards", ["40"], range(40, 45)),
        (9, 99, "Forwards", [], range(40, 50)),
        (45, 2, "Forwards", [], range(45, 47)),
        (50, 2, "Forwards", [], range(0)),
        (99, 2, "Forwards", ["50"], range(0)),
        (41, 5, "Backwards", [], range(41, 39, -1)),
    ],
)
def test_a_client_may_ask_for_the_first_and_the_last_revision(
    channel: grpc.Channel, truncated: str, start: int, count: int, direction: str, first: list[str], revisions: range
) -> None:
    request = read_request(
        all=None,
        stream={"stream_identifier": name(truncated), "revision": start},
        count=count,
        read_direction=direction,
        control_option={"compatibility": 1},
    )
    *read, last = call(channel, "Read", [request])
    assert [r["first_stream_position"] for r in read if "first_stream_position" in r] == first
    assert [int(r["event"]["event"]["stream_revision"]) for r in read if "event" in r] == list(revisions)
    assert last == {"last_stream_position": "49"}


def proposed(**changes: Any) -> Json:
    """An event to append, with other parts in place of some."""
    metadata = {"type": "Tested", "content-type": "application/json"}
    return {"id": {"string": str(uuid.uuid4())}, "metadata": metadata, "data": "e30=", **changes}


@pytest.mark.parametrize(
    ("options", "event", "code", "details"),
    [
        (
            {},
            proposed(),
            grpc.StatusCode.INVALID_ARGUMENT,
            "'None' is not a valid EventStore.Client.Streams.AppendReq+Types+Options+ExpectedStreamRevisionOneofCase",
        ),
        (
            {"any": {}},
            proposed(metadata={"type": "Tested"}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "Required Metadata Property 'content-type' is missing",
        ),
        (
            {"any": {}},
            proposed(metadata={"content-type": "application/json"}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "Required Metadata Property 'type' is missing",
        ),
        (
            {"any": {}},
            proposed(id={"string": str(uuid.UUID(int=0))}),
            grpc.StatusCode.UNKNOWN,
            "Exception was thrown by handler.",
        ),
        ({"any": {}}, proposed(id={"string": "x"}), grpc.StatusCode.UNKNOWN, "Exception was thrown by handler."),
    ],
)
def test_what_an_append_lacks_is_said(
    channel: grpc.Channel, options: Json, event: Json, code: grpc.StatusCode, details: str
) -> None:
    head = {"options": {"stream_identifier": name(new_stream()), **options}}
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, "Append", [head, {"proposed_message": event}])
    assert (refused.value.code(), refused.value.details()) == (code, details)


def test_a_wrong_version_is_told_to_old_clients_too(channel: grpc.Channel) -> None:
    stream = new_stream()
    head = {"options": {"stream_identifier": name(stream), "no_stream": {}}}
    call(channel, "Append", [head, {"proposed_message": proposed()}])
    (response,) = call(channel, "Append", [head, {"proposed_message": proposed()}])
    assert response["wrong_expected_version"] == {
        "current_revision": "0",
        "current_revision_20_6_0": "0",
        "expected_no_stream": {},
        "expected_revision_20_6_0": str(2**64 - 1),
    }


def test_only_json_is_told_from_other_content(channel: grpc.Channel, client: KurrentDBClient) -> None:
    stream = new_stream()
    kinds = ["application/json", "application/cbor", "application/octet-stream"]
    messages = [proposed(metadata={"type": "Tested", "content-type": kind}) for kind in kinds]
    call(channel, "BatchAppend", [batch("1", stream, messages)])
    assert [e.content_type for e in client.get_stream(stream)] == [kinds[0], kinds[2], kinds[2]]


def batch(number: str, stream: str | None, messages: list[Json], final: bool = True, **options: Any) -> Json:
    """One part of the append of that number; the first names the stream."""
    request: Json = {
        "correlation_id": {"string": str(uuid.UUID(int=int(number)))},
        "proposed_messages": messages,
        "is_final": final,
    }
    if stream is not None:
        request["options"] = {"stream_identifier": name(stream), "any": {}, **options}
    return request


def outcomes(responses: list[Json]) -> dict[str, str]:
    """What became of each append, by its number: its last revision, or the error."""
    return {
        str(uuid.UUID(r["correlation_id"]["string"]).int): r["error"]["message"]
        if "error" in r
        else r["success"].get("current_revision", "0")
        for r in responses
    }


def test_the_parts_of_several_appends_may_come_mixed(channel: grpc.Channel, client: KurrentDBClient) -> None:
    first, second = new_stream(), new_stream()
    responses = call(
        channel,
        "BatchAppend",
        [
            batch("1", first, [proposed()], final=False),
            batch("2", second, [proposed()], final=False),
            batch("1", None, [proposed(), proposed()], final=False),
            batch("2", None, [proposed()]),
            batch("1", None, []),
        ],
    )
    assert outcomes(responses) == {"2": "1", "1": "2"}
    assert [len(client.get_stream(stream)) for stream in (first, second)] == [3, 2]
    assert responses[0]["stream_identifier"] == name(second)


def test_an_append_that_is_refused_leaves_the_others_of_its_call_alone(channel: grpc.Channel) -> None:
    stream, large = new_stream(), proposed(data=base64.b64encode(bytes(600_000)).decode())
    responses = call(
        channel,
        "BatchAppend",
        [
            batch("1", stream, [proposed(metadata={"type": "Tested"})]),
            batch("2", stream, [large, large], final=False),
            batch("2", None, [proposed()]),
            batch("3", stream, [proposed()], deadline="-1s"),
            batch("4", stream, [proposed()], deadline_21_10_0="2020-01-01T00:00:00Z"),
            batch("5", stream, [proposed()], any=None, stream_position="7"),
            batch("6", stream, [proposed()], deadline_21_10_0="2120-01-01T00:00:00Z"),
            batch("7", stream, [proposed()]),
        ],
    )
    assert outcomes(responses) == {
        "1": "BadRequest",
        "2": "MaximumAppendSizeExceeded",
        "3": "Timeout",
        "4": "Timeout",
        "5": "WrongExpectedVersion",
        "6": "0",
        "7": "1",
    }


def test_an_append_whose_parts_do_not_come_in_time_is_refused(channel: grpc.Channel) -> None:
    append = channel.stream_stream(
        STREAMS + "BatchAppend",
        request_serializer=streams_pb2.BatchAppendReq.SerializeToString,
        response_deserializer=streams_pb2.BatchAppendResp.FromString,
    )
    requests: queue.SimpleQueue[streams_pb2.BatchAppendReq | None] = queue.SimpleQueue()
    running = append(iter(requests.get, None), timeout=TIMEOUT_S)
    stream = new_stream()
    for part in (batch("1", stream, [proposed()], final=False, deadline="0.05s"), batch("2", stream, [proposed()])):
        requests.put(json_format.ParseDict(part, streams_pb2.BatchAppendReq()))
    answers = [next(running), next(running)]
    requests.put(json_format.ParseDict(batch("1", None, [proposed()]), streams_pb2.BatchAppendReq()))
    requests.put(None)
    answers += running
    said = [json_format.MessageToDict(answer, preserving_proto_field_name=True) for answer in answers]
    assert outcomes(said) == {"2": "0", "1": "Timeout"}


def test_what_is_no_request_ends_the_call_after_the_answers_that_are_due(channel: grpc.Channel) -> None:
    append: Any = channel.stream_stream(
        STREAMS + "BatchAppend", response_deserializer=streams_pb2.BatchAppendResp.FromString
    )
    good = json_format.ParseDict(batch("1", new_stream(), [proposed()]), streams_pb2.BatchAppendReq())
    running = append(iter([good.SerializeToString(), b"\xff\xff"]), timeout=TIMEOUT_S)
    assert next(running).HasField("success")
    with pytest.raises(grpc.RpcError, match="Exception was thrown by handler"):
        next(running)


def test_a_client_is_told_which_calls_there_are(channel: grpc.Channel) -> None:
    features: Any = channel.unary_unary(FEATURES, request_serializer=shared_pb2.Empty.SerializeToString)
    answer = supported_methods_type().FromString(features(shared_pb2.Empty(), timeout=TIMEOUT_S))
    assert answer.event_store_server_version.startswith("24.10.")
    offered = {(m.service_name.rpartition(".")[2], m.method_name): list(m.features) for m in answer.methods}
    assert offered == {
        ("streams", "read"): ["position", "events"],
        ("streams", "append"): [],
        ("streams", "batchappend"): ["deadline_duration"],
        ("streams", "delete"): [],
        ("streams", "tombstone"): [],
        ("gossip", "read"): [],
        ("serverfeatures", "getsupportedmethods"): [],
    }


def supported_methods_type() -> Any:
    """The response type as the protocol defines it."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="server_features.proto", package="server_features", syntax="proto3")
    method = file.message_type.add(name="SupportedMethod")
    for number, name_, label in [
        (1, "method_name", field.LABEL_OPTIONAL),
        (2, "service_name", field.LABEL_OPTIONAL),
        (3, "features", field.LABEL_REPEATED),
    ]:
        method.field.add(name=name_, number=number, type=field.TYPE_STRING, label=label)
    methods = file.message_type.add(name="SupportedMethods")
    methods.field.add(
        name="methods",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".server_features.SupportedMethod",
        label=field.LABEL_REPEATED,
    )
    methods.field.add(name="event_store_server_version", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("server_features.SupportedMethods"))
