"""Where `sinkworker connectors` finds the API that the same configuration starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinkworker.commands.api import address_of
from sinkworker.config import Config, Secret


@pytest.mark.parametrize(
    ("config", "address"),
    [
        (Config(), "http://127.0.0.1:8113"),
        (Config(api_host="::", api_port=9000), "http://[::1]:9000"),
        (Config(api_certificate=Path("c.pem"), api_key=Path("k.pem")), "https://127.0.0.1:8113"),
        (Config(api_user="a b", api_password=Secret("p@ss/w:d")), "http://a%20b:p%40ss%2Fw%3Ad@127.0.0.1:8113"),
        (Config(api_url=Secret("https://x:1"), api_user="clerk", api_password=Secret("y")), "https://x:1"),
    ],
)
def test_the_address_is_that_of_the_same_configuration(config: Config, address: str) -> None:
    assert address_of(config).reveal() == address
