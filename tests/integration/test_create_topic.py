"""`sinkworker create-topic`: needs Kafka alone, takes the names that a connector takes, and never waits long."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.processes import clean_environment, start_sinkworker
from tests.system import System


def create(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code, and what was said."""
    log = folder / "create-topic.err"
    environ = clean_environment(**variables)
    process = start_sinkworker("create-topic", *arguments, cwd=folder, log=log, environ=environ)
    out, _ = process.communicate(timeout=20)
    return process.returncode, out.decode() + log.read_text()


def test_the_brokers_are_all_it_needs_to_know(system: System, tmp_path: Path) -> None:
    name = f"made-{uuid.uuid4()}"
    code, said = create(tmp_path, name, "--partitions", "3", KAFKA_BOOTSTRAP_SERVERS=system.servers)
    assert (code, said) == (0, f"Created the topic {name} with 3 partitions.\n")
    assert len(system.admin.list_topics(name, timeout=5).topics[name].partitions) == 3
    code, said = create(tmp_path, name, KAFKA_BOOTSTRAP_SERVERS=system.servers)
    assert (code, "exists already" in said) == (2, True)


@pytest.mark.parametrize("name", ["bad topic!", "..", "x" * 250, ""])
def test_a_name_that_no_connector_could_use_is_refused(system: System, tmp_path: Path, name: str) -> None:
    code, said = create(tmp_path, name, KAFKA_BOOTSTRAP_SERVERS=system.servers)
    assert (code, said.startswith("Error: topic: ")) == (2, True)


def test_brokers_that_are_away_are_not_waited_for(tmp_path: Path) -> None:
    begun = time.monotonic()
    code, said = create(tmp_path, "loans", KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
    assert time.monotonic() - begun < 6
    assert (code, "Check KAFKA_BOOTSTRAP_SERVERS" in said, "Traceback" in said) == (3, True, False)
