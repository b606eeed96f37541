"""What redis-py raises, as our families: every user of Redis translates here, once."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from sinkworker.errors import Full, Misconfigured, RedisUnavailable, RedisUntrusted, SinkworkerError

_REFUSED = (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError)
_NOT_NOW = (
    redis.ConnectionError,  # LOADING too
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.exceptions.TryAgainError,
    redis.exceptions.NoScriptError,  # of a node that had the slot only after all others were told the script
    redis.exceptions.ClusterError,  # CLUSTERDOWN, MASTERDOWN
    redis.exceptions.RedisClusterException,
)
_NOT_NOW_CODES = ("BUSY ", "MISCONF ", "NOREPLICAS ", "UNBLOCKED ")
"""Answers for which redis-py has no class of their own."""

_SENT_ON_TOO_OFTEN = "TTL exhausted"
"""What redis-py says of a call that nodes of a cluster refuse or pass on, sixteen times."""

TLS_HINT = "Check the certificate of Redis, and ssl_ca_certs in REDIS_URL."


@contextmanager
def translated() -> Iterator[None]:
    """Turns what redis-py raises inside into Unavailable (the outcome is unknown) or Misconfigured."""
    try:
        yield
    except (redis.RedisError, redis.exceptions.RedisClusterException) as exc:
        raise _ours(exc) from exc


def _ours(exc: Exception) -> SinkworkerError:
    if isinstance(exc, redis.exceptions.RedisClusterException) and isinstance(exc.__cause__, _REFUSED):
        exc = exc.__cause__  # every node refused
    text = str(exc).rstrip(".")
    if isinstance(exc, _REFUSED):
        hint = "Give the user of REDIS_URL the rights that the README lists."
        if not isinstance(exc, redis.exceptions.NoPermissionError):
            hint = "Check the user and password in REDIS_URL."
        return Misconfigured(f"Redis refused the connector's access: {text}.", hint=hint)
    if (refusal := _refusal_of_tls(exc)) is not None:
        return RedisUntrusted(f"No TLS connection to Redis: {refusal}.", hint=TLS_HINT)
    # Redis 6 wraps what a script's command was answered in an error of its own.
    if isinstance(exc, redis.exceptions.OutOfMemoryError) or "OOM command not allowed" in text:
        return Full("Redis is full: it refuses to store more.", hint="Raise maxmemory or lower the limits.")
    if isinstance(exc, redis.exceptions.ClusterError) and text == _SENT_ON_TOO_OFTEN:
        text = "the slot of these keys is on its way to another node"
    if isinstance(exc, _NOT_NOW) or text.startswith(_NOT_NOW_CODES):
        return RedisUnavailable(f"Redis does not answer: {text}.")
    return SinkworkerError(f"Redis did not understand: {text}.")


def _refusal_of_tls(exc: BaseException) -> str | None:
    """Why TLS failed, where that is what is behind the error."""
    behind: BaseException | None = exc
    while behind is not None:
        if isinstance(behind, ssl.SSLCertVerificationError):
            return f"its certificate is not to be trusted ({behind.verify_message.rstrip('.')})"
        if isinstance(behind, ssl.SSLError):
            return (behind.reason or str(behind)).lower().replace("_", " ")
        behind = behind.__cause__ or behind.__context__
    return None
