"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run also the tests that take minutes (marked `long`)")
    parser.addoption("--seed", type=int, help="the faults of the chaos run; without it other ones each time")
    parser.addoption("--minutes", type=float, default=0.5, help="how long the chaos run strikes (default: 0.5)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes a minute or more; runs with --long only")
    config.addinivalue_line("markers", "chaos: random faults from a seed, for as long as --minutes says")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --long"))
