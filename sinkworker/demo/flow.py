"""What the demo does with the running system: a topic, a connector, events; then it waits, reads back and judges."""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections.abc import Callable

from sinkworker.config import Config
from sinkworker.demo import api as management
from sinkworker.demo.background import Background
from sinkworker.demo.database import LoanDatabase
from sinkworker.demo.figures import Figures, Outcome
from sinkworker.demo.judge import differs_anywhere, judge
from sinkworker.demo.loans import CATEGORY, LoanBook
from sinkworker.demo.patience import patiently
from sinkworker.demo.topic import Counter, consume, create
from sinkworker.errors import Misconfigured, Transient
from sinkworker.local import addresses
from sinkworker.process import Stopped

CONNECTOR = "loans-to-kafka"
TOPIC = "loans"
PARTITIONS = 12
SETTINGS = {
    "instanceTypeName": "kafka-sink",
    "topic": TOPIC,
    "subscription:initialPosition": "earliest",
    "subscription:filter:scope": "stream",
    "subscription:filter:filterType": "prefix",
    "subscription:filter:expression": f"{CATEGORY}-",
    "partitionKeyExtraction:enabled": "true",
    "partitionKeyExtraction:source": "stream",
    "autocommit:interval": "500",
}
LOOK_EVERY_S = 0.2
WORKERS_PATIENCE_S = 30.0
STALLED_S = 90.0
"""So long without any progress, and the demo gives up: longer than every recovery takes."""


class Flow:
    """One run of it. Blocking: for a thread of its own."""

    def __init__(
        self, config: Config, keys: int, figures: Figures, api_address: str, ready: Callable[[], bool]
    ) -> None:
        """`config` may lack the addresses that the local stack gives; `ready` says whether every worker is up."""
        self._config = config
        self._keys = keys
        self._figures = figures
        self._api = management.Api(api_address)
        self._ready = ready
        self._positions: list[int] = []
        """Commit position of each append's last event, in order; beside it, how many events there were by then."""
        self._counts: list[int] = []

    def run(self, stop: threading.Event) -> Outcome:
        """Raises Stopped, Transient for a server that stays away, Misconfigured for a connector that gave up."""
        config = addresses.resolve(self._config, stop)
        assert config.kurrentdb_uri is not None
        assert config.kafka_bootstrap_servers is not None
        self._uri = config.kurrentdb_uri.reveal()
        self._database = LoanDatabase(self._uri)
        self._servers = config.kafka_bootstrap_servers
        self._prepare(stop)
        self._counter = Counter(self._servers, TOPIC, PARTITIONS)
        self._figures.phase = "appending loan requests, delivering them to Kafka"
        began = time.monotonic()
        appending = Background(lambda: self._append_all(stop), "appending")
        self._await_delivery(appending, stop)
        seconds = time.monotonic() - began
        self._figures.phase = "reading the topic back with an independent consumer"
        return self._judged(seconds, stop)

    def _prepare(self, stop: threading.Event) -> None:
        patiently(lambda: create(self._servers, TOPIC, PARTITIONS), stop)
        patiently(lambda: self._api.create(CONNECTOR, SETTINGS), stop)
        patiently(lambda: self._api.start(CONNECTOR), stop)
        deadline = time.monotonic() + WORKERS_PATIENCE_S
        while not self._ready() and time.monotonic() < deadline:
            if stop.wait(LOOK_EVERY_S):
                raise Stopped

    def _append_all(self, stop: threading.Event) -> None:
        # A connection of its own: a reader that waits for an answer must not hold up the appends.
        database = LoanDatabase(self._uri)
        for append in LoanBook(self._keys).appends(self._figures.total):
            position = patiently(lambda append=append: database.append(append), stop)  # type: ignore[misc]
            self._figures.appended += len(append.events)
            self._counts.append(self._figures.appended)
            self._positions.append(position)

    def _await_delivery(self, appending: Background[None], stop: threading.Event) -> None:
        """Return once everything is appended and the checkpoint has reached the last of it."""
        progress, moved = (0, -1, 0), time.monotonic()
        while not (appending.done() and self._reached()):
            if stop.wait(LOOK_EVERY_S):
                raise Stopped
            with contextlib.suppress(Transient):  # a server is being started again: the next look shows more
                self._look()
            now = (self._figures.appended, self._figures.checkpoint or 0, self._figures.delivered)
            if now != progress:
                progress, moved = now, time.monotonic()
            elif time.monotonic() - moved > STALLED_S:
                raise Misconfigured(f"Nothing has moved for {STALLED_S:g} seconds.", code="stalled")
        appending.result()

    def _look(self) -> None:
        figures = self._figures
        figures.delivered = self._counter.count()
        figures.checkpoint = self._database.checkpoint(CONNECTOR)
        behind = bisect.bisect_right(self._positions, -1 if figures.checkpoint is None else figures.checkpoint)
        figures.lag = figures.appended - (self._counts[behind - 1] if behind else 0)
        connector = self._api.connector(CONNECTOR)
        if "errorDetails" in connector and connector["state"] == management.STOPPED:
            raise Misconfigured(f"The connector stopped: {connector['errorDetails']['message']}")

    def _reached(self) -> bool:
        checkpoint = self._figures.checkpoint
        return bool(self._positions) and checkpoint is not None and checkpoint >= self._positions[-1]

    def _judged(self, seconds: float, stop: threading.Event) -> Outcome:
        log = patiently(self._database.log, stop)
        messages = patiently(lambda: consume(self._servers, TOPIC), stop)
        verdict = judge(log, messages, differs_anywhere(CONNECTOR))
        # An event that the database confirmed and no longer has would be lost as well, though not by the connector.
        verdict.missing += ["(no longer in the log)"] * (self._figures.appended - len(log))
        checkpoint = patiently(lambda: self._database.checkpoint(CONNECTOR), stop)
        reached = checkpoint is not None and bool(log) and checkpoint >= log[-1].commit_position
        return Outcome(self._figures.appended, verdict, reached, seconds)
