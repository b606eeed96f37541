"""Requests put into the values that the log works with, and its answers put into responses. Pure."""

from __future__ import annotations

import math
import time

from google.protobuf import any_pb2
from google.protobuf.message import Message
from kurrentdbclient.protos.google.rpc import code_pb2
from kurrentdbclient.protos.v1 import shared_pb2, status_pb2, streams_pb2

from sinkworker.local.kurrentdb.appends import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    Outcome,
    StreamGone,
    Written,
    WrongVersion,
)
from sinkworker.local.kurrentdb.errors import (
    HANDLER_FAILED,
    READ_FORWARDS_FROM_END,
    CallFailed,
    Code,
    Status,
    invalid_combination,
    missing_choice,
    missing_metadata,
    required_argument,
)
from sinkworker.local.kurrentdb.filters import parse_filter
from sinkworker.local.kurrentdb.reads import AllRead, StreamRead
from sinkworker.local.kurrentdb.records import BINARY, JSON, ProposedEvent, uuid_bytes
from sinkworker.local.kurrentdb.subscriptions import AllSubscription, FilterOptions, StreamSubscription

MAX_UINT64 = 2**64 - 1
NO_ID = bytes(16)

# Where a filter does not say how many records to look at in one go.
DEFAULT_WINDOW = 32

# What the server calls the options that it finds in a wrong combination.
_OPTION_NAMES = {
    "count": "Count",
    "subscription": "Subscription",
    "no_filter": "NoFilter",
    "filter": "Filter",
    None: "None",
}

Options = streams_pb2.ReadReq.Options
_WriteOptions = (
    streams_pb2.AppendReq.Options
    | streams_pb2.BatchAppendReq.Options
    | streams_pb2.DeleteReq.Options
    | streams_pb2.TombstoneReq.Options
)


def stream_name(identifier: shared_pb2.StreamIdentifier) -> str:
    """The name of a stream, as text."""
    if not identifier.stream_name:
        raise CallFailed(HANDLER_FAILED)
    try:
        return identifier.stream_name.decode()
    except UnicodeDecodeError as exc:
        raise CallFailed(Status(Code.INVALID_ARGUMENT, "A stream name must be UTF-8.")) from exc


def expected_version(options: _WriteOptions) -> int:
    """The version a write expects, as the writer counts them."""
    option: str | None
    if isinstance(options, streams_pb2.BatchAppendReq.Options):
        option, revision, position = options.WhichOneof("expected_stream_position"), options.stream_position, "Position"
    else:
        option, revision, position = options.WhichOneof("expected_stream_revision"), options.revision, "Revision"
    match option:
        case "no_stream":
            return NO_STREAM
        case "any":
            return ANY
        case "stream_exists":
            return STREAM_EXISTS
        case None:
            raise missing_choice(f"{_type_name(options)}+ExpectedStream{position}OneofCase")
        case _:
            return revision


def proposed_event(
    message: streams_pb2.AppendReq.ProposedMessage | streams_pb2.BatchAppendReq.ProposedMessage,
) -> ProposedEvent:
    """One event of a request."""
    event_type, content_type = message.metadata.get("type"), message.metadata.get("content-type")
    if event_type is None or content_type is None:
        raise missing_metadata("type" if event_type is None else "content-type")
    try:
        event_id = uuid_bytes(message.id)
    except ValueError as exc:
        raise CallFailed(HANDLER_FAILED) from exc
    if not event_type or event_id == NO_ID:
        raise CallFailed(HANDLER_FAILED)
    # Only JSON is told from everything else.
    kind = JSON if content_type == JSON else BINARY
    return ProposedEvent(event_id, event_type, kind, message.data, message.custom_metadata)


def batch_time_left_s(options: streams_pb2.BatchAppendReq.Options) -> float:
    """How long the client waits for the answer."""
    match options.WhichOneof("deadline_option"):
        case "deadline":
            return options.deadline.seconds + options.deadline.nanos / 1e9
        case "deadline_21_10_0":
            return options.deadline_21_10_0.seconds + options.deadline_21_10_0.nanos / 1e9 - time.time()
        case _:
            return math.inf


def append_response(outcome: Written | WrongVersion, expected: int) -> streams_pb2.AppendResp:
    """What `Append` answers; a tombstone it answers with a status."""
    response = streams_pb2.AppendResp()
    if isinstance(outcome, Written):
        if outcome.revision < 0:
            response.success.no_stream.SetInParent()
        else:
            response.success.current_revision = outcome.revision
        response.success.position.commit_position = outcome.position
        response.success.position.prepare_position = outcome.position
        return response
    wrong = response.wrong_expected_version
    if outcome.actual < 0:
        wrong.current_no_stream.SetInParent()
        wrong.no_stream_20_6_0.SetInParent()
    else:
        wrong.current_revision = outcome.actual
        wrong.current_revision_20_6_0 = outcome.actual
    match expected:
        case x if x == ANY:
            wrong.expected_any.SetInParent()
            wrong.any_20_6_0.SetInParent()
        case x if x == STREAM_EXISTS:
            wrong.expected_stream_exists.SetInParent()
            wrong.stream_exists_20_6_0.SetInParent()
        case x if x == NO_STREAM:
            wrong.expected_no_stream.SetInParent()
            wrong.expected_revision_20_6_0 = MAX_UINT64
        case revision:
            wrong.expected_revision = revision
            wrong.expected_revision_20_6_0 = revision
    return response


