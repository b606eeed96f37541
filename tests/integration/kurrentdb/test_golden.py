"""What a real server answered, asked of the stand-in again.

`tests/golden/streams.jsonl` holds the requests and answers of one scenario. Each call is repeated here as raw gRPC, and
its answers are compared with the recorded ones, all but the intended differences that `differences` lists. Positions
are compared by the event that is there. What system projections appended to the recorded log, and the start of a real
server, is appended by this test where it was, so that everything that counts records sees the same log.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import grpc
from google.protobuf import json_format
from kurrentdbclient.protos.v1 import gossip_pb2, shared_pb2, streams_pb2
from kurrentdbclient.protos.v2.streams import streams_pb2 as v2_streams_pb2

from tests.integration.kurrentdb import differences
from tests.integration.kurrentdb.standin import StandIn

GOLDEN = Path(__file__).parents[2] / "golden"
STREAMS = "/event_store.client.streams.Streams/"
TYPES: dict[str, tuple[Any, Any]] = {
    STREAMS + "Read": (streams_pb2.ReadReq, streams_pb2.ReadResp),
    STREAMS + "Append": (streams_pb2.AppendReq, streams_pb2.AppendResp),
    STREAMS + "BatchAppend": (streams_pb2.BatchAppendReq, streams_pb2.BatchAppendResp),
    STREAMS + "Delete": (streams_pb2.DeleteReq, streams_pb2.DeleteResp),
    STREAMS + "Tombstone": (streams_pb2.TombstoneReq, streams_pb2.TombstoneResp),
    "/kurrentdb.protocol.v2.streams.StreamsService/AppendSession": (
        v2_streams_pb2.AppendRequest,
        v2_streams_pb2.AppendSessionResponse,
    ),
    "/event_store.client.gossip.Gossip/Read": (shared_pb2.Empty, gossip_pb2.ClusterInfo),
}

# Events that arrived while a recorded subscription was open, appended by a client that was not recorded.
LIVE = {"subscribe_all_from_end_live": "g-live", "subscribe_all_live_filtered_checkpoints": "g-live2"}

# Events that a server appends by itself, and the step that makes it: the marks of a deleted stream, and a tombstone.
MARKS = {
    "$$g-order-2#0": "delete",
    "$$g-order-2#1": "append_after_delete",
    f"g_other_data#{2**63 - 1}": "tombstone",
}

ABBREVIATED = re.compile(r"<(\d+) characters>")
TIMEOUT_S = 10.0
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

Json = dict[str, Any]


@dataclass
class RecordedCall:
    """One call of the recording."""

    step: str
    method: str
    requests: list[Json]
    responses: list[Json] = field(default_factory=list)
    end: Json | None = None


@dataclass(frozen=True)
class LogEntry:
    """One event of the recorded log."""

    position: int
    stream: str
    revision: int
    event: Json

    @property
    def label(self) -> str:
        """How events are told apart, where positions differ."""
        return f"{self.stream}#{self.revision}"


def lines() -> Iterator[Json]:
    with (GOLDEN / "streams.jsonl").open() as file:
        for line in file:
            yield json.loads(line)


def recorded_calls() -> list[RecordedCall]:
    calls: list[RecordedCall] = []
    for line in lines():
        if line.get("open"):
            calls.append(RecordedCall(line["step"], line["method"], line["requests"]))
        elif "response" in line:
            calls[-1].responses.append(line["response"])
        elif line.get("end"):
            calls[-1].requests = line["requests"]
            calls[-1].end = line
        elif "method" in line:
            calls.append(RecordedCall(line["step"], line["method"], line["requests"], line["responses"], line))
    return calls


def recorded_events() -> list[LogEntry]:
    """Every event that the recording shows, in the order of the log."""
    entries = {}
    for line in lines():
        for key in ("event", "link"):
            event = line.get("response", {}).get("event", {}).get(key)
            if event:
                position = int(event["commit_position"])
                stream = base64.b64decode(event["stream_identifier"]["stream_name"]).decode()
                entries[position] = LogEntry(position, stream, int(event.get("stream_revision", 0)), event)
    return [entries[position] for position in sorted(entries)]


def proposed_ids(call: RecordedCall) -> set[str]:
    """The ids of the events that a call appends."""
    proposed = [message for request in call.requests for message in request.get("proposed_messages", [])]
    proposed += [request["proposed_message"] for request in call.requests if "proposed_message" in request]
    return {message["id"]["string"] for message in proposed}


CALLS = recorded_calls()
EVENTS = recorded_events()


def causes() -> dict[str, int]:
    """The index of the call by which, or during which, each event of the log came to be; not those of projections."""
    by_step = {call.step: index for index, call in reversed(list(enumerate(CALLS)))}
    by_id = {event_id: index for index, call in reversed(list(enumerate(CALLS))) for event_id in proposed_ids(call)}
    by_live_stream = {stream: by_step[step] for step, stream in LIVE.items()}
    found = {}
    for entry in EVENTS:
        if entry.label in MARKS:
            found[entry.label] = by_step[MARKS[entry.label]]
        elif entry.stream in by_live_stream:
            found[entry.label] = by_live_stream[entry.stream]
        elif entry.event["id"]["string"] in by_id:
            found[entry.label] = by_id[entry.event["id"]["string"]]
    return found


CAUSES = causes()


class Replay:
    """Repeats the recorded calls against a stand-in, in order."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        # What nobody recorded appending, oldest last.
        self._others = [e for e in reversed(EVENTS) if e.label not in CAUSES or e.stream in LIVE.values()]

    def repeat(self, index: int) -> tuple[list[Json], Json | None]:
        """The stand-in's answers to a recorded call, and its end if the recorded call had one."""
        call = CALLS[index]
        self._append_others_before(self._reached_at(index))
        request_type, response_type = TYPES[call.method]
        method = self._channel.stream_stream(
            call.method,
            request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString,
        )
        places = self.places()
        requests = [json_format.ParseDict(translated(request, places), request_type()) for request in call.requests]
        running = method(iter(requests), timeout=TIMEOUT_S)
        answers: list[Json] = []
        for expected in call.responses:
            if call.step in LIVE:
                self._append_others_before(commit_position(expected) + 1)
            answers.append(as_json(next(running)))
        if call.end is None or call.end["code"] == "StatusCode.CANCELLED":
            running.cancel()
            return answers, None
        with contextlib.suppress(grpc.RpcError):
            answers.extend(as_json(extra) for extra in running)
        trailers = sorted([key, value] for key, value in running.trailing_metadata())
        return answers, {"code": str(running.code()), "details": running.details(), "trailers": trailers}

    def places(self) -> dict[str, int]:
        """Where each event is in the stand-in's log."""
        read = self._channel.unary_stream(
            STREAMS + "Read",
            request_serializer=streams_pb2.ReadReq.SerializeToString,
            response_deserializer=streams_pb2.ReadResp.FromString,
        )
        options = {"all": {"start": {}}, "count": 10000, "no_filter": {}, "uuid_option": {"string": {}}}
        request = json_format.ParseDict({"options": options}, streams_pb2.ReadReq())
        events = [response.event.event for response in read(request, timeout=TIMEOUT_S)]
        return {f"{e.stream_identifier.stream_name.decode()}#{e.stream_revision}": e.commit_position for e in events}

    def _reached_at(self, index: int) -> int:
        """How far the recorded log had come when the call was made: to the first event of that or a later call."""
        return min((e.position for e in EVENTS if CAUSES.get(e.label, -1) >= index), default=EVENTS[-1].position + 1)

    def _append_others_before(self, position: int) -> None:
        append = self._channel.stream_stream(
            STREAMS + "BatchAppend",
            request_serializer=streams_pb2.BatchAppendReq.SerializeToString,
            response_deserializer=streams_pb2.BatchAppendResp.FromString,
        )
        while self._others and self._others[-1].position < position:
            entry = self._others.pop()
            message = filled_in({key: entry.event.get(key) for key in ("id", "metadata", "custom_metadata", "data")})
            del message["metadata"]["created"]
            request = {
                "correlation_id": {"string": str(uuid.uuid4())},
                "options": {"stream_identifier": entry.event["stream_identifier"], "any": {}},
                "proposed_messages": [message],
                "is_final": True,
            }
            (response,) = append(iter([json_format.ParseDict(request, streams_pb2.BatchAppendReq())]))
            assert response.success.current_revision == entry.revision


