"""Tells Redis, once a second, what this process has counted; and reads it back, added up over all processes.

Counts are a hash beside each connector's ledger, so every worker on every machine is in one answer of the API.
They are no part of the ledger: a Redis that was emptied starts them anew, as a restarted process would.
"""

from __future__ import annotations

import threading
from typing import Any

import orjson
import redis

from sinkworker.errors import SinkworkerError
from sinkworker.ledger.redis_errors import translated
from sinkworker.metrics.tally import Counts, Gauges, Tally

EVERY_S = 1.0
GAUGES_LAST_S = 15
"""Nobody renews the gauges of a scheduler that has died: they go, instead of standing still."""

COUNTS_LAST_S = 30 * 24 * 3600
"""Counts without news, of a deleted connector for one, are forgotten after so long."""


def _counts_key(connector: str) -> str:
    return f"sink:{{{connector}}}:counts"


def _gauges_key(connector: str) -> str:
    return f"sink:{{{connector}}}:gauges"


class Recorder(threading.Thread):
    """Carries what `tally` holds to Redis until it is closed. What cannot be told is kept, and told later."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(name="metrics", daemon=True)
        self.tally = Tally()
        self._redis = client
        self._closed = threading.Event()
        self._away = False

    def run(self) -> None:
        while not self._closed.wait(EVERY_S):
            self._tell()

    def close(self) -> None:
        """Tell the rest, unless Redis is away, and end."""
        self._closed.set()
        self.join()
        if not self._away:
            self._tell()

    def _tell(self) -> None:
        counts, gauges = self.tally.drain(), self.tally.shown()
        if not counts and not gauges:
            return
        try:
            with translated(), self._redis.pipeline(transaction=False) as pipeline:
                for connector, fields in counts.items():
                    for field, amount in fields.items():
                        pipeline.hincrbyfloat(_counts_key(connector), field, amount)
                    pipeline.expire(_counts_key(connector), COUNTS_LAST_S)
                for connector, shown in gauges.items():
                    pipeline.set(_gauges_key(connector), orjson.dumps(shown), ex=GAUGES_LAST_S)
                pipeline.execute()
            self._away = False
        except SinkworkerError:
            self._away = True
            self.tally.restore(counts)


def recorded(client: redis.Redis, connector: str) -> tuple[Counts, Gauges]:
    """A connector's counts and gauges, over all processes; empty where nothing is known. Raises Unavailable."""
    with translated():
        counts: dict[Any, Any] = client.hgetall(_counts_key(connector))
        gauges = client.get(_gauges_key(connector))
    return {field.decode(): float(amount) for field, amount in counts.items()}, orjson.loads(gauges or b"{}")
