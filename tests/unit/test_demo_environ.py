"""What the demo's roles get of the user's environment: the tuning, and nothing of where or for whom the API is."""

from __future__ import annotations

from pathlib import Path

from sinkworker.config import load
from sinkworker.demo.processes import role_environ


def test_the_demos_api_is_its_own_whatever_the_users_is_like() -> None:
    of_the_user = {
        "SINKWORKER_BATCH_RECORDS": "7",
        "SINKWORKER_API_HOST": "0.0.0.0",
        "SINKWORKER_API_USER": "clerk",
        "SINKWORKER_API_PASSWORD_FILE": "/nowhere",
        "SINKWORKER_API_CERTIFICATE": "/nowhere",
        "SINKWORKER_API_KEY": "/nowhere",
    }
    config = load(
        {name: text for name, text in role_environ(of_the_user, Path("data"), 1234).items() if "SINK" in name}
    )
    assert (config.api_host, config.api_port, config.batch_records) == ("127.0.0.1", 1234, 7)
    assert (config.api_user, config.api_password_file, config.api_certificate) == (None, None, None)
