"""Requests put into the values that the log works with, and its answers put into responses. Pure."""

from __future__ import annotations

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
from sinkworker.local.kurrentdb.errors import CallFailed, Code, Status, required_argument
from sinkworker.local.kurrentdb.filters import parse_filter
from sinkworker.local.kurrentdb.reads import AllRead, StreamRead
from sinkworker.local.kurrentdb.records import BINARY, ProposedEvent, uuid_bytes
from sinkworker.local.kurrentdb.subscriptions import AllSubscription, FilterOptions, StreamSubscription

# Where a filter does not say how many records to look at in one go.
DEFAULT_WINDOW = 32

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
        raise required_argument("streamIdentifier", "EventStore.Client.StreamIdentifier")
    try:
        return identifier.stream_name.decode()
    except UnicodeDecodeError as exc:
        raise CallFailed(Status(Code.INVALID_ARGUMENT, "A stream name must be UTF-8.")) from exc


def expected_version(options: _WriteOptions) -> int:
    """The version a write expects, as the writer counts them."""
    option: str | None
    if isinstance(options, streams_pb2.BatchAppendReq.Options):
        option, revision = options.WhichOneof("expected_stream_position"), options.stream_position
    else:
        option, revision = options.WhichOneof("expected_stream_revision"), options.revision
    match option:
        case "no_stream":
            return NO_STREAM
        case "any":
            return ANY
        case "stream_exists":
            return STREAM_EXISTS
        case None:
            raise required_argument("expectedStreamRevision", "EventStore.Client.ExpectedStreamRevision")
        case _:
            return revision


def proposed_event(
    message: streams_pb2.AppendReq.ProposedMessage | streams_pb2.BatchAppendReq.ProposedMessage,
) -> ProposedEvent:
    """One event of a request; a content type that is missing means any bytes."""
    metadata = message.metadata
    event_type = metadata.get("type", "")
    if not event_type:
        raise required_argument("type", "System.String")
    try:
        event_id = uuid_bytes(message.id)
    except ValueError as exc:
        raise CallFailed(Status(Code.INVALID_ARGUMENT, f"Not an event id: {message.id.string!r}.")) from exc
    return ProposedEvent(
        event_id, event_type, metadata.get("content-type", BINARY), message.data, message.custom_metadata
    )


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


def stream_read(options: Options, backwards: bool) -> StreamRead:
    """A finite read of one stream."""
    revision, _ = _stream_start(options.stream)
    return StreamRead(stream_name(options.stream.stream_identifier), revision, backwards, options.count)


def stream_subscription(options: Options) -> StreamSubscription:
    """A subscription to one stream."""
    revision, from_end = _stream_start(options.stream)
    return StreamSubscription(stream_name(options.stream.stream_identifier), revision, from_end)


def _stream_start(stream: streams_pb2.ReadReq.Options.StreamOptions) -> tuple[int | None, bool]:
    """The revision, where one is given, and whether the end is."""
    match stream.WhichOneof("revision_option"):
        case "revision":
            return stream.revision, False
        case option:
            return None, option == "end"


def all_read(options: Options, backwards: bool) -> AllRead:
    """A finite read of `$all`."""
    position, from_end = _all_start(options.all)
    if from_end != backwards and position is None:
        # From the far end there is nothing to read.
        return AllRead(None, backwards, 0, None)
    wanted = parse_filter(options.filter) if options.HasField("filter") else None
    return AllRead(position, backwards, options.count, wanted)


def all_subscription(options: Options) -> AllSubscription:
    """A subscription to `$all`."""
    position, from_end = _all_start(options.all)
    filtered = None
    if options.HasField("filter"):
        window = options.filter.max or DEFAULT_WINDOW
        multiplier = options.filter.checkpointIntervalMultiplier or 1
        filtered = FilterOptions(parse_filter(options.filter), window, multiplier)
    return AllSubscription(position, from_end, filtered)


def _all_start(everything: streams_pb2.ReadReq.Options.AllOptions) -> tuple[int | None, bool]:
    """The position, where one is given, and whether the end is."""
    match everything.WhichOneof("all_option"):
        case "position":
            return everything.position.commit_position, False
        case option:
            return None, option == "end"