def filled_in(node: Any) -> Any:
    """A recorded message with bytes of the recorded length where the recording has only that."""
    if isinstance(node, dict):
        return {key: filled_in(value) for key, value in node.items() if value is not None}
    if isinstance(node, list):
        return [filled_in(value) for value in node]
    if isinstance(node, str) and (match := ABBREVIATED.fullmatch(node)):
        return base64.b64encode(b"x" * (int(match.group(1)) * 3 // 4)).decode()
    return node


def translated(request: Json, places: dict[str, int]) -> Json:
    """A recorded request with the stand-in's positions: of the same event, or as far behind it."""
    request = filled_in(request)
    position = request.get("options", {}).get("all", {}).get("position")
    if position is not None:
        recorded = int(position["commit_position"])
        event = max((e for e in EVENTS if e.position <= recorded and e.label in places), key=lambda e: e.position)
        ours = places[event.label] + recorded - event.position
        position.update(commit_position=ours, prepare_position=ours)
    return dict(request)


def as_json(message: Any) -> Json:
    return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))


def commit_position(response: Json) -> int:
    for content in ("event", "checkpoint"):
        if content in response:
            return int(response[content].get("commit_position", 0))
    return 0


def comparable(node: Any, labels: dict[int, str], elsewhere: Any) -> Any:
    """A response without what differs between two servers: of that, only the form is left. Positions become the event
    that is there, or `elsewhere`."""
    if isinstance(node, list):
        return [comparable(value, labels, elsewhere) for value in node]
    if not isinstance(node, dict):
        return ANY if isinstance(node, str) and ABBREVIATED.fullmatch(node) else node
    result = {}
    for key, value in node.items():
        if key in ("commit_position", "prepare_position"):
            result[key] = labels.get(int(value), elsewhere)
        elif key in differences.FIELDS:
            result[key] = form(value)
        else:
            result[key] = comparable(value, labels, elsewhere)
    if "stream_identifier" in node and "id" in node:
        stream = base64.b64decode(node["stream_identifier"]["stream_name"]).decode()
        if f"{stream}#{node.get('stream_revision', 0)}" in MARKS:
            result |= {name: form(node[name]) for name in differences.FIELDS_OF_OWN_EVENTS}
    return result


