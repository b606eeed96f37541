"""What `/metrics` shows: counts and gauges of every process, and how far connectors are behind the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sinkworker.connectors.lifecycle import Connector, State
from sinkworker.connectors.registry import Registry
from sinkworker.metrics import exposition
from sinkworker.metrics.exposition import Measured
from sinkworker.metrics.series import ACTIVE, BATCHES, DEPTH, LAG, LAG_RECORDS, LAG_S, QUEUE, Series
from sinkworker.metrics.tally import Counts, Gauges

Recorded = Callable[[str], tuple[Counts, Gauges]]


def scrape(registry: Registry, head: Callable[[], int], recorded: Recorded) -> str:
    """Prometheus text of every connector that is not deleted. Raises Unavailable."""
    end = head()
    connectors = [each for each in registry.all() if not each.deleted]
    return exposition.text(_measured(registry, each, end, *recorded(each.id)) for each in connectors)


def _measured(registry: Registry, connector: Connector, end: int, counts: Counts, gauges: Gauges) -> Measured:
    runs = connector.state is State.RUNNING
    shown: dict[tuple[Series, str], float] = {(ACTIVE, ""): int(runs)}
    delivered = gauges["position"] if gauges else registry.position(connector.id)
    if delivered is not None:
        # What the filter keeps back moves the log's end, and a filter by stream does not even tell.
        shown[LAG, ""] = 0 if runs and gauges and gauges["current"] else max(0, end - max(0, delivered))
    if gauges and runs:
        shown |= _in_flight(gauges)
    return Measured(connector.id, counts, shown)


def _in_flight(gauges: Gauges) -> dict[tuple[Series, str], float]:
    """As the connector's scheduler has shown it within the last seconds."""
    oldest: Any = gauges["oldest"]
    shown: dict[tuple[Series, str], float] = {
        (LAG_RECORDS, ""): gauges["records"],
        (LAG_S, ""): max(0.0, time.time() - oldest) if oldest else 0,
        (QUEUE, ""): gauges["queued"],
        (BATCHES, ""): gauges["batches"],
    }
    return shown | {(DEPTH, lane): depth for lane, depth in gauges["lanes"].items()}
