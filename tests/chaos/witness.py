"""What is seen of a run from outside: arrivals in Kafka, checkpoints in KurrentDB, memory of the processes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import orjson
import psutil
from confluent_kafka import Consumer, TopicPartition
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.exceptions import KurrentDBClientError

from sinkworker.connectors import streams
from sinkworker.demo.topic import consumed
from tests.processes import eventually
from tests.system import Flow

SAMPLE_S = 0.25
FETCHED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message, when it was seen here and when the topic says that it came."""

    at: float
    partition: int
    record_id: str
    position: int
    stamped_ms: int


@dataclass(frozen=True, slots=True)
class SeenCheckpoint:
    revision: int
    generation: str
    position: int
    written_ms: float


class Arrivals(threading.Thread):
    """A consumer of its own, which notes every message of a topic as it comes in."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        super().__init__(name=f"arrivals-{topic}", daemon=True)
        self.seen: list[Arrival] = []
        self._done = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "witness",
                "enable.auto.commit": False,
                "reconnect.backoff.max.ms": 250,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])

    def run(self) -> None:
        while not self._done.is_set():
            fetched = self._consumer.consume(FETCHED_AT_ONCE, timeout=0.05)
            at = time.monotonic()
            for message in fetched:
                if message.error() is None:
                    found = consumed(message)
                    stamp = message.timestamp()[1]
                    self.seen.append(Arrival(at, found.partition, found.record_id, found.position, stamp))
        self._consumer.close()

    def stop(self, count: int) -> None:
        """End when so many messages have been seen."""
        eventually(lambda: len(self.seen) >= count, within_s=30)
        self._done.set()
        self.join()


class Sampler(threading.Thread):
    """Looks again and again at the checkpoint streams, which keep their last few events, and at memory."""

    def __init__(self, uri: str, flows: Iterable[Flow], processes: Callable[[], dict[str, int]]) -> None:
        """`processes` answers the pids to look at by name."""
        super().__init__(name="sampler", daemon=True)
        self.checkpoints: dict[str, dict[int, SeenCheckpoint]] = {flow.id: {} for flow in flows}
        self.peak_bytes: dict[str, int] = {}
        self._client = KurrentDBClient(uri)
        self._processes = processes
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            for connector_id in self.checkpoints:
                with contextlib.suppress(KurrentDBClientError):  # the database is away, or has no checkpoint yet
                    self._look(connector_id)
            for name, pid in self._processes().items():
                with contextlib.suppress(psutil.Error):
                    self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), psutil.Process(pid).memory_info().rss)
        self._client.close()

    def _look(self, connector_id: str) -> None:
        for event in self._client.get_stream(streams.checkpoints(connector_id), timeout=5):
            assert event.recorded_at is not None
            self.checkpoints[connector_id][event.stream_position] = SeenCheckpoint(
                event.stream_position,
                orjson.loads(event.metadata)["sinkworker"]["generation"],
                int(orjson.loads(event.data)["logPosition"]),
                event.recorded_at.timestamp() * 1000,
            )

    def stop(self) -> None:
        self._done.set()
        self.join()
