"""Custom metadata as named texts: whatever bytes an event carries, it has entries or none, and never an error."""

from __future__ import annotations

import pytest

from sinkworker.metadata import entries


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (b"", {}),
        (b"\xff\x00", {}),
        (b"[1]", {}),
        (
            b'{"a": "x", "b": 7, "c": true, "d": null, "e": {"f": [1]}}',
            {"a": "x", "b": "7", "c": "true", "e": '{"f":[1]}'},
        ),
        (b'{"a": 12345678901234567890123, "b": 1e3}', {"a": "12345678901234567890123", "b": "1e3"}),
    ],
)
def test_values_as_texts(metadata: bytes, expected: dict[str, str]) -> None:
    assert entries(metadata) == expected


@pytest.mark.parametrize("depth", [254, 255, 1000, 5000])
@pytest.mark.parametrize("beside", ["7", "1e3"])
def test_an_entry_that_is_nested_too_deep_costs_no_more_than_itself(depth: int, beside: str) -> None:
    metadata = f'{{"a": {"[" * depth + "]" * depth}, "b": {beside}}}'.encode()
    found = entries(metadata)
    assert found.keys() <= {"a", "b"}
