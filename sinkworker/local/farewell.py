"""The last to go: a stack that is told to stop serves on until the roles that use it have drained."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

import redis

log = logging.getLogger(__name__)

PATIENCE_S = 3.5
"""Supervisors signal all processes at once and kill what is left after 5 s (honcho); part of that we need to stop."""
POLL_S = 0.1
SETTLED_POLLS = 2
"""A role that reconnects is for an instant not connected."""


def await_roles(redis_url: str | None, meanwhile: Callable[[], None]) -> None:
    """Return once no role is connected to our Redis, as every working role is, or after a few seconds.

    Without a Redis of ours nobody can be seen, and the time is waited out. Calls `meanwhile` several times a second.
    """
    deadline = time.monotonic() + PATIENCE_S
    said, alone = False, 0
    with contextlib.ExitStack() as stack:
        probe = None if redis_url is None else stack.enter_context(_probe(redis_url))
        while alone < SETTLED_POLLS and time.monotonic() < deadline:
            alone = alone + 1 if probe is not None and not _others(probe) else 0
            if not alone and not said:
                log.info("serving on for at most %g s, while the roles drain and disconnect", PATIENCE_S)
                said = True
            meanwhile()
            time.sleep(POLL_S)


def _probe(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1)


def _others(probe: redis.Redis) -> bool:
    """Whether anybody else is connected; where the server does not answer, somebody may be."""
    try:
        own = probe.client_id()
        return any(client["id"] != str(own) for client in probe.client_list())
    except redis.RedisError:
        return True
