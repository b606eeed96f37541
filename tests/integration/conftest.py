"""One system of real processes for the tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import UNHURRIED_S, System


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S) as running:
        yield running