def answer_batch(response: streams_pb2.BatchAppendResp, outcome: Outcome, expected: int) -> None:
    """Put an outcome into the answer to one batch."""
    match outcome:
        case Written(revision=revision, position=position):
            if revision < 0:
                response.success.no_stream.SetInParent()
            else:
                response.success.current_revision = revision
            response.success.position.commit_position = position
            response.success.position.prepare_position = position
        case StreamGone():
            details = shared_pb2.StreamDeleted(stream_identifier=response.stream_identifier)
            fail_batch(response, code_pb2.NOT_FOUND, "StreamDeleted", details)
        case WrongVersion(actual=actual):
            fail_batch(response, code_pb2.ALREADY_EXISTS, "WrongExpectedVersion", _wrong_version(expected, actual))


def _wrong_version(expected: int, actual: int) -> shared_pb2.WrongExpectedVersion:
    details = shared_pb2.WrongExpectedVersion()
    if actual < 0:
        details.current_no_stream.SetInParent()
    else:
        details.current_stream_revision = actual
    match expected:
        case x if x == ANY:
            details.expected_any.SetInParent()
        case x if x == STREAM_EXISTS:
            details.expected_stream_exists.SetInParent()
        case x if x == NO_STREAM:
            details.expected_no_stream.SetInParent()
        case revision:
            details.expected_stream_position = revision
    return details


def fail_batch(
    response: streams_pb2.BatchAppendResp, code: code_pb2.Code.ValueType, message: str, details: Message
) -> None:
    """Refuse one batch; the call it came in goes on."""
    packed = any_pb2.Any()
    packed.Pack(details)
    response.error.CopyFrom(status_pb2.Status(code=code, message=message, details=packed))


def read_request(options: Options) -> StreamRead | AllRead | StreamSubscription | AllSubscription:
    """What a read asks for. A server goes by what is said alone: what is not said is refused, not guessed."""
    if not options.HasField("uuid_option"):
        raise required_argument("uuidOption", "EventStore.Client.Streams.ReadReq+Types+Options+Types+UUIDOption")
    source, extent = options.WhichOneof("stream_option"), options.WhichOneof("count_option")
    backwards, filtered = options.read_direction == Options.Backwards, options.WhichOneof("filter_option")
    match source, extent, backwards, filtered:
        case None, _, _, _:
            raise missing_choice("ReadReq+Types+Options+StreamOptionOneofCase")
        case "stream", "count", _, "no_filter":
            return _stream_read(options, backwards)
        case "all", "count", _, "no_filter" | "filter":
            return _all_read(options, backwards)
        case "stream", "subscription", False, "no_filter":
            return _stream_subscription(options)
        case "all", "subscription", False, "no_filter" | "filter":
            return _all_subscription(options)
        case _:
            direction = "Backwards" if backwards else "Forwards"
            raise invalid_combination(source.capitalize(), _OPTION_NAMES[extent], direction, _OPTION_NAMES[filtered])


def _stream_read(options: Options, backwards: bool) -> StreamRead:
    name = stream_name(options.stream.stream_identifier)
    revision, from_end = _stream_start(options.stream)
    if from_end and not backwards:
        raise CallFailed(READ_FORWARDS_FROM_END)
    if revision is None and not from_end:
        revision = 0
    return StreamRead(name, revision, backwards, options.count, options.control_option.compatibility >= 1)


def _stream_subscription(options: Options) -> StreamSubscription:
    revision, from_end = _stream_start(options.stream)
    return StreamSubscription(stream_name(options.stream.stream_identifier), revision, from_end)


def _stream_start(stream: streams_pb2.ReadReq.Options.StreamOptions) -> tuple[int | None, bool]:
    """The revision, where one is given, and whether the end is."""
    match stream.WhichOneof("revision_option"):
        case "revision":
            return stream.revision, False
        case None:
            raise CallFailed(HANDLER_FAILED)
        case option:
            return None, option == "end"


def _all_read(options: Options, backwards: bool) -> AllRead:
    position, from_end = _all_start(options.all)
    wanted = _filter_options(options.filter).filter if options.HasField("filter") else None
    if from_end != backwards and position is None:
        # From the far end there is nothing to read.
        return AllRead(None, backwards, 0, None)
    return AllRead(position, backwards, options.count, wanted)


def _all_subscription(options: Options) -> AllSubscription:
    position, from_end = _all_start(options.all)
    filtered = None
    if options.HasField("filter"):
        filtered = _filter_options(options.filter)
        if filtered.multiplier == 0:
            raise CallFailed(HANDLER_FAILED)
    return AllSubscription(position, from_end, filtered)


def _filter_options(options: Options.FilterOptions) -> FilterOptions:
    match options.WhichOneof("window"):
        case "max":
            window = options.max or DEFAULT_WINDOW
        case "count":
            window = DEFAULT_WINDOW
        case _:
            raise missing_choice("ReadReq+Types+Options+Types+FilterOptions+WindowOneofCase")
    return FilterOptions(parse_filter(options), window, options.checkpointIntervalMultiplier)


def _all_start(everything: streams_pb2.ReadReq.Options.AllOptions) -> tuple[int | None, bool]:
    """The position, where one is given, and whether the end is."""
    match everything.WhichOneof("all_option"):
        case "position":
            return everything.position.commit_position, False
        case None:
            raise CallFailed(HANDLER_FAILED)
        case option:
            return None, option == "end"


def _type_name(options: _WriteOptions) -> str:
    """What the server calls the type of a write's options."""
    return options.DESCRIPTOR.full_name.split(".")[-2] + "+Types+Options"
