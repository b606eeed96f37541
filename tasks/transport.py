"""Kombu's Redis transport, made to survive what is no message: everybody who reaches Redis can push to the queue."""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import OutOfMemoryError

log = logging.getLogger(__name__)


class Channel(redis.Channel):
    """A channel that drops from its queues what kombu could not read. Without it, one such entry ends the worker."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]  # kombu ships few annotations
        client.set_response_callback("BRPOP", self._only_messages)
        return client

    def _only_messages(self, response: Any, **_: Any) -> Any:
        """BRPOP's answer; None, as after its timeout, where the entry is no message."""
        if response is None:
            return None
        queue, entry = response
        try:
            self._read(entry)
        except Exception as exc:  # whatever kombu would stumble over
            what = f"{type(exc).__name__}: {exc}"
            log.error("dropped an entry of the queue: its %d bytes are no task message (%s)", len(entry), what)
            return None
        return queue, entry

    def _read(self: Any, entry: Any) -> None:
        """What kombu does with an entry, and what it takes for granted when it keeps it until it is acknowledged."""
        message = self.Message(loads(bytes_to_str(entry)), channel=self)  # type: ignore[no-untyped-call]
        used = (message.delivery_tag, message.delivery_info["exchange"], message.delivery_info["routing_key"])
        if not all(isinstance(each, str) for each in used):
            raise TypeError("its delivery information is no text")


class Transport(redis.Transport):
    """A transport that takes a full Redis for one that is away: it is tried again. To kombu it ends the worker."""

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, OutOfMemoryError)


def register() -> None:
    """Make it the transport of Redis URLs in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
