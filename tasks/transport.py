"""Kombu's Redis transport, made to survive what is no message: everybody who reaches Redis can push to the queue."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import OutOfMemoryError
from redis.sentinel import Sentinel

from sinkworker.redis_address import RedisAddress
from tasks import noise

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2


class _Careful:
    """Of a channel that drops from its queues what kombu could not read. Without it, one such entry ends the worker."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)  # type: ignore[misc]
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
            what = noise.shorten(f"{type(exc).__name__}: {exc}")
            log.error("dropped an entry of the queue: its %d bytes are no task message (%s)", len(entry), what)
            return None
        return queue, entry

    def _read(self: Any, entry: Any) -> None:
        """What kombu does with an entry, and what it takes for granted when it keeps it until it is acknowledged."""
        message = self.Message(loads(bytes_to_str(entry)), channel=self)  # type: ignore[no-untyped-call]
        used = (message.delivery_tag, message.delivery_info["exchange"], message.delivery_info["routing_key"])
        if not all(isinstance(each, str) for each in used):
            raise TypeError("its delivery information is no text")


class Channel(_Careful, redis.Channel):
    """A careful channel to one Redis."""


class SentinelChannel(_Careful, redis.SentinelChannel):
    """A careful channel to whoever is the master.

    kombu wants a URL for each sentinel, all with the password, and hides only the first one's when it names them.
    """

    from_transport_options = (*redis.SentinelChannel.from_transport_options, "sentinels")  # type: ignore[assignment]
    sentinels: Sequence[tuple[str, int]]
    sentinel_kwargs: Mapping[str, Any]
    master_name: str

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        options = self._connparams(asynchronous)  # type: ignore[no-untyped-call]  # kombu ships few annotations
        for name in ("host", "port"):
            options.pop(name, None)
        manager = Sentinel(self.sentinels, sentinel_kwargs=self.sentinel_kwargs, **options)  # type: ignore[no-untyped-call]
        if asynchronous:
            self._async_sentinel_manager = manager  # which the channel closes
        else:
            self._sentinel_manager = manager
        return manager.master_for(self.master_name).connection_pool  # type: ignore[no-untyped-call]


CONNECTION_ERRORS = (*redis.Transport.connection_errors, OutOfMemoryError)
"""A full Redis is taken for one that is away: it is tried again. To kombu it ends the worker."""


class Transport(redis.Transport):
    """The way to one Redis."""

    Channel = Channel
    connection_errors = CONNECTION_ERRORS


class SentinelTransport(redis.SentinelTransport):
    """The way to a Redis that sentinels watch."""

    Channel = SentinelChannel
    connection_errors = CONNECTION_ERRORS


def register() -> None:
    """Make them the transports of Redis URLs in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"


def settings(address: RedisAddress) -> dict[str, Any]:
    """Celery's settings for the broker at that address."""
    options: dict[str, Any] = {
        # The ledger makes redelivery harmless, and the reaper replaces a lost message much sooner than this.
        "visibility_timeout": 3600,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": 10,
        "health_check_interval": 10,
    }
    if address.master_name is not None:
        access = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": CONNECT_TIMEOUT_S}
        options |= {
            "master_name": address.master_name,
            "sentinels": address.servers,
            "sentinel_kwargs": {**address.sentinel_options, **access},
        }
    found: dict[str, Any] = {"broker_url": address.url, "broker_transport_options": options}
    if address.tls is not None:
        found["broker_use_ssl"] = dict(address.tls)
    return found
