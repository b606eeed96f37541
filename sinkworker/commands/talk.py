"""What the commands have in common: the body they are given, and what they say."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from sinkworker import config
from sinkworker.config import SETTINGS

if TYPE_CHECKING:
    from sinkworker.commands.api import ManagementApi
    from sinkworker.commands.bodies import Body
    from sinkworker.connectors.settings import SinkSettings


def body_of(source: str | None) -> Body:
    """The body that a command is given, with whatever faults its settings have. Raises Invalid for anything else."""
    from sinkworker.commands import bodies

    if source is None and sys.stdin.isatty():
        raise click.UsageError("Give a FILE with a JSON body, or - to type it.")
    return bodies.read(source or bodies.STDIN)


def sendable(source: str | None) -> Body:
    """The body for the API, which judges it. Raises Violations for what cannot even be sent as settings."""
    from sinkworker.commands.violations import Violations

    body = body_of(source)
    if body.faults:
        raise Violations("The body has settings that cannot be:", body.faults)
    return body


def sound(body: Body) -> SinkSettings:
    """The settings of a body without faults. Raises Violations."""
    from sinkworker.commands.validation import examine
    from sinkworker.commands.violations import Violations

    findings = examine(body)
    if findings.settings is None:
        raise Violations("The body has faults:", findings.violations)
    return findings.settings


def warn(body: Body) -> None:
    from sinkworker.commands.validation import examine

    for warning in examine(body).warnings:
        say(f"warning: {warning}")


def done(api: ManagementApi, connector_id: str, sentence: str, as_json: bool) -> Mapping[str, Any]:
    """Say that it is done, with what the connector is now; for a script, that alone."""
    from sinkworker.commands.tables import error_of, visible

    item = api.connector(connector_id)
    if as_json:
        print_json(item)
        return item
    click.echo(visible(sentence))
    if error := error_of(item):
        say(error)
    return item


def default_servers() -> str | None:
    from sinkworker.local import addresses

    settings = config.load(config.environment())
    name = SETTINGS["kafka_bootstrap_servers"].name
    return settings.kafka_bootstrap_servers or addresses.running(settings.data_dir).get(name)


def print_json(value: object, *, indent: bool = True) -> None:
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode())


def say(text: str) -> None:
    from sinkworker.commands.tables import visible

    click.echo(visible(text), err=True)
