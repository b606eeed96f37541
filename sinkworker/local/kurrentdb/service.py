"""The calls of the protocol, each answered from the log."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import Awaitable, Callable

from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from sinkworker.local.kurrentdb.access import Access
from sinkworker.local.kurrentdb.appends import (
    MAX_APPEND_BYTES,
    AppendRequest,
    DeleteRequest,
    Outcome,
    Request,
    StreamGone,
    TombstoneRequest,
    Written,
    WrongVersion,
)
from sinkworker.local.kurrentdb.batches import BatchAppend
from sinkworker.local.kurrentdb.call import Call, next_request, only_request
from sinkworker.local.kurrentdb.errors import (
    ACCESS_DENIED,
    HANDLER_FAILED,
    UNKNOWN_METHOD,
    UNKNOWN_SERVICE,
    CallFailed,
    append_too_large,
    stream_deleted,
    wrong_expected_version,
)
from sinkworker.local.kurrentdb.features import supported_methods
from sinkworker.local.kurrentdb.gossip import cluster_info
from sinkworker.local.kurrentdb.log import Log
from sinkworker.local.kurrentdb.protocol import (
    append_response,
    expected_version,
    proposed_event,
    read_request,
    stream_name,
)
from sinkworker.local.kurrentdb.reads import AllRead, Presentation, StreamRead, read_all, read_stream
from sinkworker.local.kurrentdb.records import ProposedEvent, encoded
from sinkworker.local.kurrentdb.subscriptions import (
    AllSubscription,
    StreamSubscription,
    subscribe_to_all,
    subscribe_to_stream,
)
from sinkworker.local.kurrentdb.wire import frame
from sinkworker.local.kurrentdb.writer import Writer

log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[None]]


class Service:
    """Answers calls from one log."""

    def __init__(self, log: Log, writer: Writer, access: Access) -> None:
        self._log = log
        self._writer = writer
        self._access = access
        self._instance = uuid.uuid4()
        streams = "event_store.client.streams.Streams"
        gossip = "event_store.client.gossip.Gossip"
        features = "event_store.client.server_features.ServerFeatures"
        self._routes: dict[str, dict[str, Handler]] = {
            streams: {
                "Read": self._permitted(self._read),
                "Append": self._permitted(self._append),
                "BatchAppend": self._batch_append,
                "Delete": self._permitted(self._delete),
                "Tombstone": self._permitted(self._tombstone),
            },
            gossip: {"Read": self._gossip},
            features: {"GetSupportedMethods": self._supported_methods},
        }

    async def answer(self, call: Call) -> None:
        """Answer one call. Raises `CallFailed` to end it other than well."""
        # Wrong credentials are refused whatever is called, also what anyone may call, and what is not there.
        self._access.allows(call.headers)
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
        options = (await only_request(call, streams_pb2.ReadReq)).options
        match read_request(options):
            case StreamRead() as read:
                await read_stream(call, self._log, read, self._present(options))
            case AllRead() as read:
                await read_all(call, self._log, read, self._present(options))
            case StreamSubscription() as subscription:
                await subscribe_to_stream(call, self._log, subscription, self._present(options))
            case AllSubscription() as subscription:
                await subscribe_to_all(call, self._log, subscription, self._present(options))

    def _present(self, options: streams_pb2.ReadReq.Options) -> Presentation:
        structured_ids = options.uuid_option.WhichOneof("content") != "string"
        return Presentation(self._log, options.resolve_links, structured_ids)

    async def _append(self, call: Call) -> None:
        first = await only_request(call, streams_pb2.AppendReq)
        if first.WhichOneof("content") != "options":
            raise CallFailed(HANDLER_FAILED)
        expected = expected_version(first.options)
        events: list[ProposedEvent] = []
        size = 0
        while (request := await next_request(call, streams_pb2.AppendReq)) is not None:
            if request.WhichOneof("content") != "proposed_message":
                raise CallFailed(HANDLER_FAILED)
            event = proposed_event(request.proposed_message)
            size += event.size_on_disk()
            if size > MAX_APPEND_BYTES:
                raise append_too_large(MAX_APPEND_BYTES)
            events.append(event)
        stream = stream_name(first.options.stream_identifier)
        outcome = await self._write(AppendRequest(stream, expected, events))
        if isinstance(outcome, StreamGone):
            raise stream_deleted(stream)
        await call.send([encoded(append_response(outcome, expected))])

    async def _batch_append(self, call: Call) -> None:
        await BatchAppend(call, self._writer, self._access.allows(call.headers)).serve()

    async def _delete(self, call: Call) -> None:
        options = (await only_request(call, streams_pb2.DeleteReq)).options
        stream, expected = stream_name(options.stream_identifier), expected_version(options)
        position = await self._write_or_fail(DeleteRequest(stream, expected))
        where = streams_pb2.DeleteResp.Position(commit_position=position, prepare_position=position)
        await call.send([encoded(streams_pb2.DeleteResp(position=where))])

    async def _tombstone(self, call: Call) -> None:
        options = (await only_request(call, streams_pb2.TombstoneReq)).options
        stream, expected = stream_name(options.stream_identifier), expected_version(options)
        position = await self._write_or_fail(TombstoneRequest(stream, expected))
        where = streams_pb2.TombstoneResp.Position(commit_position=position, prepare_position=position)
        await call.send([encoded(streams_pb2.TombstoneResp(position=where))])

    async def _gossip(self, call: Call) -> None:
        await only_request(call, shared_pb2.Empty)
        await call.send([encoded(cluster_info(self._instance, call.local_address))])

    async def _supported_methods(self, call: Call) -> None:
        await only_request(call, shared_pb2.Empty)
        names = [(service, method) for service, methods in self._routes.items() for method in methods]
        await call.send([frame(supported_methods(names))])

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
