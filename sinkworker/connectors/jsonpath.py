"""Pure: JSONPath queries (RFC 9535) as filters, with a time limit on the regular expressions in them."""

from __future__ import annotations

from typing import Any

import regex
from iregexp_check import check
from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathQuery
from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction

from sinkworker.connectors.patterns import TIMEOUT_S
from sinkworker.errors import Undeliverable

MAX_LENGTH = 4096
"""Of a query."""


class _Bounded(FilterFunction):
    """`match` or `search` of RFC 9535. The library's own know no time limit."""

    arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 (the library's class attribute)
    return_type = ExpressionType.LOGICAL

    def __init__(self, whole: bool) -> None:
        self._whole = whole

    def __call__(self, text: object, pattern: object) -> bool:
        if not isinstance(text, str) or not isinstance(pattern, str) or not check(pattern):
            return False
        compiled = regex.compile(_dots_without_line_ends(pattern))
        find = compiled.fullmatch if self._whole else compiled.search
        return find(text, timeout=TIMEOUT_S) is not None


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
        self.function_extensions |= {"match": _Bounded(whole=True), "search": _Bounded(whole=False)}


_ENVIRONMENT = _Environment()


class Query:
    """A compiled query."""

    def __init__(self, text: str) -> None:
        """Raises ValueError, with the reason, for what is no query."""
        if len(text) > MAX_LENGTH:
            raise ValueError(f"it has more than {MAX_LENGTH} characters")
        try:
            self._query: JSONPathQuery = _ENVIRONMENT.compile(text.strip())
        except JSONPathError as exc:
            raise ValueError(str(exc)) from exc
        except RecursionError as exc:
            raise ValueError("it is nested too deeply") from exc
        self._text = text

    def selects(self, document: Any) -> bool:
        """Whether it finds any node. Raises Undeliverable where that cannot be told: too deep, or too slow."""
        try:
            return self._query.find_one(document) is not None
        except TimeoutError:
            reason = f"a regular expression in it took longer than {TIMEOUT_S:g} s"
        except (JSONPathError, RecursionError) as exc:
            reason = str(exc)
        raise Undeliverable(f"The filter {self._text!r} cannot be evaluated: {reason}.", code="filter-unusable")


def fault(text: str) -> str | None:
    """Why the query is refused, None where it is not."""
    try:
        Query(text)
    except ValueError as exc:
        return str(exc)
    return None
