"""Pure: what the database is asked for, so that it sends only what the connector's filter lets through (contract §3).

The database runs every pattern itself, in .NET's dialect, as a search that no end of the name anchors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from sinkworker.connectors import streams
from sinkworker.connectors.settings import FilterSettings, FilterType, Scope
from sinkworker.errors import Misconfigured


class FilterRefused(Misconfigured):
    """The database does not run the pattern."""

    code = "filter-refused"


@dataclass(frozen=True, slots=True)
class WholeLog:
    """All of `$all`, system events included."""

    def subscribe_options(self) -> dict[str, Any]:
        """Keyword arguments of `KurrentDBClient.subscribe_to_all`. Without the empty one it leaves out more types."""
        return {"filter_exclude": ()}


@dataclass(frozen=True, slots=True)
class Matching:
    """The records of `$all` whose event type, or stream name, contains a match of `pattern`."""

    pattern: str
    by_stream: bool = False

    def subscribe_options(self) -> dict[str, Any]:
        """Keyword arguments of `KurrentDBClient.subscribe_to_all`, which puts `^` and `$` around what it is given."""
        return {
            "filter_include": (f".*(?:{self.pattern}).*",),
            "filter_exclude": (),
            "filter_by_stream_name": self.by_stream,
        }


@dataclass(frozen=True, slots=True)
class OneStream:
    """One stream by its exact name: a subscription to the stream, not to `$all`."""

    name: str

    def subscribe_options(self) -> dict[str, Any]:
        """Keyword arguments of `KurrentDBClient.subscribe_to_stream`."""
        return {"stream_name": self.name}


ServerFilter: TypeAlias = WholeLog | Matching | OneStream

WITHOUT_SYSTEM_EVENTS = Matching(r"^(?!\$)")
"""`$all` but for events whose type starts with `$`: the filter of a connector that names none."""


def server_filter(settings: FilterSettings) -> ServerFilter:
    """What to subscribe to for these settings."""
    by_stream = settings.scope is Scope.STREAM
    match settings.type:
        case None:
            return WITHOUT_SYSTEM_EVENTS if settings.scope is None else WholeLog()
        case FilterType.STREAM_ID:
            return OneStream(settings.expression)
        case FilterType.PREFIX:
            alternatives = "|".join(_literal(prefix) for prefix in settings.prefixes)
            return Matching(f"^(?:{alternatives})", by_stream)
        case FilterType.JSON_PATH:
            return WholeLog()  # the database looks into no event: the worker filters
        case FilterType.REGEX:
            return Matching(settings.expression, by_stream)


def is_ours(stream: str, type: str) -> bool:
    """Whether a record is our own bookkeeping, which no connector delivers, whatever its filter.

    A connector over `$all` would otherwise deliver its own checkpoint, write one for that, and never rest.
    """
    if type == streams.CHECKPOINT_TYPE:
        return True
    if stream[:1] != "$":
        return False
    return stream in _OUR_STREAMS or stream.startswith(_OUR_PREFIXES) or _is_about_checkpoints(stream)


_OUR_STREAMS = {streams.INDEX, f"$${streams.INDEX}", f"$et-{streams.CHECKPOINT_TYPE}"}
_OUR_PREFIXES = (
    f"{streams.INDEX}/",
    f"$${streams.INDEX}/",  # `$$` and a name is the stream of that stream's metadata
    f"$et-{streams.INDEX}-",  # links that the projection $by_event_type makes
    f"$ce-{streams.INDEX}/",  # links that the projection $by_category makes
)


def _is_about_checkpoints(stream: str) -> bool:
    """Whether it is the metadata stream of a checkpoint stream."""
    return stream.startswith("$$$connectors/") and stream.endswith("/checkpoints")


def _literal(text: str) -> str:
    """A pattern of exactly this text, for .NET, which knows no escapes of letters, digits and non-ASCII."""
    return re.sub(r"([\\*+?|{}\[\]()^$.#\s-])", r"\\\1", text)
