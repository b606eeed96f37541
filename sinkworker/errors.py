"""Every error we raise, split by what the caller does next. Library errors are translated once, by their adapter."""

from __future__ import annotations

import errno

from sinkworker.model import Position


class SinkworkerError(Exception):
    """Base of all. `code` names the kind for logs, API and scripts; `hint` says what to do; both are safe to show.

    `exit_code` is what a command ends with when the error reaches its top: 1 our bug, 2 the user's input, 3 the
    environment. `position` is where the record stands in the log that the error is about; None where it is about none.
    """

    code = "internal"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: str = "", position: Position | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.position = position
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class Transient(SinkworkerError):
    """It may work later: wait, then try the same thing again."""

    code = "transient"
    exit_code = 3


class Unavailable(Transient):
    """A server does not answer. The outcome of the call is unknown: it may have taken effect."""

    code = "unavailable"


class KurrentDBUnavailable(Unavailable):
    """The database does not answer."""

    code = "kurrentdb-unavailable"


class KurrentDBUntrusted(KurrentDBUnavailable):
    """There is no TLS connection to the database. It is waited for: an expired certificate is renewed over there."""

    code = "kurrentdb-untrusted"


class RedisUnavailable(Unavailable):
    """Redis does not answer, as ledger or as queue of tasks."""

    code = "redis-unavailable"


class RedisUntrusted(RedisUnavailable):
    """There is no TLS connection to Redis. It is waited for: an expired certificate is renewed over there."""

    code = "redis-untrusted"


class KafkaUnavailable(Unavailable):
    """The brokers do not answer."""

    code = "kafka-unavailable"


class Full(Transient):
    """There is no room in Redis for what was to be stored. The call changed nothing, and may be made again as it is."""

    code = "redis-full"


class Exhausted(Transient):
    """This machine has no more descriptors, threads or memory for us."""

    code = "machine-exhausted"


class OtherRelease(Transient):
    """Another release of sinkworker wrote this, in a version of its format that this one does not know.

    It is left as it is, for a process of that release.
    """

    code = "other-release"


class Undeliverable(SinkworkerError):
    """This record can never be delivered as things stand: stop the connector, or dead-letter the record (P5)."""

    code = "undeliverable"
    exit_code = 3


class Stale(SinkworkerError):
    """Somebody else owns this now (an epoch, a claim, a revision): let go quietly, do not retry."""

    code = "stale"
    exit_code = 3


class Fatal(SinkworkerError):
    """Trying again changes nothing until a person changes something."""

    code = "fatal"


class Invalid(Fatal):
    """The user's input is wrong: an option, a variable, a setting, a request."""

    code = "invalid"
    exit_code = 2


class Misconfigured(Fatal):
    """The environment is not as it must be: a missing topic, refused credentials, a port in use."""

    code = "misconfigured"
    exit_code = 3


class Restored(Misconfigured):
    """The database no longer holds what was remembered of it: it was restored from an older backup (R8)."""

    code = "database-restored"


LIMITS = "Check the machine's limits: ulimit -n and -u, memory."
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS})


def exhausted(exc: BaseException) -> Exhausted | None:
    """What is behind an error that says nothing but that this machine has no more of something; None for any other."""
    if isinstance(exc, OSError) and exc.errno in _EXHAUSTED:
        what = exc.strerror
    elif isinstance(exc, RuntimeError) and str(exc) == "can't start new thread":
        what = str(exc)
    elif isinstance(exc, MemoryError):
        what = "cannot allocate memory"
    else:
        return None
    return Exhausted(f"This machine has no more of what a process needs: {what}.", hint=LIMITS)
