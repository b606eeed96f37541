"""The table of acceptance checks names every test of a check, and every check without one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.checks import CHECKS, carried, table


class Item:
    """As much of a collected test as the table looks at."""

    def __init__(self, nodeid: str, *marks: pytest.MarkDecorator) -> None:
        self.nodeid = nodeid
        self._marks = [each.mark for each in marks]

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [mark for mark in self._marks if mark.name == name]


def test_the_table_has_every_check_in_order_and_names_those_without_a_test() -> None:
    items: list[Any] = [
        Item("b.py::two[x]", pytest.mark.check("A2", "A1")),
        Item("b.py::two[y]", pytest.mark.check("A2", "A1")),
        Item("a.py::one", pytest.mark.long, pytest.mark.check("A1")),
        Item("a.py::none"),
    ]
    lines = table(carried(items)).splitlines()
    assert lines[:3] == ["A1   b.py::two", "     a.py::one", "A2   b.py::two"]
    assert lines[3:] == [f"carried by no test: {', '.join(CHECKS[2:])}"]


def test_a_check_that_the_contract_does_not_have_is_refused() -> None:
    items: list[Any] = [Item("a.py::one", pytest.mark.check("A60"))]
    with pytest.raises(pytest.UsageError, match=r"a\.py::one carries 'A60'"):
        carried(items)
