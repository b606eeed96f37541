"""The command `import`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sinkworker.commands.options import JSON, url_of, with_api
from sinkworker.commands.talk import print_json, say
from sinkworker.config import Secret

if TYPE_CHECKING:
    from sinkworker.commands.api import ManagementApi
    from sinkworker.commands.importing import Imported

FAILED = 2
"""Exit code: some of them were not copied."""


@click.command(name="import")
@click.option(
    "--from",
    "source_url",
    required=True,
    metavar="URL",
    callback=url_of,
    help="The database's HTTP address: http(s)://USER:PASSWORD@HOST:2113.",
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this one. May be repeated.")
@click.option("--suffix", default="", metavar="TEXT", help="Append this to each id here.")
@click.option("--dry-run", is_flag=True, help="Create nothing; say what would become of each.")
@JSON
@with_api
def import_(
    api: ManagementApi, source_url: Secret, ids: Sequence[str], suffix: str, dry_run: bool, as_json: bool
) -> int:
    """Copy the Kafka sinks of a KurrentDB's own connectors, as stopped connectors here.

    Takes their settings and names, changes nothing there, and says for each how to switch over without a gap: stop it
    there, then start it here after its final position. What it had delivered after its last checkpoint is delivered
    again; nothing is lost. Passwords go from there to the API here, and nowhere else.

    A position is one of the log: this server must work on the database that it copies from, or on a copy of its log. On
    the very database the originals keep their ids, and the copies need others: give --suffix. Exits with 2 if any was
    not copied.

    \b
    Examples:
      sinkworker connectors import --from https://admin:changeit@db.example:2113 --ca ca.pem --suffix=-sw --dry-run
      sinkworker connectors import --from http://localhost:2113 --id loans-sink --suffix=-sw
    """
    from sinkworker.commands import importing
    from sinkworker.commands.api import ManagementApi

    ca = click.get_current_context().params["ca"]
    done: list[importing.Imported] = []
    with ManagementApi(source_url, "KurrentDB", "Check the URL of --from.", ca) as source:
        found, missing = importing.originals(source, ids)
        lacking = [importing.absent(each, suffix) for each in missing]
        for each in itertools.chain(lacking, importing.copied(found, api, source, suffix, dry_run=dry_run)):
            done.append(each)
            if not as_json:
                _tell(each)
    if as_json:
        print_json([each.as_object() for each in done])
    if not done:
        say(f"There are no Kafka sinks at {source.address}.")
    if any(each.in_same_database for each in done) and not suffix:
        say("Where this server works on the database that it copies from, copies need other ids: give --suffix.")
    return FAILED if any(each.outcome.failed for each in done) else 0


def _tell(imported: Imported) -> None:
    from sinkworker.commands.tables import visible

    click.echo(visible(f"{imported.original}: {imported.outcome}. {imported.message}"))
    for number, step in enumerate(imported.switch_over, 1):
        click.echo(visible(f"  {number}. {step}"))
