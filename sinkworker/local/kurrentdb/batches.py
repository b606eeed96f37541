"""Batch append: many appends in one call, each in one part or several, each answered as soon as it is durable."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from kurrentdbclient.protos.google.rpc import code_pb2
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from sinkworker.local.kurrentdb.appends import MAX_APPEND_BYTES, AppendRequest, Outcome
from sinkworker.local.kurrentdb.call import Call, next_request
from sinkworker.local.kurrentdb.errors import CallFailed
from sinkworker.local.kurrentdb.protocol import (
    answer_batch,
    batch_time_left_s,
    expected_version,
    fail_batch,
    proposed_event,
    stream_name,
)
from sinkworker.local.kurrentdb.records import ProposedEvent, encoded
from sinkworker.local.kurrentdb.writer import Writer

# How long the parts of one append may take to come, whatever the client allows.
MAX_COMPLETION_S = 2.0

# How many appends of one call may be unanswered. Several, so that they share a commit; not any number, so that a client
# which sends faster than the disk writes is held back by its window.
MAX_UNANSWERED = 32

Request = streams_pb2.BatchAppendReq
Response = streams_pb2.BatchAppendResp


@dataclass
class _Batch:
    """The parts of one append that have come so far."""

    response: Response
    stream: str
    expected: int
    expires_at: float
    events: list[ProposedEvent] = field(default_factory=list)
    size: int = 0

    def add(self, event: ProposedEvent) -> None:
        """One more event."""
        self.events.append(event)
        self.size += event.size_on_disk()


@dataclass
class _Answer:
    """A response, and what it still waits for; without that it is complete."""

    response: Response
    expected: int = 0
    outcome: asyncio.Future[Outcome] | None = None


class BatchAppend:
    """One call. A refused append has an error of its own, so that it does not end the others."""

    def __init__(self, call: Call, writer: Writer, allowed: bool) -> None:
        self._call = call
        self._writer = writer
        self._allowed = allowed
        self._incomplete: dict[bytes, _Batch] = {}
        self._answers: asyncio.Queue[_Answer | None] = asyncio.Queue(MAX_UNANSWERED)

    async def serve(self) -> None:
        """Take appends in, and answer each in its turn, until the client has sent the last."""
        receiving = asyncio.create_task(self._receive())
        try:
            while (answer := await self._answers.get()) is not None:
                if answer.outcome is not None:
                    answer_batch(answer.response, await answer.outcome, answer.expected)
                await self._call.send([encoded(answer.response)])
        finally:
            receiving.cancel()

    async def _receive(self) -> None:
        try:
            while (request := await self._next_request()) is not None:
                answer = self._take(request)
                if answer is not None:
                    await self._answers.put(answer)
        except Exception as exc:
            # It ends the call in `serve`, after the answers that are due.
            failed = asyncio.get_running_loop().create_future()
            failed.set_exception(exc)
            await self._answers.put(_Answer(Response(), outcome=failed))
        await self._answers.put(None)

    async def _next_request(self) -> Request | None:
        """The next part. Appends whose parts do not come in time are refused meanwhile."""
        while self._incomplete:
            key, next_to_expire = min(self._incomplete.items(), key=lambda item: item[1].expires_at)
            try:
                async with asyncio.timeout_at(next_to_expire.expires_at):
                    return await next_request(self._call, Request)
            except TimeoutError:
                del self._incomplete[key]
                await self._answers.put(_timed_out(next_to_expire.response))
        return await next_request(self._call, Request)

    def _take(self, request: Request) -> _Answer | None:
        """Take one part in. The answer to an append that is complete, or is refused, with it."""
        key = request.correlation_id.SerializeToString()
        batch = self._incomplete.get(key)
        response = Response(correlation_id=request.correlation_id, stream_identifier=request.options.stream_identifier)
        try:
            if request.HasField("options"):
                if not self._allowed:
                    fail_batch(response, code_pb2.PERMISSION_DENIED, "AccessDenied", shared_pb2.AccessDenied())
                    return _Answer(response)
                time_left_s = batch_time_left_s(request.options)
                if time_left_s <= 0:
                    return _timed_out(response)
                if batch is None:
                    batch = self._incomplete[key] = _Batch(
                        response,
                        stream_name(request.options.stream_identifier),
                        expected_version(request.options),
                        asyncio.get_running_loop().time() + min(time_left_s, MAX_COMPLETION_S),
                    )
            if batch is None:
                # The rest of an append that was refused.
                return None
            for message in request.proposed_messages:
                batch.add(proposed_event(message))
        except CallFailed as exc:
            details = shared_pb2.BadRequest(message=exc.status.message)
            fail_batch(response, code_pb2.INVALID_ARGUMENT, "BadRequest", details)
            return _Answer(response)
        return self._complete(key, batch) if request.is_final or batch.size > MAX_APPEND_BYTES else None

    def _complete(self, key: bytes, batch: _Batch) -> _Answer:
        del self._incomplete[key]
        if batch.size > MAX_APPEND_BYTES:
            details = shared_pb2.MaximumAppendSizeExceeded(maxAppendSize=MAX_APPEND_BYTES)
            fail_batch(batch.response, code_pb2.INVALID_ARGUMENT, "MaximumAppendSizeExceeded", details)
            return _Answer(batch.response)
        written = self._writer.submit(AppendRequest(batch.stream, batch.expected, batch.events))
        return _Answer(batch.response, batch.expected, asyncio.wrap_future(written))


def _timed_out(response: Response) -> _Answer:
    fail_batch(response, code_pb2.DEADLINE_EXCEEDED, "Timeout", shared_pb2.Timeout())
    return _Answer(response)
