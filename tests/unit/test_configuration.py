"""Settings as they travel: flat, nested, and back (contract §1.5)."""

from __future__ import annotations

from typing import Any

import pytest

from sinkworker.connectors.configuration import MAX_KEY_LENGTH, MAX_KEY_PARTS, flatten, texts, unflatten
from sinkworker.connectors.errors import InvalidArgument


def nested(levels: int, value: Any = "x", name: str = "a") -> dict[str, Any]:
    for _ in range(levels):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def test_objects_and_arrays_become_keys() -> None:
    assert flatten({"a": {"b": [True, None, {"c": "x"}]}, "d": {}, "": {"e": "1"}}) == {
        "a:b:0": "True",
        "a:b:1": None,
        "a:b:2:c": "x",
        ":e": "1",
    }


def test_a_key_may_be_as_deep_and_as_long_as_the_limits() -> None:
    deep, long = ":".join("a" * MAX_KEY_PARTS), "k" * MAX_KEY_LENGTH
    assert texts({deep: "x", long: "x"}) == {deep: "x", long: "x"}
    assert flatten(nested(MAX_KEY_PARTS)) == {deep: "x"}


@pytest.mark.parametrize(
    "key", ["k" * (MAX_KEY_LENGTH + 1), ":" * MAX_KEY_PARTS, "x:" + "1" * 5000, ":".join("a" * 5000)]
)
def test_a_longer_or_deeper_key_is_refused_by_name(key: str) -> None:
    for refuse in (texts, flatten):
        with pytest.raises(InvalidArgument) as raised:
            refuse({key: "x", "topic": "loans", key + "y": None})
        assert {named[:32] for named in raised.value.violations} == {key[:32]}
        assert sum(map(len, raised.value.violations.values())) == 2
        assert len(str(raised.value)) < 2000


@pytest.mark.parametrize("name", ["a", ""])
def test_nesting_without_end_is_refused_before_it_is_followed(name: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        flatten(nested(100_000, name=name))
    assert len(raised.value.violations) == 1


def test_numbered_children_come_in_the_order_of_their_numbers() -> None:
    long = "1" * 5000
    assert unflatten({f"a:{long}": "z", "a:10": "y", "a:9": "x", "a:0": "w"}) == {"a": ["w", "x", "y", "z"]}
