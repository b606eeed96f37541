"""The results as a person reads them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sinkworker.bench.figures import PERCENTILES, YARDSTICKS, Results, Speed


def of_results(results: Results) -> RenderableType:
    """Speed and CPU of every contestant, latency of some, and how to read it."""
    parts: list[RenderableType] = [_speeds(results), *_faults(results)]
    if results.latency:
        parts.append(_latencies(results))
    return Group(*parts)


def _speeds(results: Results) -> Table:
    title = f"{results.events:,} events, medians of {results.rounds} round{'s' * (results.rounds != 1)}"
    table = Table(title=title, title_justify="left", caption=CAPTION, caption_justify="left")
    table.add_column("contestant")
    for heading in (
        "events/s",
        *(f"× {name}" for name in YARDSTICKS),
        "CPU µs/event",
        *(f"of {n}'s" for n in YARDSTICKS),
    ):
        table.add_column(heading, justify="right")
    table.add_column("of that")
    table.add_column("servers beside")
    ratios = results.ratios()
    for name, speed in results.medians.items():
        if speed is None:
            table.add_row(name, "no run counts")
            continue
        compared = [ratios[name].get(f"to_{yardstick}") for yardstick in YARDSTICKS]
        table.add_row(
            name,
            f"{speed.events_per_second:,.0f}",
            *("" if each is None else f"{each['events_per_second']:.2f}" for each in compared),
            f"{speed.cpu_us_per_event['total']:.1f}",
            *("" if each is None else f"{each['cpu_us_per_event']:.0%}" for each in compared),
            _parts(speed),
            ", ".join(f"{part} {used:.1f}" for part, used in speed.servers_cpu_us_per_event.items()),
        )
    return table


CAPTION = "CPU is user and system time of all of a contestant's processes, children included; servers are not in it."


def _parts(speed: Speed) -> str:
    parts = {name: used for name, used in speed.cpu_us_per_event.items() if name != "total"}
    return ", ".join(f"{name} {used:.1f}" for name, used in parts.items()) if len(parts) > 1 else ""


def _faults(results: Results) -> list[Text]:
    told = []
    for run in results.runs:
        verdict = run.verdict
        if not run.counts or verdict.duplicates or verdict.out_of_order:
            counted = "" if run.counts else ", and does not count"
            told.append(Text(f"Round {run.round}, {run.contestant}: {verdict}{counted}."))
    return told


def _latencies(results: Results) -> Table:
    table = Table(title="from append to visible in Kafka", title_justify="left")
    table.add_column("contestant")
    for percent in PERCENTILES:
        table.add_column(f"p{percent} ms", justify="right")
    for name, latency in results.latency.items():
        table.add_row(name, *(f"{latency.percentile(percent):.1f}" for percent in PERCENTILES))
    return table
