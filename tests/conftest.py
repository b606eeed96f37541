"""Options of the whole suite."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests import checks

# A deadline for each example would be a timed assertion: one stall of the machine, and it is broken.
settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run also the tests that take minutes (marked `long`)")
    parser.addoption("--seed", type=int, help="the faults of the chaos run; without it other ones each time")
    parser.addoption("--minutes", type=float, default=0.5, help="how long the chaos run strikes (default: 0.5)")
    parser.addoption("--only", help="strike in the chaos run with faults of this kind alone, such as stop")
    parser.addoption("--outage", type=float, default=2, help="minutes without Kafka at full input (default: 2)")
    parser.addoption("--checks", action="store_true", help="list the tests of each acceptance check, and run none")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes a minute or more; runs with --long only")
    config.addinivalue_line("markers", "chaos: random faults from a seed, for as long as --minutes says")
    config.addinivalue_line("markers", "check(number, ...): proves these acceptance checks, alone or with others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    carried = checks.carried(items)
    if config.getoption("--checks"):
        config.get_terminal_writer().line(f"\n{checks.table(carried)}")
        items.clear()
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --long"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
    if session.config.getoption("--checks") and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK
