"""The README says what is so: its commands, its table, its files, its bodies."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from sinkworker.cli import cli
from sinkworker.commands.validation import KNOWN
from sinkworker.config import SETTINGS, Config
from sinkworker.connectors.settings import parse

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m venv .venv && .venv/bin/pip install -e '.[local]' && .venv/bin/sinkworker demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest -n 2",
    ],
)
def test_the_two_commands_stand_alone_on_the_first_screen(command: str) -> None:
    assert f"{command}\n" in BLOCKS
    assert command in "\n".join(README.splitlines()[:25])


def test_the_table_of_variables_is_that_of_the_code() -> None:
    defaults = Config()
    expected = []
    for field in fields(Config):
        setting, default = SETTINGS[field.name], getattr(defaults, field.name)
        shown = "" if default is None else f"`{default}`"
        expected.append(f"| `{setting.name}` | {shown} | {setting.meaning} |")
    table = README.partition("| variable | default | meaning |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == expected


def test_the_tables_of_settings_have_every_key_that_means_something() -> None:
    tables = README.split("| key | default | accepted | meaning |\n|---|---|---|---|\n")[1:]
    rows = [row for table in tables for row in table.partition("\n\n")[0].splitlines()]
    assert sorted(row.split("`")[1] for row in rows) == sorted([*KNOWN, "defaultHeaders:NAME"])


def test_every_command_of_ours_exists() -> None:
    named = set(re.findall(r"`(?:\.venv/bin/)?sinkworker ([a-z-]+)", README))
    assert named
    assert named <= cli.commands.keys()


def test_every_file_named_exists() -> None:
    named = set(re.findall(r"`([\w./-]+\.(?:md|yaml|py|toml)|Procfile)`", README))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_sample_bodies_are_accepted() -> None:
    bodies = re.findall(r"-d '(\{.*?\n\})'", README, re.DOTALL)
    assert bodies
    for body in bodies:
        assert parse(json.loads(body)["settings"]).topic == "loans"
