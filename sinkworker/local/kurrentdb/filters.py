"""Which records of `$all` a read or subscription wants: by stream name or event type, by expression or prefix. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import regex
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.local.kurrentdb.errors import HANDLER_FAILED, CallFailed, filter_too_slow

# Verdicts are remembered by event type or stream number; a filter over more of them than this starts over.
MAX_REMEMBERED = 100_000

TIMEOUT_S = 0.1
"""For one search. A real server knows none, and is busy for as long as it takes; this one has a single thread."""


@dataclass
class Filter:
    """Judges records by the name of their stream, or by their type."""

    by_stream: bool
    accepts: Callable[[str], bool]
    _verdicts: dict[str | int, bool] = field(default_factory=dict)

    def admits(self, subject: str | int, stream_name: Callable[[int], str]) -> bool:
        """Whether the record passes whose subject (event type, or number of its stream) the log gave."""
        verdict = self._verdicts.get(subject)
        if verdict is None:
            if len(self._verdicts) >= MAX_REMEMBERED:
                self._verdicts.clear()
            verdict = self.accepts(stream_name(subject) if isinstance(subject, int) else subject)
            self._verdicts[subject] = verdict
        return verdict


def parse_filter(options: streams_pb2.ReadReq.Options.FilterOptions) -> Filter:
    """The filter a request asks for. An expression that does not compile fails the call as it does a real server."""
    by_stream = options.WhichOneof("filter") == "stream_identifier"
    expression = options.stream_identifier if by_stream else options.event_type
    if expression.regex:
        return Filter(by_stream, _contains_match_of(expression.regex))
    prefixes = tuple(expression.prefix)
    return Filter(by_stream, lambda name: name.startswith(prefixes))


def _contains_match_of(expression: str) -> Callable[[str], bool]:
    try:
        # Clients write for .NET; this module is closer to it than `re`: `\p{Lu}`, `(?<name>…)`, any look-behind.
        pattern = regex.compile(expression)
    except (regex.error, RecursionError) as exc:
        raise CallFailed(HANDLER_FAILED) from exc

    def accepts(name: str) -> bool:
        try:
            return pattern.search(name, timeout=TIMEOUT_S) is not None
        except TimeoutError as exc:
            raise filter_too_slow(expression, name) from exc

    return accepts
