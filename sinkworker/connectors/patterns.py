"""Pure: regular expressions as users of the original write them, in .NET's dialect, searched with a time limit."""

from __future__ import annotations

import re

import regex

from sinkworker.connectors import dialect
from sinkworker.errors import Undeliverable

MAX_LENGTH = 4096
"""Of a pattern."""

MOST_REPEATED = 20_000
"""Characters, classes and the like that a pattern's repetitions of a fixed count may come to.

The compiler lays each of them out, at up to 1 KB a piece: `(a{9999}){9999}` alone would take all the memory there is.
"""

TIMEOUT_S = 0.1
"""For one search. Nested repetitions take exponential time; a sane pattern takes microseconds."""

_REPETITION = re.compile(r"\{(\d+)")
_LAID_OUT = re.compile(r"\(\?[\w+-]*x")
"""The option with which blanks and comments may stand between a group and its count."""

_QUOTED_GROUP = re.compile(r"\(\?'(\w+)'")
_NAMED_REFERENCE = re.compile(r"\\k(?:<(\w+)>|'(\w+)')")


def compiled(pattern: str) -> regex.Pattern[str]:
    """The pattern for `search`.

    Raises ValueError, with the reason, for one that is no regular expression of .NET's; its subclass `Unsupported` for
    one that may be, and is not taken here.
    """
    check_size(pattern)
    # `(?<n>…)` is understood as it is; of .NET's other forms of names these two are translated.
    translated = _QUOTED_GROUP.sub(r"(?<\1>", pattern)
    translated = _NAMED_REFERENCE.sub(lambda match: f"(?P={match[1] or match[2]})", translated)
    try:
        result = regex.compile(translated)
        dialect.check(pattern)
    except regex.error as exc:
        raise ValueError(str(exc)) from exc
    except (RecursionError, MemoryError) as exc:
        raise dialect.Unsupported("it is nested too deeply") from exc
    return result


def check_size(pattern: str) -> None:
    """Raise `Unsupported` for a pattern that takes too much memory to be compiled."""
    if len(pattern) > MAX_LENGTH:
        raise dialect.Unsupported(f"it has more than {MAX_LENGTH} characters")
    # An estimate that is never too low: a repetition after a group counts for everything before it.
    size = at = 0
    for repetition in _REPETITION.finditer(pattern):
        size += repetition.start() - at
        at = repetition.end()
        count = min(int(repetition[1]), MOST_REPEATED)
        before = pattern[: repetition.start()].rstrip()
        of_group = before.endswith(")") or ("#" in before and _LAID_OUT.search(pattern))
        size = size * max(count, 1) if of_group else size + count
        if size > MOST_REPEATED:
            raise dialect.Unsupported(f"its repetitions come to more than {MOST_REPEATED} characters")


def fault(pattern: str) -> str | None:
    """Why the pattern is refused, None where it is not."""
    try:
        compiled(pattern)
    except ValueError as exc:
        return str(exc)
    return None


def group_of_interest(pattern: regex.Pattern[str]) -> int:
    """The group that .NET numbers 1: the first without a name, else the first; 0, the whole match, without groups."""
    named = set(pattern.groupindex.values())
    return next((number for number in range(1, pattern.groups + 1) if number not in named), min(1, pattern.groups))


def search(pattern: regex.Pattern[str], text: str, group: int) -> str | None:
    """That group of the first match, None without a match. Raises Undeliverable for a search that does not end."""
    try:
        match = pattern.search(text, timeout=TIMEOUT_S)
    except TimeoutError as exc:
        raise Undeliverable(
            f"The regular expression {pattern.pattern!r} took longer than {TIMEOUT_S:g} s on {text!r}.",
            hint="Rewrite it without nested repetitions, such as `(a+)+`.",
            code="regex-timeout",
        ) from exc
    return match[group] if match else None
