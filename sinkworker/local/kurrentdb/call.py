"""What a handler sees of the call it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from sinkworker.local.kurrentdb.errors import HANDLER_FAILED, CallFailed

M = TypeVar("M", bound=Message)


class Call(Protocol):
    """One gRPC call. A handler returns to end it well, and raises `CallFailed` to end it otherwise."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers, names in lower case."""

    @property
    def local_address(self) -> tuple[str, int]:
        """The host and port that the client reached the server at."""

    async def receive(self) -> bytes | None:
        """The next request message, None after the last."""

    async def send(self, messages: Iterable[bytes]) -> None:
        """Send framed response messages. Returns once the client's window has taken them all, so a slow client slows
        its own handler down and nothing piles up."""


async def next_request(call: Call, message_type: type[M]) -> M | None:
    """The next request of a call, None after the last."""
    payload = await call.receive()
    if payload is None:
        return None
    try:
        return message_type.FromString(payload)
    except DecodeError as exc:
        raise CallFailed(HANDLER_FAILED) from exc


async def only_request(call: Call, message_type: type[M]) -> M:
    """The request of a call that has one."""
    request = await next_request(call, message_type)
    if request is None:
        raise CallFailed(HANDLER_FAILED)
    return request
