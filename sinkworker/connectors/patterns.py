"""Pure: regular expressions as users of the original write them, in .NET's dialect, searched with a time limit."""

from __future__ import annotations

import re

import regex

from sinkworker.errors import Undeliverable

TIMEOUT_S = 0.1
"""For one search. Nested repetitions take exponential time; a sane pattern takes microseconds."""

_QUOTED_GROUP = re.compile(r"\(\?'(\w+)'")
_NAMED_REFERENCE = re.compile(r"\\k(?:<(\w+)>|'(\w+)')")


def compiled(pattern: str) -> regex.Pattern[str]:
    """The pattern for `search`. Raises ValueError, with the reason, for one that is no regular expression."""
    # `(?<n>…)` is understood as it is; of .NET's other forms of names these two are translated.
    translated = _QUOTED_GROUP.sub(r"(?<\1>", pattern)
    translated = _NAMED_REFERENCE.sub(lambda match: f"(?P={match[1] or match[2]})", translated)
    try:
        return regex.compile(translated)
    except regex.error as exc:
        raise ValueError(str(exc)) from exc


def fault(pattern: str) -> str | None:
    """Why the pattern is no regular expression, None where it is one."""
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
