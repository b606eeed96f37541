"""The arguments and options that several commands have, and the API that they stand for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

from sinkworker import config
from sinkworker.config import SETTINGS, Config, Secret

if TYPE_CHECKING:
    from sinkworker.commands.api import ManagementApi

P = ParamSpec("P")
R = TypeVar("R")


def url_of(_context: click.Context, _option: click.Parameter, value: str | None) -> Secret | None:
    if value is None:
        return None
    try:
        found: Secret = SETTINGS["api_url"].parse(value)
    except ValueError as exc:
        raise click.BadParameter(f"it {exc}") from None  # without the value, which may hold a password
    return found


def id_of(_context: click.Context, _option: click.Parameter, value: str) -> str:
    from sinkworker.connectors.naming import id_faults

    if faults := id_faults(value):
        raise click.BadParameter(f"an id {', and '.join(faults)}.")
    return value


ID = click.argument("connector_id", metavar="ID", callback=id_of)
FILE = click.argument("source", metavar="[FILE|-]", required=False)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a script.")
WAIT = click.option("--wait", is_flag=True, help="Return once it is done; say meanwhile what it waits for.")
TIMEOUT = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0), default=60.0, show_default=True, metavar="SECONDS",
    help="How long --wait waits.",
)  # fmt: skip
CA = click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Certificates (PEM) to trust with https, besides the system's own.",
)
POSITION = click.option(
    "--position", type=click.IntRange(0, 2**64 - 1), help="Of the log: begin after it; 0 is the very beginning."
)


def with_api(command: Callable[Concatenate[ManagementApi, P], R]) -> Callable[..., R]:
    """Give the command the API, and the options that say where it is."""

    @functools.wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> R:
        url, ca = options.pop("api_url"), options.pop("ca")
        assert url is None or isinstance(url, Secret)
        assert ca is None or isinstance(ca, Path)
        with _api(config.load(config.environment()), url, ca) as api:
            return command(api, *args, **options)

    url = click.option(
        "--api", "api_url", metavar="URL", callback=url_of, help="The API: http(s)://[USER:PASSWORD@]HOST:PORT."
    )
    return url(CA(run))


def _api(settings: Config, url: Secret | None, ca: Path | None) -> ManagementApi:
    from sinkworker.commands.api import ManagementApi, address_of

    hint = "Start it with `sinkworker api`, or name another with --api or SINKWORKER_API_URL."
    return ManagementApi(url or address_of(settings), "The API", hint, ca)
