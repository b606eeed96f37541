"""The calls of the protocol, each answered from the log."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from kurrentdbclient.protos.google.rpc import code_pb2
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from sinkworker.local.kurrentdb.access import Access
from sinkworker.local.kurrentdb.appends import (
    AppendRequest,
    DeleteRequest,
    Outcome,
    Request,
    StreamGone,
    TombstoneRequest,
    Written,
    WrongVersion,
)
from sinkworker.local.kurrentdb.call import Call
from sinkworker.local.kurrentdb.errors import (
    ACCESS_DENIED,
    HANDLER_FAILED,
    UNKNOWN_METHOD,
    UNKNOWN_SERVICE,
    CallFailed,
    append_too_large,
    invalid_combination,
    required_argument,
    stream_deleted,
    wrong_expected_version,
)
from sinkworker.local.kurrentdb.gossip import cluster_info
from sinkworker.local.kurrentdb.log import Log
from sinkworker.local.kurrentdb.protocol import (
    all_read,
    all_subscription,
    answer_batch,
    append_response,
    expected_version,
    fail_batch,
    proposed_event,
    stream_name,
    stream_read,
    stream_subscription,
)
from sinkworker.local.kurrentdb.reads import Presentation, read_all, read_stream
from sinkworker.local.kurrentdb.records import ProposedEvent, encoded
from sinkworker.local.kurrentdb.subscriptions import (
    subscribe_to_all,
    subscribe_to_stream,
)
from sinkworker.local.kurrentdb.writer import Writer

log = logging.getLogger(__name__)

MAX_APPEND_BYTES = 1024 * 1024

Handler = Callable[[Call], Awaitable[None]]
Options = streams_pb2.ReadReq.Options
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
                await read_stream(call, self._log, stream_read(options, backwards), present)
            case "all", "count":
                await read_all(call, self._log, all_read(options, backwards), present)
            case "stream", "subscription" if not backwards:
                await subscribe_to_stream(call, self._log, stream_subscription(options), present)
            case "all", "subscription" if not backwards:
                await subscribe_to_all(call, self._log, all_subscription(options), present)
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
            event = proposed_event(request.proposed_message)
            size += event.size_on_disk()
            if size > MAX_APPEND_BYTES:
                raise append_too_large(MAX_APPEND_BYTES)
            events.append(event)
        stream = stream_name(options.stream_identifier)
        expected = expected_version(options)
        outcome = await self._write(AppendRequest(stream, expected, events))
        if isinstance(outcome, StreamGone):
            raise stream_deleted(stream)
        await call.send([encoded(append_response(outcome, expected))])

    async def _batch_append(self, call: Call) -> None:
        allowed = self._access.allows(call.headers)
        pending: dict[str, _Batch] = {}
        while (request := await _next_request(call, streams_pb2.BatchAppendReq)) is not None:
            key = str(request.correlation_id)
            batch = pending.get(key)
            if batch is None:
                batch = pending[key] = _Batch(request.options, [])
            batch.events.extend(proposed_event(message) for message in request.proposed_messages)
            too_large = sum(event.size_on_disk() for event in batch.events) > MAX_APPEND_BYTES
            if not (request.is_final or too_large):
                continue
            del pending[key]
            response = streams_pb2.BatchAppendResp(
                correlation_id=request.correlation_id, stream_identifier=batch.options.stream_identifier
            )
            if not allowed:
                # This call has errors of its own, so that one refused batch does not end the others.
                fail_batch(response, code_pb2.PERMISSION_DENIED, "AccessDenied", shared_pb2.AccessDenied())
            elif too_large:
                details = shared_pb2.MaximumAppendSizeExceeded(maxAppendSize=MAX_APPEND_BYTES)
                fail_batch(response, code_pb2.INVALID_ARGUMENT, "MaximumAppendSizeExceeded", details)
            else:
                stream = stream_name(batch.options.stream_identifier)
                expected = expected_version(batch.options)
                outcome = await self._write(AppendRequest(stream, expected, batch.events))
                answer_batch(response, outcome, expected)
            await call.send([encoded(response)])

    async def _delete(self, call: Call) -> None:
        options = (await _only_request(call, streams_pb2.DeleteReq)).options
        stream, expected = stream_name(options.stream_identifier), expected_version(options)
        position = await self._write_or_fail(DeleteRequest(stream, expected))
        where = streams_pb2.DeleteResp.Position(commit_position=position, prepare_position=position)
        await call.send([encoded(streams_pb2.DeleteResp(position=where))])

    async def _tombstone(self, call: Call) -> None:
        options = (await _only_request(call, streams_pb2.TombstoneReq)).options
        stream, expected = stream_name(options.stream_identifier), expected_version(options)
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
