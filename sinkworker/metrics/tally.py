"""What one process has counted and seen since it last told Redis. Pure, for any number of threads."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sinkworker.metrics.series import Series

Counts = dict[str, float]
"""By field: a counter's name, with `|` and the value of its label where it has one; a histogram's name with `|sum` or
`|` and the index of a bucket. Buckets hold their own observations only, the last one those above every bound."""


Gauges = Mapping[str, Any]
"""How a connector stands, as JSON."""


class Tally:
    """Counts and gauges by connector."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gauges: dict[str, Gauges] = {}
        self._counts: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))

    def count(self, connector: str, series: Series, amount: float = 1, label: str = "") -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[connector][f"{series.name}|{label}" if series.label else series.name] += amount

    def observe(self, connector: str, series: Series, value: float, times: int = 1) -> None:
        """Add so many observations of one value to a histogram."""
        with self._lock:
            counts = self._counts[connector]
            counts[f"{series.name}|sum"] += value * times
            counts[f"{series.name}|{sum(bound < value for bound in series.buckets)}"] += times

    def observe_ages(self, connector: str, series: Series, since: Sequence[float], now: float) -> None:
        """Add the observation `now - each` to a histogram for each of `since`; costs by buckets, not by values."""
        since = sorted(since)
        with self._lock:
            counts = self._counts[connector]
            counts[f"{series.name}|sum"] += len(since) * now - sum(since)
            older = len(since)
            for index, bound in enumerate(series.buckets):
                beyond = bisect_left(since, now - bound)
                counts[f"{series.name}|{index}"] += older - beyond
                older = beyond
            counts[f"{series.name}|{len(series.buckets)}"] += older

    def show(self, connector: str, gauges: Gauges) -> None:
        """How the connector stands now: replaces what was shown before."""
        with self._lock:
            self._gauges[connector] = gauges

    def shown(self) -> dict[str, Gauges]:
        """What was shown since the last call."""
        with self._lock:
            gauges, self._gauges = self._gauges, {}
        return gauges

    def drain(self) -> dict[str, Counts]:
        """Everything counted since the last call."""
        with self._lock:
            counts, self._counts = self._counts, defaultdict(lambda: defaultdict(float))
        return {connector: dict(fields) for connector, fields in counts.items()}

    def restore(self, counts: Mapping[str, Counts]) -> None:
        """Take back what was drained and could not be told."""
        with self._lock:
            for connector, fields in counts.items():
                for field, amount in fields.items():
                    self._counts[connector][field] += amount
