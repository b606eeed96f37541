"""The two things that are measured of a contestant: how fast it catches up, and how late it delivers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sinkworker.bench.contestant import Contestant
from sinkworker.bench.cpu import Meter
from sinkworker.bench.events import Orders
from sinkworker.bench.figures import Latency
from sinkworker.bench.log import Log
from sinkworker.bench.observer import Observer
from sinkworker.bench.servers import Servers
from sinkworker.database import Database
from sinkworker.demo import topic as kafka
from sinkworker.demo.background import Background

PARTITIONS = 12


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What one run took."""

    seconds: float
    cpu_us: dict[str, float]
    servers_cpu_us: dict[str, float]


def catch_up(contestant: Contestant, servers: Servers, topic: str, log: Log, check: Callable[[], None]) -> CatchUp:
    """Let a contestant bring all events of the log to the topic, which does not exist yet.

    Raises what `check` raises, Unavailable when nothing comes any more, Misconfigured.
    """
    kafka.create(servers.kafka, topic, PARTITIONS)
    contestant.start()
    with Observer(servers.kafka, topic, PARTITIONS, check) as observer:
        contestant.warm_up(log.before_warm_up, observer.next)
        counts = log.per_partition(PARTITIONS)
        awaited = observer.last_of(counts)
        used, used_by_servers = Meter(contestant.pids()), Meter(servers.pids)
        contestant.begin(log.before_events)
        first, message = observer.next()
        last = observer.all_at(awaited) if servers.kafka_is_embedded else observer.all_of(counts, message)
        return CatchUp(last - first, used.read_us(), used_by_servers.read_us())


@dataclass(frozen=True, slots=True)
class Load:
    """Events that are appended one at a time, so many a second."""

    orders: Orders
    per_second: int
    seconds: float

    def append(self, database: Database, appended: dict[str, float]) -> None:
        """Append them all, noting when. An append that takes long delays the next ones, and none is left out."""
        began = time.monotonic()
        for number in range(round(self.per_second * self.seconds)):
            time.sleep(max(0.0, began + number / self.per_second - time.monotonic()))
            append = self.orders.next()
            appended[str(append.events[0].id)] = time.monotonic()
            database.append(append.stream, append.after, append.events)


def latency(
    contestant: Contestant, servers: Servers, topic: str, log: Log, load: Load, check: Callable[[], None]
) -> Latency:
    """Append events at a steady rate, and see each arrive in the topic, which does not exist yet.

    Each event's time begins just before the call that appends it: so it is never negative, and holds what the database
    takes to store the event, the same for all contestants. One process reads the clock on both sides.
    """
    kafka.create(servers.kafka, topic, PARTITIONS)
    contestant.start()
    with Observer(servers.kafka, topic, PARTITIONS, check) as observer:
        contestant.begin(log.warm_up())
        observer.next()
        appended: dict[str, float] = {}
        seen: dict[str, float] = {}
        appending = Background(lambda: load.append(log.database, appended), "appending")
        while not appending.done() or seen.keys() != appended.keys():
            at, message = observer.next()
            seen.setdefault(kafka.consumed(message).record_id, at)
        appending.result()
    return Latency([(at - appended[record_id]) * 1000 for record_id, at in seen.items()])
