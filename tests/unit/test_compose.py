"""The compose file, checked by parsing: what it names exists, and nothing is open to the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from sinkworker.cli import cli
from sinkworker.config import SETTINGS, load
from sinkworker.demo.processes import FLOWER_OPTIONS

COMPOSE = Path(__file__).resolve().parents[2] / "compose"
OURS = ("scheduler", "coordinator", "api", "worker", "flower")
OTHERS = {"kurrentdb": "KURRENTDB_", "kafka": "KAFKA_"}
"""Services of others, and how the variables of their images begin."""

FROM_THE_SHELL = re.compile(r"\$\{\w+:-\}")
"""What Compose puts in from where it is started: there, nothing is set."""

CELERY_COMMANDS = ("worker", "flower")


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return found


def test_every_role_has_a_service() -> None:
    assert {*OURS, "kurrentdb", "kafka", "redis"} == services().keys()


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists(name: str) -> None:
    program, *arguments = services()[name]["command"]
    if program == "celery":
        assert arguments[:2] == ["-A", "tasks"]
        assert arguments[2] in CELERY_COMMANDS
    else:
        assert program == "sinkworker"
        assert isinstance(cli.commands[arguments[0]], click.Command)


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_exists_and_is_valid(name: str) -> None:
    environ = services()[name]["environment"]
    assert environ.keys() <= {setting.name for setting in SETTINGS.values()}
    load({variable: FROM_THE_SHELL.sub("", text) for variable, text in environ.items()})


@pytest.mark.parametrize("name", OTHERS)
def test_the_variables_of_other_images_are_theirs(name: str) -> None:
    assert all(variable.startswith(OTHERS[name]) for variable in services()[name]["environment"])


@pytest.mark.parametrize("option", FLOWER_OPTIONS)
def test_flower_shows_what_an_activation_is_of_and_forgets_old_ones_wherever_it_is_started(option: str) -> None:
    assert option in services()["flower"]["command"]
    assert option in (COMPOSE.parent / "Procfile").read_text(encoding="utf-8").split()


def test_what_a_service_depends_on_exists_and_says_when_it_is_ready() -> None:
    found = services()
    for service in found.values():
        for needed, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in found[needed]


def test_addresses_name_services_of_the_file() -> None:
    found = services()
    environ = found["worker"]["environment"]
    assert "//kurrentdb:" in environ["KURRENTDB_URI"]
    assert "//redis:" in environ["REDIS_URL"]
    assert environ["KAFKA_BOOTSTRAP_SERVERS"].split(":")[0] in found


def test_ports_are_published_on_loopback_only() -> None:
    for service in services().values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_api_may_listen_in_its_container_with_and_without_a_user() -> None:
    environ = services()["api"]["environment"]
    api = load({variable: FROM_THE_SHELL.sub("", text) for variable, text in environ.items()})
    assert (api.api_host, api.api_user, api.api_allow_anonymous) == ("0.0.0.0", None, True)
    api = load({variable: FROM_THE_SHELL.sub("given", text) for variable, text in environ.items()})
    assert api.api_user is not None


def test_a_stopping_role_has_time_to_drain() -> None:
    for name in OURS:
        assert int(services()[name]["stop_grace_period"].removesuffix("s")) > load({}).drain_timeout_s


def test_redis_keeps_its_data_and_evicts_nothing() -> None:
    command = " ".join(services()["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_image_copies_what_exists_and_runs_without_root() -> None:
    lines = (COMPOSE / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied
    assert all((COMPOSE.parent / path).exists() for path in copied)
    assert any(line.startswith("USER") for line in lines)
