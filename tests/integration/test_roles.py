"""Every role as a process: waits for what it needs and says so, does its work, and stops with 0 when told to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.processes import clean_environment, eventually
from tests.system import Role

ROLES = {
    "scheduler": ["sinkworker", "scheduler"],
    "coordinator": ["sinkworker", "coordinator"],
    "api": ["sinkworker", "api"],
    "worker": ["celery", "-A", "tasks", "worker"],
    "flower": ["celery", "-A", "tasks", "flower", "--address=127.0.0.1"],
}
AT_WORK = {
    "scheduler": "reading KurrentDB and dispatching records",
    "coordinator": "writing checkpoints",
    "api": "listening on http://127.0.0.1:",
    "worker": "delivering batches to Kafka",
    "flower": "Visit me at http://127.0.0.1:",
}
NOWHERE = {
    "KURRENTDB_URI": "kdb://127.0.0.1:1?tls=false",
    "REDIS_URL": "redis://:secret@127.0.0.1:1/0",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
}


@contextlib.contextmanager
def roles(folder: Path, *names: str, **environ: str) -> Iterator[dict[str, Role]]:
    """These roles, started; inside, they run."""
    ports = {"SINKWORKER_API_PORT": str(free_port()), "FLOWER_PORT": str(free_port())}
    made = {name: Role(name, ROLES[name], clean_environment(**ports, **environ), folder) for name in names}
    try:
        for role in made.values():
            role.start()
        yield made
    finally:
        for role in made.values():
            role.destroy()


def test_every_role_waits_for_the_local_stack_then_works_and_stops(tmp_path: Path) -> None:
    environ = clean_environment(SINKWORKER_DATA_DIR=str(tmp_path / "data"))
    local = Role("local", ["sinkworker", "local"], environ, tmp_path)
    with roles(tmp_path, *ROLES, SINKWORKER_DATA_DIR=str(tmp_path / "data")) as started:
        for role in started.values():
            eventually(lambda role=role: role.said("start `sinkworker local` on the data dir"), within_s=30)  # type: ignore[misc]
        local.start()
        try:
            for name, role in started.items():
                eventually(lambda name=name, role=role: role.said(AT_WORK[name]), within_s=30)  # type: ignore[misc]
            eventually(started["worker"].ready)
            for name, role in started.items():
                assert role.stop() == 0, name
                assert not role.said("Traceback"), name
            assert local.stop() == 0
        finally:
            local.destroy()


@pytest.mark.parametrize("name", ROLES)
def test_a_role_that_waits_for_an_address_stops_when_told_to(tmp_path: Path, name: str) -> None:
    with roles(tmp_path, name, SINKWORKER_DATA_DIR=str(tmp_path / "data")) as started:
        eventually(lambda: started[name].said("waiting for KURRENTDB_URI, REDIS_URL, KAFKA_BOOTSTRAP_SERVERS"))
        assert started[name].stop() == 0


@pytest.mark.check("A57")
def test_a_token_file_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    """A57"""
    with roles(tmp_path, "api", "worker", SINKWORKER_DATA_PROTECTION_TOKEN_FILE=str(tmp_path / "absent")) as started:
        for name, role in started.items():
            assert role.wait(30) == 2, name
            assert role.said("SINKWORKER_DATA_PROTECTION_TOKEN_FILE names a file that cannot be read: No such file")
            assert not role.said("Traceback"), name


@pytest.mark.long
def test_every_role_waits_for_servers_that_are_away_and_says_which(tmp_path: Path) -> None:
    away = {
        "scheduler": "KurrentDB at kdb://127.0.0.1:1?tls=false did not",
        "coordinator": "KurrentDB at kdb://127.0.0.1:1?tls=false did not",
        "api": "Redis does not answer: Error 111 connecting to 127.0.0.1:1",
        "worker": "Cannot connect to redis://:**@127.0.0.1:1/0",
        "flower": "Error 111 connecting to 127.0.0.1:1",
    }
    with roles(tmp_path, *ROLES, **NOWHERE) as started:
        for name, role in started.items():
            eventually(lambda name=name, role=role: role.said(away[name]), within_s=30)  # type: ignore[misc]
        for name, role in started.items():
            assert role.stop() == 0, name
            assert not role.said("Traceback"), name
            assert not role.said("secret"), name
