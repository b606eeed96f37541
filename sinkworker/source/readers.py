"""Subscribing: which of the readers serves, and what a refusal means."""

from __future__ import annotations

import enum
import logging

from sinkworker.bell import SocketBell, pause
from sinkworker.database import Database, ServerFault
from sinkworker.model import Cursor
from sinkworker.source.client import ClientSubscription
from sinkworker.source.filters import WITHOUT_SYSTEM_EVENTS, FilterRefused, Matching, ServerFilter
from sinkworker.source.subscription import Subscription

log = logging.getLogger(__name__)

ATTEMPTS = 3
PAUSE_S = 0.3
"""So often, and with this pause, a server that fails at a subscription is asked before its filter is to blame."""


class Reader(enum.Enum):
    """What reads a subscription from its connection."""

    LIBCURL = "libcurl"
    """A fifteenth of the other's CPU for each record."""
    CLIENT = "kurrentdbclient"
    """Needs nothing that is not needed anyway: for where libcurl has no HTTP/2."""


def usable(wanted: Reader) -> Reader:
    """The reader to use where `wanted` is asked for: the other one, with a warning, where it cannot work here."""
    if wanted is Reader.LIBCURL and not _libcurl_has_http2():
        log.warning("there is no pycurl whose libcurl has HTTP/2: reading with kurrentdbclient, at many times the CPU")
        return Reader.CLIENT
    return wanted


def subscribe(
    database: Database, reader: Reader, wanted: ServerFilter, after: Cursor, bell: SocketBell
) -> Subscription:
    """Subscribe to what `wanted` lets through after that cursor (exclusive). `reader` must be a usable one.

    Raises what `Database` raises, and FilterRefused for a pattern that the database cannot run.
    """
    faults = 0
    while True:
        try:
            return _subscription(database, reader, wanted, after, bell)
        except ServerFault as exc:
            if not isinstance(wanted, Matching) or wanted == WITHOUT_SYSTEM_EVENTS:
                raise
            faults += 1
            if faults == ATTEMPTS:  # the server says no more of a pattern than that it failed, as it may at anything
                raise FilterRefused(
                    f"KurrentDB does not accept the filter {wanted.pattern!r}.",
                    hint="It runs regular expressions in .NET's dialect; correct the filter's expression.",
                ) from exc
            pause(PAUSE_S)


def _subscription(
    database: Database, reader: Reader, wanted: ServerFilter, after: Cursor, bell: SocketBell
) -> Subscription:
    if reader is Reader.CLIENT:
        return ClientSubscription(database, wanted, after, bell)
    from sinkworker.source.libcurl import LibcurlSubscription

    return LibcurlSubscription(database, wanted, after, bell)


def _libcurl_has_http2() -> bool:
    try:
        import pycurl
    except ImportError:
        return False
    return bool(pycurl.version_info()[4] & pycurl.VERSION_HTTP2)
