"""What a person sees: tables, and text of which no part can command the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sinkworker.commands.effective import Row, Value, masked

STATE_PREFIX = "CONNECTOR_STATE_"
_UNBOUNDED = 10_000
"""Columns where nobody looks: a pipe gets one line for each row, without a box around them."""


def visible(text: str) -> str:
    """The text with what would move a terminal's cursor or change its colours escaped; lines stay lines."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )


def of_connectors(items: Iterable[Mapping[str, Any]]) -> Table:
    """One row for each."""
    table = _table("id", "name", "state", "position", "error")
    table.columns[3].justify = "right"
    for item in items:
        state = "DELETED" if item.get("deleteTime") else state_of(item)
        cells = (item["connectorId"], item.get("name", ""), state, item.get("position", ""), error_of(item))
        table.add_row(*(_cell(each) for each in cells))
    return table


def of_facts(item: Mapping[str, Any], settings: Mapping[str, str]) -> list[Table]:
    """What is known of one connector, and its settings with what is sensitive masked."""
    facts: list[tuple[str, object]] = [
        ("id", item["connectorId"]),
        ("name", item.get("name", "")),
        ("state", f"{state_of(item)} since {item.get('stateUpdateTime', '?')}"),
        ("position", item.get("position", "none yet")),
        ("created", item.get("createTime", "")),
        ("settings of", item.get("settingsUpdateTime", "")),
        ("deleted", item.get("deleteTime", "")),
        ("error", error_of(item)),
    ]
    table = _table("", "")
    table.show_header = False
    for name, value in facts:
        if value != "":
            table.add_row(_cell(name), _cell(value))
    return [table, of_rows([Row(key, value) for key, value in masked(settings).items()], "setting")]


def of_rows(rows: Sequence[Row], heading: str) -> Table:
    """Settings or options, with their notes where any has one."""
    noted = any(row.note for row in rows)
    table = _table(heading, "value", *(["note"] if noted else []))
    for row in rows:
        table.add_row(_cell(row.key), _cell(_text(row.value)), *([_cell(row.note)] if noted else []))
    return table


def state_of(item: Mapping[str, Any]) -> str:
    return str(item.get("state", "")).removeprefix(STATE_PREFIX)


def error_of(item: Mapping[str, Any]) -> str:
    """Code and message of its error; empty without one."""
    error = item.get("errorDetails") or {}
    return f"{error.get('code', '')}: {error.get('message', '')}" if error else ""


def show(*tables: Table) -> None:
    """Print the tables, as wide as the terminal is; to a pipe plain columns, as wide as what they hold."""
    boxed = sys.stdout.isatty()
    console = Console(highlight=False, width=None if boxed else _UNBOUNDED)
    for number, table in enumerate(tables):
        if not boxed:
            table.box, table.pad_edge = None, False
            if number:
                click.echo()
        with console.capture() as captured:
            console.print(table)
        for line in captured.get().splitlines():
            click.echo(line.rstrip())


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _cell(value: object) -> Text:
    return Text(visible(str(value)))


def _text(value: Value) -> str:
    match value:
        case None:
            return "unspecified"
        case bool():
            return str(value).lower()
    return str(value)
