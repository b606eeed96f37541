"""Samples as Prometheus text, format 0.0.4. Pure.

Written here because client libraries append `_total` to counters, and the documented names have none (contract §10).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sinkworker.metrics.series import DOCUMENTED, OURS, Kind, Series
from sinkworker.metrics.tally import Counts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Measured:
    """One connector as a scrape shows it."""

    connector: str
    counts: Counts
    gauges: Mapping[tuple[Series, str], float] = field(default_factory=dict)
    """By series and value of its label, which is empty where it has none."""


def text(connectors: Iterable[Measured]) -> str:
    """Every series with its samples. A connector that has counted anything has all its counts, at zero if need be."""
    shown = list(connectors)
    lines: list[str] = []
    for series in (*DOCUMENTED, *OURS):
        lines += (f"# HELP {series.name} {series.help}", f"# TYPE {series.name} {series.kind}")
        for each in shown:
            lines += _samples(series, each)
    return "\n".join(lines) + "\n"


def _samples(series: Series, measured: Measured) -> Iterator[str]:
    connector = measured.connector
    if series.kind is not Kind.GAUGE and not measured.counts:
        return
    if series.kind is Kind.GAUGE:
        for (of, label), value in measured.gauges.items():
            if of is series:
                yield _sample(series.name, connector, {series.label: label} if series.label else {}, value)
    elif series.kind is Kind.COUNTER and series.label:
        prefix = f"{series.name}|"
        for name, value in sorted(measured.counts.items()):
            if name.startswith(prefix):
                yield _sample(series.name, connector, {series.label: name.removeprefix(prefix)}, value)
    elif series.kind is Kind.COUNTER:
        yield _sample(series.name, connector, {}, measured.counts.get(series.name, 0))
    else:
        seen = 0.0
        for index, bound in enumerate((*series.buckets, float("inf"))):
            seen += measured.counts.get(f"{series.name}|{index}", 0)
            yield _sample(f"{series.name}_bucket", connector, {"le": _number(bound)}, seen)
        yield _sample(f"{series.name}_sum", connector, {}, measured.counts.get(f"{series.name}|sum", 0))
        yield _sample(f"{series.name}_count", connector, {}, seen)


def _sample(name: str, connector: str, labels: Mapping[str, str], value: float) -> str:
    every = {"connector_id": connector, "connector_type": "kafka", **labels}
    return f"{name}{{{','.join(f'{key}={_quoted(text)}' for key, text in every.items())}}} {_number(value)}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)
