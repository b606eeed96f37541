"""A system of its own for the tests that break it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import eventually
from tests.system import Flow, System

RECORDS = 5000


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("broken"), workers=2) as running:
        yield running


@pytest.fixture
def flow(system: System) -> Iterator[Flow]:
    """A connector in mid-flow: records keep arriving, and some are delivered."""
    flow = system.flow()
    flow.appending = flow.append_in_background(RECORDS)
    eventually(lambda: flow.position > 0)
    yield flow
    flow.stop()
