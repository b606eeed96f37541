"""The group `sinkworker connectors`. Its commands import what they need when they run."""

from __future__ import annotations

import click

from sinkworker.commands import api_commands, import_command, preview_command, validate_command


@click.group(name="connectors")
def connectors() -> None:
    """Manage connectors: all that the HTTP API does, and what needs no server.

    The API is that of `sinkworker api` on this machine, unless SINKWORKER_API_URL or --api names another; a user and
    password stand in its URL. Tables are for people, --json is for scripts. Exit codes: 0 fine, 2 the API refuses what
    was asked for, 3 it does not answer, fails, or does not let you in.

    \b
    A first connector:
      sinkworker connectors validate loans.json            every fault of a body, without a server
      sinkworker connectors preview loans.json -n 3        the messages it would produce, sent nowhere
      sinkworker connectors create loans-sink loans.json --start
      sinkworker connectors list

    \b
    A body is what the original's documentation has, in a file or on standard input:
      {"settings": {"instanceTypeName": "kafka-sink", "topic": "loans"}}
    """


for each in (
    api_commands.list_,
    api_commands.show,
    api_commands.create,
    api_commands.reconfigure,
    api_commands.start,
    api_commands.stop,
    api_commands.reset,
    api_commands.rename,
    api_commands.delete,
    validate_command.validate,
    preview_command.preview,
    import_command.import_,
):
    connectors.add_command(each)
