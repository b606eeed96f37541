"""Pure: JSONPath queries (RFC 9535) as filters, with a limit on the time that the regular expressions in them take."""

from __future__ import annotations

import re
import time
from typing import Any

import regex
from iregexp_check import check
from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathQuery
from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction

from sinkworker.connectors import dialect, patterns
from sinkworker.errors import Undeliverable

MAX_LENGTH = 4096
"""Of a query."""

TIMEOUT_S = 1.0
"""For all regular expressions that a query searches one document with: it may have thousands of texts."""


_COUNT = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")


class _Clock:
    """When the regular expressions of the present document have had their time."""

    ends_s = 0.0

    def restart(self) -> None:
        self.ends_s = time.monotonic() + TIMEOUT_S

    def left_s(self) -> float:
        """Raises TimeoutError when nothing is left."""
        left_s = self.ends_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s


class _Bounded(FilterFunction):
    """`match` or `search` of RFC 9535. The library's own know no time limit."""

    arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 (the library's class attribute)
    return_type = ExpressionType.LOGICAL

    def __init__(self, clock: _Clock, whole: bool) -> None:
        self._clock = clock
        self._whole = whole

    def __call__(self, text: object, pattern: object) -> bool:
        if not isinstance(text, str) or not isinstance(pattern, str) or not _is_pattern(pattern):
            return False
        patterns.check_size(pattern)
        compiled = regex.compile(_dots_without_line_ends(pattern))
        find = compiled.fullmatch if self._whole else compiled.search
        return find(text, timeout=min(self._clock.left_s(), patterns.TIMEOUT_S)) is not None


def _is_pattern(pattern: str) -> bool:
    """Whether it is an I-Regexp (RFC 9485). The library takes counts of one digit only."""
    return bool(check(_COUNT.sub("{1}", pattern)))


def _dots_without_line_ends(pattern: str) -> str:
    """An I-Regexp's dot, outside of brackets and escapes, matches neither end of a line (RFC 9485)."""
    parts: list[str] = []
    bracketed = escaped = False
    for character in pattern:
        part = character
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif bracketed:
            bracketed = character != "]"
        elif character == "[":
            bracketed = True
        elif character == ".":
            part = r"[^\n\r]"
        parts.append(part)
    return "".join(parts)


class _Environment(JSONPathEnvironment):
    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.clock = _Clock()
        self.function_extensions |= {
            "match": _Bounded(self.clock, whole=True),
            "search": _Bounded(self.clock, whole=False),
        }


class Query:
    """A compiled query. Not for use from several threads."""

    def __init__(self, text: str) -> None:
        """Raises ValueError, with the reason, for what is no query."""
        if len(text) > MAX_LENGTH:
            raise ValueError(f"it has more than {MAX_LENGTH} characters")
        try:
            environment = _Environment()
            self._clock = environment.clock
            self._query: JSONPathQuery = environment.compile(text.strip())
        except JSONPathError as exc:
            raise ValueError(str(exc)) from exc
        except RecursionError as exc:
            raise ValueError("it is nested too deeply") from exc
        self._text = text

    def selects(self, document: Any) -> bool:
        """Whether it finds any node. Raises Undeliverable where that cannot be told: too deep, or too slow."""
        self._clock.restart()
        try:
            return self._query.find_one(document) is not None
        except TimeoutError:
            reason = f"a regular expression in it took longer than {patterns.TIMEOUT_S:g} s, or all {TIMEOUT_S:g} s"
        except dialect.Unsupported as exc:
            reason = f"a regular expression in it is refused: {exc}"
        except (JSONPathError, RecursionError) as exc:
            reason = str(exc)
        raise Undeliverable(
            f"The filter {self._text!r} (subscription:filter:expression) cannot be evaluated: {reason}.",
            code="filter-unusable",
        )


def fault(text: str) -> str | None:
    """Why the query is refused, None where it is not."""
    try:
        Query(text)
    except ValueError as exc:
        return str(exc)
    return None
