"""Which tests prove which acceptance check of the contract: the marker `check`, and the table of `pytest --checks`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

CHECKS = [f"A{number}" for number in range(1, 60)]
"""Of the contract's §12, in its order."""


def carried(items: Iterable[pytest.Item]) -> dict[str, list[str]]:
    """The tests of each check, each once however many parameters it has. Raises UsageError for an unknown check."""
    tests: dict[str, list[str]] = {check: [] for check in CHECKS}
    for item in items:
        name = item.nodeid.partition("[")[0]
        for check in (check for mark in item.iter_markers("check") for check in mark.args):
            if check not in tests:
                raise pytest.UsageError(f"{name} carries {check!r}, which is no check from {CHECKS[0]} to {CHECKS[-1]}")
            if name not in tests[check]:
                tests[check].append(name)
    return tests


def table(tests: Mapping[str, list[str]]) -> str:
    """A line for each check and test, and at its end the checks that no test carries."""
    rows = [(check, name) for check, names in tests.items() for name in names]
    lines = [
        f"{check if index == 0 or rows[index - 1][0] != check else '':<5}{name}"
        for index, (check, name) in enumerate(rows)
    ]
    without = [check for check, names in tests.items() if not names]
    return "\n".join([*lines, f"carried by no test: {', '.join(without) or 'none'}"])
