"""The routes, and the requests and responses of every call: what the protocol says, put into the words of the log."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from kurrentdbclient.protos.google.rpc import code_pb2
from kurrentdbclient.protos.v1 import shared_pb2, status_pb2, streams_pb2

from sinkworker.local.kurrentdb.access import Access
from sinkworker.local.kurrentdb.call import Call
from sinkworker.local.kurrentdb.errors import (
    ACCESS_DENIED,
    HANDLER_FAILED,
    UNKNOWN_METHOD,
    UNKNOWN_SERVICE,
    CallFailed,
    Code,
    Status,
    append_too_large,
    invalid_combination,
    required_argument,
    stream_deleted,
    wrong_expected_version,
)
from sinkworker.local.kurrentdb.filters import parse_filter
from sinkworker.local.kurrentdb.gossip import cluster_info
from sinkworker.local.kurrentdb.log import Log
from sinkworker.local.kurrentdb.reads import AllRead, Presentation, StreamRead, read_all, read_stream
from sinkworker.local.kurrentdb.records import BINARY, ProposedEvent, encoded, uuid_bytes
from sinkworker.local.kurrentdb.subscriptions import (
    AllSubscription,
    FilterOptions,
    StreamSubscription,
    subscribe_to_all,
    subscribe_to_stream,
)
from sinkworker.local.kurrentdb.writer import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AppendRequest,
    DeleteRequest,
    Outcome,
    Request,
    StreamGone,
    TombstoneRequest,
    Writer,
    Written,
    WrongVersion,
)

log = logging.getLogger(__name__)

MAX_APPEND_BYTES = 1024 * 1024

# Where a filter does not say how many records to look at in one go.
DEFAULT_WINDOW = 32

Handler = Callable[[Call], Awaitable[None]]
Options = streams_pb2.ReadReq.Options
_WriteOptions = (
    streams_pb2.AppendReq.Options
    | streams_pb2.BatchAppendReq.Options
    | streams_pb2.DeleteReq.Options
    | streams_pb2.TombstoneReq.Options
)
M = TypeVar("M", bound=Message)


class Service:
    """Answers calls from one log."""

    def __init__(self, log: Log, writer: Writer, access: Access) -> None:
        self._log = log
        self._writer = writer
        self._access = access
        self._instance = uuid.uuid4()
        streams, gossip = "event_store.client.streams.Streams", "event_store.client.gossip.Gossip"
        self._routes: dict[str, dict[str, Handler]] = {
            streams: {
                "Read": self._permitted(self._read),
                "Append": self._permitted(self._append),
                "BatchAppend": self._batch_append,
                "Delete": self._permitted(self._delete),
                "Tombstone": self._permitted(self._tombstone),
            },
            gossip: {"Read": self._gossip},
        }

    async def answer(self, call: Call) -> None:
        """Answer one call. Raises `CallFailed` to end it other than well."""
        handler = self._route(call.headers.get(":path", ""))
        try:
            await handler(call)
        except sqlite3.DatabaseError as exc:
            log.error("The data file failed (%s): make room, restore the file, or choose another --data", exc)
            raise CallFailed(HANDLER_FAILED) from exc

    def _route(self, path: str) -> Handler:
        service, _, method = path.removeprefix("/").partition("/")
        methods = self._routes.get(service)
        if methods is None:
            raise CallFailed(UNKNOWN_SERVICE)
        handler = methods.get(method)
        if handler is None:
            raise CallFailed(UNKNOWN_METHOD)
        return handler

    def _permitted(self, handler: Handler) -> Handler:
        async def checked(call: Call) -> None:
            if not self._access.allows(call.headers):
                raise CallFailed(ACCESS_DENIED)
            await handler(call)

        return checked

    async def _read(self, call: Call) -> None:
        options = (await _only_request(call, streams_pb2.ReadReq)).options
        if not options.HasField("uuid_option"):
            raise required_argument("uuidOption", "EventStore.Client.Streams.ReadReq+Types+Options+Types+UUIDOption")
        present = Presentation(
            self._log,
            resolve_links=options.resolve_links,
            structured_ids=options.uuid_option.WhichOneof("content") == "structured",
        )
        backwards = options.read_direction == Options.Backwards
        match options.WhichOneof("stream_option"), options.WhichOneof("count_option"):
            case "stream", "count":
                await read_stream(call, self._log, _stream_read(options, backwards), present)
            case "all", "count":
                await read_all(call, self._log, _all_read(options, backwards), present)
            case "stream", "subscription" if not backwards:
                await subscribe_to_stream(call, self._log, _stream_subscription(options), present)
            case "all", "subscription" if not backwards:
                await subscribe_to_all(call, self._log, _all_subscription(options), present)
            case stream_option, count_option:
                direction = "Backwards" if backwards else "Forwards"
                raise invalid_combination(f"({stream_option}, {count_option}, {direction})")

    async def _append(self, call: Call) -> None:
        first = await _next_request(call, streams_pb2.AppendReq)
        if first is None or first.WhichOneof("content") != "options":
            raise required_argument("options", "EventStore.Client.Streams.AppendReq+Types+Options")
        options = first.options
        events: list[ProposedEvent] = []
        size = 0
        while (request := await _next_request(call, streams_pb2.AppendReq)) is not None:
            event = _proposed(request.proposed_message)
            size += event.size_on_disk()
            if size > MAX_APPEND_BYTES:
                raise append_too_large(MAX_APPEND_BYTES)
            events.append(event)
        stream = _name(options.stream_identifier)
        expected = _expected(options)
        outcome = await self._write(AppendRequest(stream, expected, events))
        if isinstance(outcome, StreamGone):
            raise stream_deleted(stream)
        await call.send([encoded(_append_response(outcome, expected))])

    async def _batch_append(self, call: Call) -> None:
        allowed = self._access.allows(call.headers)
        pending: dict[str, _Batch] = {}
        while (request := await _next_request(call, streams_pb2.BatchAppendReq)) is not None:
            key = str(request.correlation_id)
            batch = pending.get(key)
            if batch is None:
                batch = pending[key] = _Batch(request.options, [])
            batch.events.extend(_proposed(message) for message in request.proposed_messages)
            too_large = sum(event.size_on_disk() for event in batch.events) > MAX_APPEND_BYTES
            if not (request.is_final or too_large):
                continue
            del pending[key]
            response = streams_pb2.BatchAppendResp(
                correlation_id=request.correlation_id, stream_identifier=batch.options.stream_identifier
            )
            if not allowed:
                # This call has errors of its own, so that one refused batch does not end the others.
                _fail(response, code_pb2.PERMISSION_DENIED, "AccessDenied", shared_pb2.AccessDenied())
            elif too_large:
                details = shared_pb2.MaximumAppendSizeExceeded(maxAppendSize=MAX_APPEND_BYTES)
                _fail(response, code_pb2.INVALID_ARGUMENT, "MaximumAppendSizeExceeded", details)
            else:
                stream = _name(batch.options.stream_identifier)
                expected = _expected(batch.options)
                outcome = await self._write(AppendRequest(stream, expected, batch.events))
                _answer(response, outcome, expected)
            await call.send([encoded(response)])

    async def _delete(self, call: Call) -> None:
        options = (await _only_request(call, streams_pb2.DeleteReq)).options
        stream, expected = _name(options.stream_identifier), _expected(options)
        position = await self._write_or_fail(DeleteRequest(stream, expected))
        where = streams_pb2.DeleteResp.Position(commit_position=position, prepare_position=position)
        await call.send([encoded(streams_pb2.DeleteResp(position=where))])

    async def _tombstone(self, call: Call) -> None:
        options = (await _only_request(call, streams_pb2.TombstoneReq)).options
        stream, expected = _name(options.stream_identifier), _expected(options)
        position = await self._write_or_fail(TombstoneRequest(stream, expected))
        where = streams_pb2.TombstoneResp.Position(commit_position=position, prepare_position=position)
        await call.send([encoded(streams_pb2.TombstoneResp(position=where))])

    async def _gossip(self, call: Call) -> None:
        await _only_request(call, shared_pb2.Empty)
        await call.send([encoded(cluster_info(self._instance, call.local_address))])

    async def _write(self, request: Request) -> Outcome:
        return await asyncio.wrap_future(self._writer.submit(request))

    async def _write_or_fail(self, request: DeleteRequest | TombstoneRequest) -> int:
        match await self._write(request):
            case Written(position=position):
                return position
            case WrongVersion(actual=actual):
                raise wrong_expected_version(request.stream, request.expected, actual)
            case StreamGone():
                raise stream_deleted(request.stream)


@dataclass
class _Batch:
    """The parts of one batch append that have come so far."""

    options: streams_pb2.BatchAppendReq.Options
    events: list[ProposedEvent]


async def _next_request(call: Call, message_type: type[M]) -> M | None:
    payload = await call.receive()
    if payload is None:
        return None
    try:
        return message_type.FromString(payload)
    except DecodeError as exc:
        raise CallFailed(HANDLER_FAILED) from exc


async def _only_request(call: Call, message_type: type[M]) -> M:
    request = await _next_request(call, message_type)
    if request is None:
        raise CallFailed(HANDLER_FAILED)
    return request


def _name(identifier: shared_pb2.StreamIdentifier) -> str:
    if not identifier.stream_name:
        raise required_argument("streamIdentifier", "EventStore.Client.StreamIdentifier")
    try:
        return identifier.stream_name.decode()
    except UnicodeDecodeError as exc:
        raise CallFailed(Status(Code.INVALID_ARGUMENT, "A stream name must be UTF-8.")) from exc


def _expected(options: _WriteOptions) -> int:
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


def _proposed(
    message: streams_pb2.AppendReq.ProposedMessage | streams_pb2.BatchAppendReq.ProposedMessage,
) -> ProposedEvent:
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


def _append_response(outcome: Written | WrongVersion, expected: int) -> streams_pb2.AppendResp:
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


def _answer(response: streams_pb2.BatchAppendResp, outcome: Outcome, expected: int) -> None:
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
            _fail(response, code_pb2.NOT_FOUND, "StreamDeleted", details)
        case WrongVersion(actual=actual):
            _fail(response, code_pb2.ALREADY_EXISTS, "WrongExpectedVersion", _wrong_version(expected, actual))


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


def _fail(response: streams_pb2.BatchAppendResp, code: code_pb2.Code.ValueType, message: str, details: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(details)
    response.error.CopyFrom(status_pb2.Status(code=code, message=message, details=packed))


def _stream_read(options: Options, backwards: bool) -> StreamRead:
    revision, _ = _stream_start(options.stream)
    return StreamRead(_name(options.stream.stream_identifier), revision, backwards, options.count)


def _stream_subscription(options: Options) -> StreamSubscription:
    revision, from_end = _stream_start(options.stream)
    return StreamSubscription(_name(options.stream.stream_identifier), revision, from_end)


def _stream_start(stream: streams_pb2.ReadReq.Options.StreamOptions) -> tuple[int | None, bool]:
    """The revision, where one is given, and whether the end is."""
    match stream.WhichOneof("revision_option"):
        case "revision":
            return stream.revision, False
        case option:
            return None, option == "end"


def _all_read(options: Options, backwards: bool) -> AllRead:
    position, from_end = _all_start(options.all)
    if from_end != backwards and position is None:
        # From the far end there is nothing to read.
        return AllRead(None, backwards, 0, None)
    wanted = parse_filter(options.filter) if options.HasField("filter") else None
    return AllRead(position, backwards, options.count, wanted)


def _all_subscription(options: Options) -> AllSubscription:
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
