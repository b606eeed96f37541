"""The commands over the API: list, show, create, reconfigure, start, stop, reset, rename, delete."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from sinkworker.commands.options import FILE, ID, JSON, POSITION, TIMEOUT, WAIT, with_api
from sinkworker.commands.talk import default_servers, done, print_json, say, sendable, warn

if TYPE_CHECKING:
    from sinkworker.commands.api import ManagementApi
    from sinkworker.connectors.settings import SinkSettings

STATES = ("running", "stopped", "activating", "deactivating")


@click.command(name="list")
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES, case_sensitive=False),
    multiple=True,
    help="Only in this state. May be repeated.",
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this one. May be repeated.")
@click.option("--deleted", is_flag=True, help="Deleted ones too.")
@JSON
@with_api
def list_(api: ManagementApi, states: Sequence[str], ids: Sequence[str], deleted: bool, as_json: bool) -> None:
    """List connectors.

    \b
    Examples:
      sinkworker connectors list --state running
      sinkworker connectors list --json | jq -r '.[] | select(.errorDetails) | .connectorId'
    """
    from sinkworker.commands import tables

    parameters: dict[str, Any] = {"state": [tables.STATE_PREFIX + state.upper() for state in states]}
    if deleted:
        parameters["showDeleted"] = "true"
    items = api.connectors(ids=ids, **parameters)
    if as_json:
        print_json(items)
    elif items:
        tables.show(tables.of_connectors(items))
    else:
        click.echo("No connectors." if not (states or ids) else "No such connectors.", err=True)


@click.command()
@ID
@click.option(
    "--effective", is_flag=True, help="What the settings come to, with every default, and the producer's options."
)
@JSON
@with_api
def show(api: ManagementApi, connector_id: str, effective: bool, as_json: bool) -> None:
    """Show one connector: its state, position and settings as given; passwords are masked.

    With --effective, what the settings come to: every default filled in, the filter as it is understood, and the
    options of the Kafka producer. Brokers that the connector does not name come from KAFKA_BOOTSTRAP_SERVERS of this
    command.

    \b
    Examples:
      sinkworker connectors show loans-sink
      sinkworker connectors show loans-sink --effective --json | jq '.producer'
    """
    from sinkworker.commands import tables
    from sinkworker.commands.effective import masked
    from sinkworker.connectors.settings import parse

    item = api.connector(connector_id, include_settings=True)
    given = item.get("settings", {})
    if effective:
        _print_effective(connector_id, given, parse(given), as_json)
    elif as_json:
        print_json({**item, "settings": masked(given)})
    else:
        tables.show(*tables.of_facts(item, given))


@click.command()
@ID
@FILE
@click.option("--start", "and_start", is_flag=True, help="Start it at once.")
@JSON
@with_api
def create(api: ManagementApi, connector_id: str, source: str | None, and_start: bool, as_json: bool) -> None:
    """Create the connector ID, stopped, from the JSON body in FILE or on standard input.

    \b
    Examples:
      sinkworker connectors create loans-sink loans.json --start
      jq '.settings.topic = "loans"' loans.json | sinkworker connectors create loans-sink
    """
    body = sendable(source)
    given = {"settings": dict(body.settings), **({"name": body.name} if body.name else {})}
    api.ask(f"create {connector_id}", "POST", f"/{connector_id}", given)
    warn(body)
    if and_start:
        api.ask(f"start {connector_id}", "POST", f"/{connector_id}/start")
    done(api, connector_id, f"Created {connector_id}{' and started it.' if and_start else ', stopped.'}", as_json)


@click.command()
@ID
@FILE
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change this setting alone. May be repeated."
)
@JSON
@with_api
def reconfigure(
    api: ManagementApi, connector_id: str, source: str | None, assignments: Sequence[str], as_json: bool
) -> None:
    """Change the settings of the connector ID, from FILE, standard input or --set.

    Takes a bare map of settings, as the API's PUT does, or a body with `settings` or `configuration`. One that has
    instanceTypeName replaces all settings; any other changes those that it has, and null removes one. A running
    connector goes on with its old settings until it is stopped and started.

    \b
    Examples:
      sinkworker connectors reconfigure loans-sink loans.json
      sinkworker connectors reconfigure loans-sink --set topic=loans-2 --set compression:type=lz4
      echo '{"defaultHeaders:region": null}' | sinkworker connectors reconfigure loans-sink
    """
    from sinkworker.commands.bodies import Body, Shape
    from sinkworker.connectors.configuration import TYPE_KEY

    if assignments and source is not None:
        raise click.UsageError("Give a FILE or --set, not both.")
    body = Body(_assigned(assignments), shape=Shape.BARE) if assignments else sendable(source)
    api.ask(f"reconfigure {connector_id}", "PUT", f"/{connector_id}/settings", dict(body.settings))
    warn(body)
    if body.name:
        click.echo("Its name stays as it is: `sinkworker connectors rename` changes that.", err=True)
    replaced = any(key.lower() == TYPE_KEY and value is not None for key, value in body.settings.items())
    what = "Replaced all settings" if replaced else f"Changed {', '.join(body.settings) or 'nothing'}"
    item = done(api, connector_id, f"{what} of {connector_id}, from {'--set' if assignments else body.shape}.", as_json)
    if item["state"] != "CONNECTOR_STATE_STOPPED":
        click.echo("It goes on with its old settings until it is stopped and started again.", err=True)


@click.command()
@ID
@POSITION
@WAIT
@TIMEOUT
@JSON
@with_api
def start(
    api: ManagementApi, connector_id: str, position: int | None, wait: bool, timeout_s: float, as_json: bool
) -> None:
    """Start the connector ID where it left off, or after a position of the log.

    \b
    Examples:
      sinkworker connectors start loans-sink --wait
      sinkworker connectors start loans-sink --position 16829
    """
    _set_going(api, "start", connector_id, position, timeout_s if wait else None)
    done(api, connector_id, f"{connector_id} {'is running.' if wait else 'is to run.'}", as_json)


@click.command()
@ID
@WAIT
@TIMEOUT
@JSON
@with_api
def stop(api: ManagementApi, connector_id: str, wait: bool, timeout_s: float, as_json: bool) -> None:
    """Stop the connector ID: what is in flight is delivered, its last checkpoint is written.

    \b
    Example:
      sinkworker connectors stop loans-sink --wait
    """
    from sinkworker.commands.waiting import until_stopped

    api.ask(f"stop {connector_id}", "POST", f"/{connector_id}/stop")
    if wait:
        until_stopped(api, connector_id, timeout_s, say)
    done(api, connector_id, f"{connector_id} {'is stopped.' if wait else 'is to stop.'}", as_json)


@click.command()
@ID
@POSITION
@WAIT
@TIMEOUT
@JSON
@with_api
def reset(
    api: ManagementApi, connector_id: str, position: int | None, wait: bool, timeout_s: float, as_json: bool
) -> None:
    """Start the stopped connector ID over: from the beginning of the log, or after a position.

    Everything from there on is delivered again.

    \b
    Example:
      sinkworker connectors reset loans-sink --position 16829
    """
    _set_going(api, "reset", connector_id, position, timeout_s if wait else None)
    where = "the beginning" if not position else f"position {position}"
    done(api, connector_id, f"{connector_id} {'runs' if wait else 'is to run'} from {where}.", as_json)


@click.command()
@ID
@click.argument("name")
@JSON
@with_api
def rename(api: ManagementApi, connector_id: str, name: str, as_json: bool) -> None:
    """Give the connector ID another NAME; its id stays.

    \b
    Example:
      sinkworker connectors rename loans-sink "Loans to the lake"
    """
    api.ask(f"rename {connector_id}", "PUT", f"/{connector_id}/rename", {"name": name})
    done(api, connector_id, f"{connector_id} is named {name}.", as_json)


@click.command()
@ID
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@JSON
@with_api
def delete(api: ManagementApi, connector_id: str, yes: bool, as_json: bool) -> None:
    """Delete the stopped connector ID, and its checkpoints.

    \b
    Example:
      sinkworker connectors delete loans-sink --yes
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask on: give --yes to delete it.")
    if not yes:
        click.confirm(f"Delete the connector {connector_id} and its checkpoints?", abort=True, err=True)
    api.ask(f"delete {connector_id}", "DELETE", f"/{connector_id}")
    done(api, connector_id, f"Deleted {connector_id}.", as_json)


