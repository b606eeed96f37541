"""One product for all acceptance checks: every role as a real process, the API among them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.product import Product, running


@pytest.fixture(scope="package")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("acceptance")) as product:
        yield product


@pytest.fixture(scope="module", autouse=True)
def stopped_afterwards(product: Product) -> Iterator[None]:
    """A module's connectors do not run on beside those of the next."""
    yield
    product.stop_all()
