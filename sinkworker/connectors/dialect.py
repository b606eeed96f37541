"""Pure: what the `regex` module takes in a regular expression and .NET, where the database runs filters, does not.

Expects a pattern that `regex` has compiled, and looks only for such constructs. It reads escapes, classes, comments and
white space the way .NET's parser does: a valid .NET pattern is never taken for anything else.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:x..|u.{4}|[pP]\{[^}]*\}|[0-7]{1,3}|.)", re.DOTALL)
_KNOWN_ESCAPES = frozenset("abcdefknprstuvwxABDGPSWZz")
"""Every letter that .NET takes after a backslash. It refuses all other word characters there."""

_COMMENT = re.compile(r"\(\?#[^)]*\)?")
_BLANK = re.compile(r"[ \t\r\n\f]+|#[^\n]*")
"""What `(?x)` lets a pattern be laid out with."""

_QUANTIFIER = re.compile(r"[*+?]|\{[0-9]+(?:,[0-9]*)?\}")
_OPTIONS = re.compile(r"\(\?([imnsxIMNSX+-]*)([:)])")
_NAMED_CLASS = re.compile(r"\[:\^?([^\[\]:]*):\]")


class Unsupported(ValueError):
    """The pattern is refused here, though .NET would take it, perhaps as something else than it was written for."""


def check(pattern: str) -> None:
    """Raise ValueError, with the reason, for a construct that .NET does not have; Unsupported for a named class."""
    at = 0
    quantifiers = 0  # that follow one another just before `at`
    verbose = [False]  # whether `(?x)` holds, for each open group and the whole
    while at < len(pattern):
        if comment := _COMMENT.match(pattern, at):
            at = comment.end()
        elif verbose[-1] and (blank := _BLANK.match(pattern, at)):
            at = blank.end()
        elif quantifier := _QUANTIFIER.match(pattern, at):
            # a second one is the `?` that makes the first lazy
            if quantifiers and (quantifiers > 1 or quantifier[0] != "?"):
                raise ValueError(f".NET has no possessive quantifiers; `{quantifier[0]}` at {at} follows another one")
            quantifiers += 1
            at = quantifier.end()
        else:
            quantifiers = 0
            at = _after_atom(pattern, at, verbose)


def _after_atom(pattern: str, at: int, verbose: list[bool]) -> int:
    match pattern[at]:
        case "\\":
            return _after_escape(pattern, at)
        case "[":
            return _after_class(pattern, at + 1)
        case "(":
            return _after_opening(pattern, at, verbose)
        case ")" if len(verbose) > 1:
            verbose.pop()
    return at + 1


def _after_escape(pattern: str, at: int) -> int:
    escape = _ESCAPE.match(pattern, at)
    assert escape is not None, "regex compiles no pattern that ends in a backslash"
    char = escape[0][1]
    if (char.isalpha() or char == "_") and char not in _KNOWN_ESCAPES:
        raise ValueError(f".NET has no escape `\\{char}`")
    return escape.end()


def _after_opening(pattern: str, at: int, verbose: list[bool]) -> int:
    """Where the group's content begins, or what follows the options `(?i)`."""
    if pattern.startswith("(*", at):
        raise ValueError(f".NET has no verbs; `(*` at {at} is none of its groups")
    if options := _OPTIONS.match(pattern, at):
        holds, on = verbose[-1], True
        for letter in options[1].lower():
            on = letter == "+" if letter in "+-" else on
            holds = on if letter == "x" else holds
        if options[2] == ")":
            verbose[-1] = holds
        else:
            verbose.append(holds)
        return options.end()
    verbose.append(verbose[-1])
    if not pattern.startswith("(?", at):
        return at + 1
    if pattern[at + 2 : at + 3] not in {":", "=", "!", "<", ">", "'", "("}:
        raise ValueError(f".NET has no group that begins with `{pattern[at : at + 3]}`")
    return at + 2


def _after_class(pattern: str, at: int) -> int:
    """What follows the class whose `[` is before `at`. A `]` at its start is a member, `-[` takes a class off it."""
    if pattern.startswith("^", at):
        at += 1
    first = at
    in_range = False
    while at < len(pattern):
        here, char = at, pattern[at]
        if char == "]" and here > first:
            return at + 1
        if char == "[" and not in_range and (name := _NAMED_CLASS.match(pattern, at)):
            raise Unsupported(f".NET has no named classes such as `{name[0]}`; write `\\p{{…}}` or the characters")
        at = _after_escape(pattern, at) if char == "\\" else at + 1
        if char == "\\" and pattern[here + 1] in "dDsSwWpP-":
            in_range = False  # begins no range
        elif in_range:
            in_range = False
            if char == "[":
                at = _after_class(pattern, at)
        elif pattern.startswith("-", at) and not pattern.startswith("-]", at):
            in_range = True
            at += 1
        elif char == "-" and here > first and pattern.startswith("[", at):
            at = _after_class(pattern, at + 1)
    return at
