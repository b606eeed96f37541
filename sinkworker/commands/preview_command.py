"""The command `preview`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sinkworker import config
from sinkworker.commands.options import FILE, JSON, with_api
from sinkworker.commands.talk import body_of, print_json, say, sound, warn

if TYPE_CHECKING:
    from sinkworker.commands.api import ManagementApi


@click.command()
@FILE
@click.option("--id", "connector_id", metavar="ID", help="The settings of this connector, instead of a body.")
@click.option("-n", "count", type=click.IntRange(1), default=10, show_default=True, help="How many messages at most.")
@click.option(
    "--from",
    "origin",
    default="earliest",
    show_default=True,
    metavar="earliest|latest|POSITION",
    help="Where to begin; with latest it waits for what is appended.",
)
@click.option(
    "--partitions", type=click.IntRange(1, 100_000), help="How many the topic has: show each message's partition."
)
@JSON
@with_api
def preview(
    api: ManagementApi,
    source: str | None,
    connector_id: str | None,
    count: int,
    origin: str,
    partitions: int | None,
    as_json: bool,
) -> None:
    """Print the first Kafka messages that a body would produce from live data, and produce nothing.

    Reads KURRENTDB_URI through the body's filter, and makes messages as the workers do: key, headers and value are
    exactly theirs, but for esdb-request-id and esdb-request-date, which are new each time. Neither Kafka nor Redis is
    asked, nothing is written. A record that would stop the connector ends the preview with the reason; one that would
    be a dead letter is shown as that.

    \b
    Examples:
      sinkworker connectors preview loans.json -n 3
      sinkworker connectors preview --id loans-sink --from latest
      sinkworker connectors preview loans.json --json | jq -r .key
    """
    from sinkworker.commands import preview as previewing
    from sinkworker.connectors.settings import parse
    from sinkworker.database import Database
    from sinkworker.local import addresses
    from sinkworker.source.readers import Reader, usable

    if source is not None and connector_id is not None:
        raise click.UsageError("Give a FILE or --id, not both.")
    try:
        start = previewing.start_of(origin)
    except ValueError as exc:
        raise click.BadParameter(f"{exc}.", param_hint="--from") from None
    if connector_id is not None:
        settings = parse(api.settings(connector_id))
    else:
        body = body_of(source)
        settings = sound(body)
        warn(body)
    subject = previewing.Subject(connector_id or "preview", settings, partitions)
    process = addresses.resolve_now(config.load(config.environment()), ["kurrentdb_uri"])
    assert process.kurrentdb_uri is not None
    database = Database(process.kurrentdb_uri)
    shown = 0
    messages = previewing.messages(database, usable(Reader(process.reader)), subject, start)
    try:
        for message in messages:
            shown += 1
            if as_json:
                print_json(previewing.as_object(message, subject), indent=False)
            else:
                click.echo(previewing.as_block(message, subject, shown))
            if shown == count:
                return
    finally:
        messages.close()
        database.close()
    say(f"That is all: {shown} message{'s' * (shown != 1)} up to the end of the log.")
