"""Workers come and go while records flow: the lanes spread within seconds, and every promise holds."""

from __future__ import annotations

import ast
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.celery_events import heard
from tests.oracle import Verdict
from tests.processes import eventually
from tests.system import IN_FLIGHT, PARTITIONS, Flow, Role, System

WORKER = ["celery", "-A", "tasks", "worker"]
SPREADS_WITHIN_S = 5.0
ALL_LANES = set(range(PARTITIONS))


@dataclass(frozen=True)
class Activation:
    """What a worker said of an activation that delivered something."""

    worker: str
    at_s: float
    lanes: frozenset[int]
    records: int


class Activations:
    """Every activation of these workers, as Flower sees them: Celery's events."""

    def __init__(self, redis_url: str) -> None:
        self.all: list[Activation] = []
        self._redis_url = redis_url

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, what workers say is heard."""
        with heard(self._redis_url, task_succeeded=self._on_success):
            yield

    def _on_success(self, event: dict[str, Any]) -> None:
        done = ast.literal_eval(event["result"])
        if done["batches"]:
            lanes = frozenset(done["lanes"])
            self.all.append(Activation(event["hostname"].partition("@")[0], time.monotonic(), lanes, done["records"]))

    def lanes_since(self, began_s: float, *workers: Role) -> set[int]:
        """The lanes that these workers have delivered batches of since then."""
        names = {f"worker-{worker.pid}" for worker in workers}
        return {lane for each in self.all if each.at_s > began_s and each.worker in names for lane in each.lanes}


class Pool:
    """The workers of one system, which come and go."""

    def __init__(self, system: System, activations: Activations) -> None:
        self._system = system
        self._activations = activations
        self.workers = list(system.workers)
        self.spread_s: list[float] = []

    def add(self, count: int) -> None:
        """More workers. Once it takes tasks, each has delivered batches before long."""
        first = len(self.spread_s)
        added = [self._system.another(f"{first}-{number}", WORKER) for number in range(count)]
        for worker in added:
            self._system.roles[f"worker-{worker.name}"] = worker
            worker.start()
        self.workers += added
        for worker in added:
            eventually(worker.ready, within_s=30)
        began = time.monotonic()
        for worker in added:
            self._await(lambda worker=worker: self._activations.lanes_since(began, worker), began)  # type: ignore[misc]

    def remove(self, end: Callable[[Role], None]) -> None:
        """One worker less. The rest have all lanes before long."""
        leaves = self.workers.pop(0)
        end(leaves)
        began = time.monotonic()
        self._await(lambda: self._activations.lanes_since(began, *self.workers) >= ALL_LANES, began)

    def _await(self, condition: Callable[[], object], began: float) -> None:
        eventually(condition, within_s=15)
        self.spread_s.append(time.monotonic() - began)


def ends(worker: Role) -> None:
    assert worker.stop() == 0


@pytest.fixture
def flow(system: System) -> Iterator[Flow]:
    flow = Flow(system, system.topic())
    flow.create()
    yield flow
    flow.stop()


@pytest.mark.parametrize(("records", "rounds"), [(20_000, 1), pytest.param(50_000, 4, marks=pytest.mark.long)])
def test_the_lanes_spread_over_workers_that_come_and_go(system: System, flow: Flow, records: int, rounds: int) -> None:
    flow.append(records // 2, streams=100, per_append=100)
    flow.start()
    activations = Activations(system.addresses["REDIS_URL"])
    with activations.watched():
        pool = Pool(system, activations)
        with flow.load(records=50):
            eventually(lambda: activations.all)
            for _ in range(rounds):
                pool.add(2)
                pool.remove(ends)
                pool.remove(Role.kill)
            eventually(lambda: flow.appended >= records, within_s=60)
        verdict = flow.delivered()
    # That they spread at all is seen in each turn. How soon is worth judging only where nothing else runs.
    assert rounds == 1 or max(pool.spread_s) < SPREADS_WITHIN_S, pool.spread_s
    _judge(verdict, kills=rounds)


def _judge(verdict: Verdict, kills: int) -> None:
    assert verdict.holds, verdict
    assert verdict.duplicates <= kills * IN_FLIGHT  # P3
