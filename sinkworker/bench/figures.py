"""Pure: what runs come to, in numbers and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import orjson

from sinkworker.demo.judge import Verdict

NAIVE, TUNED = "naive", "tuned"
YARDSTICKS = (NAIVE, TUNED)
"""The contestants that the others are compared with."""
PERCENTILES = (50, 95, 99)
SHORTEST_S = 0.001


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant's way through all events, once."""

    contestant: str
    round: int
    events: int
    seconds: float
    """From the first to the last event that could be seen in Kafka."""
    cpu_us: Mapping[str, float]
    """CPU time by what the contestant's processes are for."""
    servers_cpu_us: Mapping[str, float]
    verdict: Verdict

    @property
    def counts(self) -> bool:
        """Whether every event was there, as it was written. Duplicates do not matter to that."""
        return not (self.verdict.missing or self.verdict.altered)

    @property
    def speed(self) -> Speed:
        each = 1 / self.events
        return Speed(
            self.events / max(self.seconds, SHORTEST_S),
            {
                "total": sum(self.cpu_us.values()) * each,
                **{name: used * each for name, used in self.cpu_us.items()},
            },
            {name: used * each for name, used in self.servers_cpu_us.items()},
        )

    def __str__(self) -> str:
        return f"{self.speed}, {self.verdict}"

    def as_dict(self) -> dict[str, object]:
        return {
            "contestant": self.contestant,
            "round": self.round,
            "counted": self.counts,
            "seconds": round(self.seconds, 3),
            **self.speed.as_dict(),
            "duplicates": self.verdict.duplicates,
            "missing": len(self.verdict.missing),
            "altered": len(self.verdict.altered),
            "unexpected": len(self.verdict.unexpected),
            "out_of_order": len(self.verdict.out_of_order),
        }


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast, and at which price."""

    events_per_second: float
    cpu_us_per_event: Mapping[str, float]
    """By what the contestant's processes are for, and `total`."""
    servers_cpu_us_per_event: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.events_per_second:,.0f} events/s, {self.cpu_us_per_event['total']:.1f} µs of CPU per event"

    def as_dict(self) -> dict[str, object]:
        return {
            "events_per_second": round(self.events_per_second),
            "cpu_us_per_event": _rounded(self.cpu_us_per_event),
            "servers_cpu_us_per_event": _rounded(self.servers_cpu_us_per_event),
        }


@dataclass(frozen=True, slots=True)
class Latency:
    """How long events took from the call that appended them until they could be seen in Kafka."""

    milliseconds: Sequence[float]

    def percentile(self, percent: int) -> float:
        """The smallest value that so many percent do not exceed (nearest rank)."""
        ordered = sorted(self.milliseconds)
        return ordered[math.ceil(percent / 100 * len(ordered)) - 1]

    def __str__(self) -> str:
        return ", ".join(f"p{percent} {self.percentile(percent):.1f} ms" for percent in PERCENTILES)

    def as_dict(self) -> dict[str, object]:
        percentiles = {f"p{percent}": round(self.percentile(percent), 2) for percent in PERCENTILES}
        return {**percentiles, "events": len(self.milliseconds)}


@dataclass(slots=True)
class Results:
    """All that a benchmark has measured."""

    events: int
    rounds: int
    runs: list[Run] = field(default_factory=list)
    latency: dict[str, Latency] = field(default_factory=dict)

    @property
    def medians(self) -> dict[str, Speed | None]:
        """By contestant, in the order of the first round, over the runs that count; None where none does."""
        names = dict.fromkeys(run.contestant for run in self.runs)
        return {
            name: _middle([run.speed for run in self.runs if run.contestant == name and run.counts]) for name in names
        }

    def ratios(self) -> dict[str, dict[str, dict[str, float]]]:
        """By contestant and yardstick: how many times its events a second, and its CPU for an event."""
        medians = {name: speed for name, speed in self.medians.items() if speed is not None}
        return {
            name: {
                f"to_{yardstick}": {
                    "events_per_second": speed.events_per_second / medians[yardstick].events_per_second,
                    "cpu_us_per_event": speed.cpu_us_per_event["total"] / medians[yardstick].cpu_us_per_event["total"],
                }
                for yardstick in YARDSTICKS
                if yardstick in medians
            }
            for name, speed in medians.items()
        }

    def as_json(self) -> str:
        """The one object of `--json`."""
        ratios = {
            name: {yardstick: _rounded(values, 3) for yardstick, values in found.items()}
            for name, found in self.ratios().items()
        }
        return orjson.dumps(
            {
                "events": self.events,
                "rounds": self.rounds,
                "runs": [run.as_dict() for run in self.runs],
                "medians": {name: speed and speed.as_dict() for name, speed in self.medians.items()},
                "ratios": ratios,
                "latency_ms": {name: latency.as_dict() for name, latency in self.latency.items()},
            },
            option=orjson.OPT_INDENT_2,
        ).decode()


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The same in the same order, begun so many places further on."""
    start = by % len(names)
    return [*names[start:], *names[:start]]


def _middle(speeds: Sequence[Speed]) -> Speed | None:
    """The median of each number by itself."""
    if not speeds:
        return None
    return Speed(
        median(speed.events_per_second for speed in speeds),
        _medians(speeds, lambda speed: speed.cpu_us_per_event),
        _medians(speeds, lambda speed: speed.servers_cpu_us_per_event),
    )


def _medians(speeds: Iterable[Speed], of: Callable[[Speed], Mapping[str, float]]) -> dict[str, float]:
    found = [of(speed) for speed in speeds]
    return {name: median(values[name] for values in found) for name in found[0]}


def _rounded(values: Mapping[str, float], digits: int = 2) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items()}
