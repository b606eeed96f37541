"""A fuzzer that reads the API's description, against the API: no 500, and no answer that is not described.

Its requests meet a few connectors, in every state that they bring each other into. `--seed` gives other requests than
the usual ones.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sinkworker.config import Config, Secret
from tests.integration.api import fuzzed
from tests.integration.api.conftest import served, standing_in
from tests.ports import free_port
from tests.processes import clean_environment
from tests.redis_server import RedisServer

USER, PASSWORD = "clerk", "correct-horse-battery"
USUAL_SEED = 7

RULES = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def address(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An API with a user, over a database of its own, so that lists stay short, and a Redis, so that it is ready."""
    folder = tmp_path_factory.mktemp("fuzzed")
    queue = RedisServer(folder)
    try:
        with standing_in(folder) as database:
            access = replace(
                config,
                kurrentdb_uri=Secret(database.uri),
                redis_url=Secret(queue.url),
                api_port=free_port(),
                api_user=USER,
                api_password=Secret(PASSWORD),
            )
            with served(access) as client:
                yield str(client.base_url)
    finally:
        queue.kill()


@pytest.mark.parametrize("examples", [4, pytest.param(200, marks=pytest.mark.long)])
def test_every_answer_is_described_and_none_is_a_500(
    address: str, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, examples: int
) -> None:
    seed = request.config.getoption("--seed") or USUAL_SEED
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={RULES}", "run", f"{address}/openapi.json"]
    command += [f"--auth={USER}:{PASSWORD}", f"--seed={seed}", f"--max-examples={examples}", "--mode=all"]
    command += ["--generation-database=none", "--continue-on-failure", "--no-color"]
    environ = clean_environment(SCHEMATHESIS_HOOKS=fuzzed.__name__)
    # It keeps what it found in its working directory, and would ask that again.
    run = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}\npytest --seed {seed}"
    assert "Traceback" not in caplog.text
