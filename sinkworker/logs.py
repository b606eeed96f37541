"""Log setup of every role: stderr, one line a record, `time level role message key=value …`."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO
from weakref import WeakSet

import orjson

from sinkworker.errors import (
    KurrentDBUnavailable,
    KurrentDBUntrusted,
    RedisUnavailable,
    RedisUntrusted,
    SinkworkerError,
)

FIELDS = ("connector", "generation", "epoch", "lane", "activation", "batch", "position", "part", "pid")
"""The fields a record may carry, in the order they are printed: `log.info("…", extra={"connector": id, "lane": 3})`.

A closed list, since libraries put things of their own into `extra` that belong in no log.
"""

QUIET = {
    **dict.fromkeys(("kurrentdbclient", "httpx", "httpcore", "uvicorn.access", "asyncio", "kombu"), logging.WARNING),
    "sinkworker.librdkafka": logging.CRITICAL + 1,
}
"""Libraries that narrate what only a developer wants, and from which level on they speak, unless ours is DEBUG.

librdkafka is silent: its lines repeat what its errors tell us, and a purge that we ask for is fatal in its eyes.
"""


def setup(level: str, role: str, *, stream: TextIO | None = None) -> None:
    """Send every log record of this process to stderr in our form. A second call replaces the first."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(role, tracebacks=level == "DEBUG"))
    handler.addFilter(_is_wanted)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quiet_level in QUIET.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "DEBUG" else quiet_level)


SHARED = tuple(each.code for each in (KurrentDBUnavailable, KurrentDBUntrusted, RedisUnavailable, RedisUntrusted))
"""Troubles with a server that a whole role needs."""

LATELY_S = 6.0
"""How long after one part has said a shared trouble another's is taken for the same: as long as a call lasts."""

NAMED = 10
"""Most connectors that one line names."""


_quiet_connectors: set[str] = set()


def heed(connector: str, wanted: bool) -> None:
    """Whether more than errors is logged of the connector in this process: its setting `logging:enabled`."""
    if wanted:
        _quiet_connectors.discard(connector)
    else:
        _quiet_connectors.add(connector)


def _is_wanted(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or getattr(record, "connector", None) not in _quiet_connectors


class Role:
    """All that one role waits for: whichever part of it meets a shared trouble first says it for all of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts: WeakSet[Troubles] = WeakSet()
        self._lock = threading.Lock()
        self._clock = clock
        self._said: dict[str, tuple[int, float]] = {}
        """By code: which part said it last, and when."""

    def join(self, part: Troubles) -> None:
        with self._lock:
            self._parts.add(part)

    def is_first(self, part: Troubles, code: str) -> bool:
        """Note that the part has met it. Whether no other part has, or has said it within the last moments.

        A call that was under way when the server came back may fail after others have seen it well.
        """
        with self._lock:
            sayer, said_s = self._said.get(code, (id(part), 0.0))
            known = any(code in each.kinds for each in self._parts)
            lately = sayer != id(part) and self._clock() - said_s < LATELY_S
            part.kinds.add(code)
            if not known and not lately:
                self._said[code] = id(part), self._clock()
            return not known and not lately

    def connectors(self) -> str:
        """Every connector of the role, as a line names them."""
        with self._lock:
            names = sorted({str(each.fields["connector"]) for each in self._parts if "connector" in each.fields})
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ",".join(names[:NAMED]) + more


class Troubles:
    """What a part of a role waits for: each kind is said once, not at every attempt that meets it.

    For one thread. Parts of one `role` say the troubles that they share only once among them.
    """

    def __init__(self, log: logging.Logger, role: Role | None = None, **fields: object) -> None:
        self._log = log
        self._role = role or Role()
        self.fields = fields
        self.kinds: set[str] = set()
        self._role.join(self)

    def say(self, trouble: SinkworkerError, next_: str = "", *, level: int = logging.WARNING, **fields: object) -> bool:
        """Log the error and what happens next, unless one of its code was met since all was well. Whether it is new.

        What is new here, but was said for the whole role, is not logged again.
        """
        code = trouble.code
        if code in self.kinds:
            return False
        is_first = self._role.is_first(self, code)
        said = {**self.fields, **fields}
        if code in SHARED:
            said |= {"connector": self._role.connectors() or None}
        if is_first or code not in SHARED:
            self._log.log(level, "%s", f"{trouble} {next_}".strip(), extra=said)
        return True

    def over(self, sentence: str) -> bool:
        """All is well: log the sentence if a trouble was said before. Whether one was."""
        said = bool(self.kinds)
        if said:
            self._log.info("%s", sentence, extra=self.fields)
        self.forget()
        return said

    def forget(self) -> None:
        """All is well, and something else says so."""
        self.kinds.clear()


class LineFormatter(logging.Formatter):
    """One line a record. With `tracebacks`, an exception's traceback follows on lines of its own.

    Without, an error of ours is only its sentence, since that is all a person can act on; the traceback of any other
    exception is kept, because somebody logged it as a bug.
    """

    def __init__(self, role: str, *, tracebacks: bool) -> None:
        super().__init__()
        self._role = role
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        parts = [self._time(record.created), f"{record.levelname:<7}", self._role, _one_line(record.getMessage())]
        parts += [f"{name}={_value(value)}" for name in FIELDS if (value := getattr(record, name, None)) is not None]
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, SinkworkerError):
            parts.append(f"error={_value(error)}")
        line = " ".join(parts)
        if error is not None and record.exc_info and (self._tracebacks or not isinstance(error, SinkworkerError)):
            line += "\n" + self.formatException(record.exc_info)
        return line

    @staticmethod
    def _time(created: float) -> str:
        """UTC, to the millisecond: lines of several machines can be merged by sorting."""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created)) + f".{int(created % 1 * 1000):03d}Z"


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()) if "\n" in text or "\r" in text else text


def _value(value: object) -> str:
    """The value as text; quoted as JSON quotes it where blanks or quotes would make the end unclear."""
    text = str(value)
    if text and not any(character.isspace() or character in '"=' for character in text):
        return text
    return orjson.dumps(text).decode()
