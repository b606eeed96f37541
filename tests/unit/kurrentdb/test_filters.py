"""Filters as clients send them."""

from __future__ import annotations

import pytest
from kurrentdbclient.common import construct_filter_exclude_regex, construct_filter_include_regex
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.local.kurrentdb.errors import HANDLER_FAILED, CallFailed
from sinkworker.local.kurrentdb.filters import MAX_REMEMBERED, Filter, parse_filter

FilterOptions = streams_pb2.ReadReq.Options.FilterOptions
Expression = FilterOptions.Expression


def admitted(filtered: Filter, *names: str) -> list[str]:
    return [name for name in names if filtered.admits(name, lambda _: pytest.fail("a type needs no look-up"))]


@pytest.mark.parametrize(
    ("regex", "passing"),
    [
        (construct_filter_include_regex(["A.*"]), ["A", "Ab"]),
        (construct_filter_exclude_regex([r"\$.+", "A"]), ["Ab", "bA", "$"]),
        ("A", ["A", "Ab", "bA"]),
        ("(?<first>A)b", ["Ab"]),
        ("(?<=b)A", ["bA"]),
        ("(?<!b)A", ["A", "Ab"]),
        (r"^\p{Lu}", ["A", "Ab"]),
        ("(?<=^b*)A", ["A", "Ab", "bA"]),
    ],
)
def test_expressions_mean_what_they_mean_to_a_server(regex: str, passing: list[str]) -> None:
    filtered = parse_filter(FilterOptions(event_type=Expression(regex=regex)))
    assert admitted(filtered, "A", "Ab", "bA", "$", "$s") == passing


def test_any_of_the_prefixes_will_do() -> None:
    filtered = parse_filter(FilterOptions(event_type=Expression(prefix=["A", "$"])))
    assert admitted(filtered, "A", "Ab", "bA", "$", "$s") == ["A", "Ab", "$", "$s"]


@pytest.mark.parametrize("regex", ["(", "(" * 3000 + ")" * 3000])
def test_a_bad_expression_fails_the_call(regex: str) -> None:
    with pytest.raises(CallFailed) as failed:
        parse_filter(FilterOptions(event_type=Expression(regex=regex)))
    assert failed.value.status == HANDLER_FAILED


def test_streams_are_looked_up_by_number_once() -> None:
    filtered = parse_filter(FilterOptions(stream_identifier=Expression(prefix=["a-"])))
    looked_up = []

    def name(number: int) -> str:
        looked_up.append(number)
        return {1: "a-1", 2: "b-1"}[number]

    assert [filtered.admits(number, name) for number in (1, 2, 1, 2)] == [True, False, True, False]
    assert looked_up == [1, 2]


def test_what_is_remembered_is_bounded() -> None:
    filtered = Filter(by_stream=False, accepts=lambda name: name == "7")
    passing = [name for name in range(MAX_REMEMBERED + 10) if filtered.admits(str(name), str)]
    assert passing == [7]
    assert len(filtered._verdicts) <= MAX_REMEMBERED


def test_an_expression_that_does_not_come_to_an_end_fails_the_call() -> None:
    filtered = parse_filter(FilterOptions(event_type=Expression(regex="^(a|aa)+$")))
    with pytest.raises(CallFailed, match="takes too long on 'aaa"):
        admitted(filtered, "a" * 60 + "b")