def _assigned(assignments: Sequence[str]) -> dict[str, str | None]:
    settings: dict[str, str | None] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{assignment!r} is not KEY=VALUE.", param_hint="--set")
        settings[key.strip()] = value
    return settings


def _print_effective(connector_id: str, given: Mapping[str, str], settings: SinkSettings, as_json: bool) -> None:
    from sinkworker.commands import effective, tables

    servers = default_servers()
    rows = effective.settings_rows(given, settings, servers)
    options = effective.producer_rows(connector_id, settings, servers)
    if as_json:
        print_json(
            {
                "connectorId": connector_id,
                "settings": {row.key: row.value for row in rows},
                "notes": {row.key: row.note for row in rows if row.note},
                "producer": {row.key: row.value for row in options},
            }
        )
    else:
        tables.show(tables.of_rows(rows, "setting"), tables.of_rows(options, "producer option"))


def _set_going(api: ManagementApi, verb: str, connector_id: str, position: int | None, timeout_s: float | None) -> None:
    """Start or reset it; with a time, wait until it runs."""
    from sinkworker.commands.tables import error_of
    from sinkworker.commands.waiting import until_running

    earlier = "" if timeout_s is None else error_of(api.connector(connector_id))
    api.ask(f"{verb} {connector_id}", "POST", f"/{connector_id}/{verb}{'' if position is None else f'/{position}'}")
    if timeout_s is not None:
        until_running(api, connector_id, timeout_s, say, earlier)
