"""What a handler sees of the call it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol


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
