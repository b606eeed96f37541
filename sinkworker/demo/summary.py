"""Pure: the words at the end of a demo."""

from __future__ import annotations

from pathlib import Path

from sinkworker.demo.figures import Outcome
from sinkworker.demo.processes import BrokerLost, Processes, RoleFailed
from sinkworker.errors import SinkworkerError

LOG_LINES = 8


def of_outcome(outcome: Outcome, workers: int) -> str:
    """What was promised, and whether it held."""
    verdict = outcome.verdict
    altered = len(verdict.altered) + len(verdict.unexpected)
    rows = [
        ("every event is there", not verdict.missing, f"{outcome.delivered:,} of {outcome.appended:,}"),
        ("in the order of the log", not verdict.out_of_order, f"{len(verdict.out_of_order):,} out of order"),
        ("bytes, key and headers are right", not altered, f"{altered:,} wrong"),
        ("checkpoint at the last event", outcome.checkpoint_reached, ""),
    ]
    told = [
        f"{outcome.appended:,} events went through {workers} worker{'s' * (workers != 1)} to Kafka"
        f" in {outcome.seconds:.1f} s: {outcome.events_per_second:,.0f} a second.",
        *(f"  {'yes' if held else 'NO ':<4} {what}{f' ({detail})' if detail else ''}" for what, held, detail in rows),
        f"  {verdict.duplicates:<4} duplicates{' (they may follow a kill)' if verdict.duplicates else ''}",
    ]
    return "\n".join(told)


def of_failure(error: SinkworkerError, processes: Processes, data_dir: Path) -> str:
    """Why the demo broke off, what the roles said last, and where to read on."""
    said: dict[str, list[str]] = {}
    if isinstance(error, RoleFailed):
        said = {error.program.name: error.program.last_lines(LOG_LINES)}
    elif not isinstance(error, BrokerLost):
        said = processes.complaints(LOG_LINES)
    told = [f"Error: {error}"]
    for name, lines in said.items():
        told += [f"The end of {name}.log:", *(f"  {line}" for line in lines)]
    return "\n".join([*told, where_the_logs_are(data_dir)])


def where_the_logs_are(data_dir: Path) -> str:
    """One line."""
    return f"All logs are in {data_dir}"