def form(value: Any) -> Any:
    """What is left of a value when it does not matter which it is: of a text its length and punctuation."""
    if isinstance(value, dict):
        return sorted(value)
    return re.sub("[0-9a-f]", "0", value) if isinstance(value, str) else type(value).__name__


def comparable_end(end: Json | None) -> Json | None:
    if end is None or end["code"] == "StatusCode.CANCELLED":
        return None
    trailers = sorted([key, value] for key, value in end["trailers"] if key not in differences.HEADERS)
    return {"code": end["code"], "details": end["details"], "trailers": trailers}


def test_the_recorded_scenario_gets_the_recorded_answers(start: Callable[..., StandIn]) -> None:
    server = start()
    recorded_labels = {entry.position: entry.label for entry in EVENTS}
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=CHANNEL_OPTIONS) as channel:
        replay = Replay(channel)
        differing = []
        occurring: set[str] = set()
        for index, call in enumerate(CALLS):
            answers, end = replay.repeat(index)
            recorded_all, all_ = [call.responses, comparable_trailers(call.end)], [answers, comparable_trailers(end)]
            occurring |= {name for name in INTENDED if values_of(name, recorded_all) != values_of(name, all_)}
            labels = {position: label for label, position in replay.places().items()}
            # Not every recorded event was read, so a recorded position may be that of an event that is not known.
            expected = ([comparable(r, recorded_labels, ANY) for r in call.responses], comparable_end(call.end))
            actual = ([comparable(r, labels, "no event") for r in answers], comparable_end(end))
            if expected != actual:
                differing.append((call.step, difference(expected, actual)))
    assert not differing
    assert occurring == set(INTENDED)


INTENDED = differences.FIELDS | differences.FIELDS_OF_OWN_EVENTS | differences.HEADERS


def values_of(name: str, node: Any) -> list[Any]:
    """What every field of that name holds, in order."""
    if isinstance(node, list):
        return [value for child in node for value in values_of(name, child)]
    if not isinstance(node, dict):
        return []
    found = [value for key, value in node.items() if key == name]
    return found + [value for child in node.values() for value in values_of(name, child)]


def comparable_trailers(end: Json | None) -> Json:
    return {} if end is None or end["code"] == "StatusCode.CANCELLED" else dict(end["trailers"])


def difference(expected: Any, actual: Any) -> str:
    """The first place where two answers differ, for the report of a failure."""
    for number, (left, right) in enumerate(itertools.zip_longest(expected[0], actual[0])):
        if left != right:
            return f"answer {number}: recorded {left}, got {right}"
    return f"end: recorded {expected[1]}, got {actual[1]}"
