"""The command `validate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sinkworker.commands.options import FILE, JSON
from sinkworker.commands.talk import body_of, print_json

if TYPE_CHECKING:
    from sinkworker.commands.validation import Findings

FAULTY = 2
"""Exit code: the input is wrong."""


@click.command()
@FILE
@JSON
def validate(source: str | None, as_json: bool) -> int:
    """Check the body in FILE or on standard input: every fault at once, without any server.

    Takes a body with `settings` or `configuration`, or a bare map of settings. Exits with 2 if it has a fault. What is
    no fault and probably not meant, such as a misspelled key, is a warning.

    \b
    Examples:
      sinkworker connectors validate loans.json
      for f in connectors/*.json; do sinkworker connectors validate "$f" || exit; done
    """
    from sinkworker.commands import effective, tables
    from sinkworker.commands.validation import examine

    body = body_of(source)
    findings = examine(body)
    rows = [] if findings.settings is None else effective.settings_rows(body.given, findings.settings, None)
    if as_json:
        valid, settings = findings.settings is not None, {row.key: row.value for row in rows}
        report = {"valid": valid, "violations": findings.violations, "warnings": findings.warnings}
        print_json({**report, **({"settings": settings} if valid else {})})
    elif findings.settings is None:
        _print_faults(findings)
    else:
        for warning in findings.warnings:
            click.echo(tables.visible(f"warning: {warning}"))
        tables.show(tables.of_rows(rows, "setting"))
        click.echo("No faults.")
    return FAULTY if findings.settings is None else 0


def _print_faults(findings: Findings) -> None:
    from sinkworker.commands.tables import visible
    from sinkworker.commands.violations import in_lines

    count = sum(len(texts) for texts in findings.violations.values())
    click.echo(visible(in_lines(f"{count} fault{'s' * (count != 1)}:", findings.violations)))
    for warning in findings.warnings:
        click.echo(visible(f"warning: {warning}"))
