"""JSONPath as a filter: what it selects, what is refused, and what may not take for ever."""

from __future__ import annotations

from typing import Any

import pytest

from sinkworker.connectors import jsonpath
from sinkworker.connectors.jsonpath import Query, fault
from sinkworker.errors import Undeliverable

DOCUMENT: dict[str, Any] = {
    "recordId": "5c3b",
    "headers": {"tenant": "north"},
    "value": {"vehicle": {"year": 2018, "brand": "Ähre"}, "tags": ["new", "red"], "text": "a\nb", "none": None},
}


@pytest.mark.parametrize(
    ("query", "selected"),
    [
        ("$[?($.value.vehicle.year==2018)]", True),  # as the original's documentation has it
        ("$[?($.value.vehicle.year>2018)]", False),
        ("$.value.vehicle", True),
        ("$.value.missing", False),
        ("$.value.none", True),  # a null is a node
        ("$.value.tags[?@ == 'red']", True),
        ("$.headers[?@ == 'south']", False),
        ("$..year", True),
        (" $.value ", True),
        ("$[?match($.value.vehicle.brand, '.hr[a-f]')]", True),
        ("$[?match($.value.vehicle.brand, 'hr')]", False),
        ("$[?search($.value.vehicle.brand, 'hr')]", True),
        ("$[?match($.recordId, '[0-9a-f]{4,36}')]", True),
        ("$[?match($.recordId, '[0-9a-f]{36}')]", False),
        ("$[?match($.value.text, 'a.b')]", False),  # RFC 9485: a dot is no end of a line
        ("$[?search($.value.vehicle.year, '2')]", False),  # not a text
        ("$[?search($.value.text, '[')]", False),  # no pattern
        (r"$[?match($.value.text, 'a[\\n.]b')]", True),
    ],
)
def test_a_record_is_selected_by_what_is_in_it(query: str, selected: bool) -> None:
    assert Query(query).selects(DOCUMENT) is selected


@pytest.mark.parametrize("query", ["", "value", "$[", "$.value[?(@.x==1]", "$.value.", "$" + ".a" * 3000])
def test_what_is_no_query_is_refused_with_the_reason(query: str) -> None:
    assert fault(query)
    assert fault("$.value") is None


def test_a_regular_expression_that_does_not_end_is_no_answer() -> None:
    query = Query("$[?search($.value.text, '(a|aa)*(a|aa)*[bc]')]")
    with pytest.raises(Undeliverable, match="took longer than"):
        query.selects({"value": {"text": "a" * 5000}})


def test_many_slow_searches_are_no_answer_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonpath, "TIMEOUT_S", 0.05)
    query = Query("$.value[?search(@, '(a|aa)*c')]")  # each of them comes to its end in time
    slow = ["a" * 14] * 20_000
    with pytest.raises(Undeliverable, match="took longer than"):
        query.selects({"value": slow})
    assert not query.selects({"value": slow[:1]})  # the next document has all of its time


@pytest.mark.parametrize("pattern", ["(a{1000}){1000}", "a" * 5000])
def test_a_pattern_out_of_a_record_that_would_fill_the_memory_is_refused(pattern: str) -> None:
    query = Query("$[?search($.value.text, $.value.pattern)]")
    with pytest.raises(Undeliverable, match="is refused: it"):
        query.selects({"value": {"text": "a", "pattern": pattern}})


def test_a_document_that_is_too_deep_is_no_answer() -> None:
    deep: Any = None
    for _ in range(500):
        deep = [deep]
    with pytest.raises(Undeliverable, match="cannot be evaluated"):
        Query("$..nothing").selects(deep)
