"""The configuration as a person sees it: every variable, its value without secrets, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import orjson

from sinkworker.config import SETTINGS, Config, Secret, load, without_password
from sinkworker.local import addresses


@dataclass(frozen=True, slots=True)
class Row:
    """One variable."""

    name: str
    value: str | None
    """As text, secrets hidden; None where nothing gives one."""
    origin: str
    """`environment`, `.env`, `local.env` (the running local stack's) or `default`."""
    meaning: str


def report(environ: Mapping[str, str], origin: Callable[[str], str]) -> list[Row]:
    """One row for each variable, in the order of the README. Raises Invalid where `environ` does not load."""
    config = load(environ)
    local = addresses.running(config.data_dir)
    rows = []
    for key, setting in SETTINGS.items():
        value, source = _text(config, key), origin(setting.name)
        if value is None and setting.name in local:
            value, source = without_password(local[setting.name]), "local.env"
        rows.append(Row(setting.name, value, source, setting.meaning))
    return rows


def as_json(rows: Iterable[Row]) -> str:
    """One object, by variable."""
    return orjson.dumps({row.name: asdict(row) for row in rows}, option=orjson.OPT_INDENT_2).decode()


def as_table(rows: Iterable[Row]) -> str:
    """One line a variable, aligned, with its meaning below."""
    rows = list(rows)
    name_width = max(len(row.name) for row in rows)
    origin_width = max(len(row.origin) for row in rows)
    return "\n".join(
        f"{row.name:<{name_width}}  {row.origin:<{origin_width}}  {'(not set)' if row.value is None else row.value}"
        f"\n{'':<{name_width}}  {row.meaning}"
        for row in rows
    )


def _text(config: Config, key: str) -> str | None:
    value = getattr(config, key)
    if isinstance(value, Secret) and SETTINGS[key].hidden:
        return str(value)
    if isinstance(value, Secret):
        return without_password(value.reveal())
    return None if value is None else str(value)
