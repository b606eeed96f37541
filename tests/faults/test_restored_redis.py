"""Redis comes back with an older snapshot of itself: that costs duplicates, no record and no order (P1, P2, R1, R2)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinkworker.ledger.redis_ledger import KEYS
from tests.chaos.findings import repeats
from tests.chaos.witness import Arrivals
from tests.faults.midflow import arrives
from tests.processes import eventually
from tests.redis_server import RedisServer
from tests.system import DISPATCHED, IN_FLIGHT, PARTITIONS, Flow, System

GOES_ON_WITHIN_S = 20.0
LONG = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no", **{"maxmemory-policy": "noeviction"})
    yield running
    running.kill()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, server: RedisServer) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), workers=2, REDIS_URL=server.url) as running:
        yield running


@contextlib.contextmanager
def asleep(system: System) -> Iterator[None]:
    """Inside, no worker delivers."""
    children = [child for worker in system.workers for child in worker.children()]
    for child in children:
        os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGCONT)


class Restored:
    """A flow under load whose Redis is taken back, and what is seen of it."""

    def __init__(self, flow: Flow, server: RedisServer, arrivals: Arrivals) -> None:
        self._flow = flow
        self._server = server
        self._arrivals = arrivals
        self.losses: list[tuple[float, int]] = []

    def moves(self) -> None:
        """Far enough that what Redis held is behind: dispatched, delivered, and in a checkpoint."""
        arrives(self._flow, self._arrivals, GOES_ON_WITHIN_S)
        before = self._flow.position
        eventually(lambda: self._flow.position > before, within_s=GOES_ON_WITHIN_S)

    def fills(self) -> None:
        """While nobody delivers: batches are in every mailbox, which no snapshot of before has."""
        batches = f"sink:{{{self._flow.id}}}:batches"
        eventually(lambda: self._flow.system.redis.hlen(batches) >= 2 * PARTITIONS)

    def restore(self, snapshot: bytes) -> None:
        upto = self._flow.position
        self._server.kill()
        self.losses.append((time.monotonic(), upto))
        self._server.restore(snapshot)

    def ledger(self) -> dict[str, bytes]:
        """What the ledger holds, key by key."""
        redis = self._flow.system.redis
        keys = [f"sink:{{{self._flow.id}}}:{name}" for name in KEYS]
        return {key: value for key in keys if (value := redis.dump(key)) is not None}

    def rewind(self, ledger: dict[str, bytes]) -> None:
        """Put it back in one step, and no connection is lost: only the ledger itself can tell (R1)."""
        redis = self._flow.system.redis
        self.losses.append((time.monotonic(), self._flow.position))
        with redis.pipeline(transaction=True) as step:
            step.delete(*self.ledger())
            for key, value in ledger.items():
                step.restore(key, 0, value)
            step.execute()


@pytest.fixture
def restored(tmp_path: Path, system: System, server: RedisServer) -> Iterator[Restored]:
    flow = system.flow()
    arrivals = Arrivals(system.servers, flow.topic, PARTITIONS)
    arrivals.start()
    restored = Restored(flow, server, arrivals)
    with flow.load():
        yield restored
        restored.moves()
    verdict = flow.delivered()
    assert verdict.holds, verdict
    arrivals.stop(len(arrivals.seen))
    _, others = repeats(arrivals.seen, restored.losses)
    assert len(others) <= (IN_FLIGHT + DISPATCHED) * len(restored.losses)  # P3
    eventually(lambda: flow.connector.error is None)
    flow.stop()


@pytest.mark.parametrize("times", [1, pytest.param(4, marks=LONG)])
def test_a_ledger_that_goes_back_under_everybody_s_eyes(restored: Restored, system: System, times: int) -> None:
    """Again and again to the same place: from the second time on it is of a former epoch."""
    ledger = restored.ledger()
    for _ in range(times):
        restored.moves()
        with asleep(system):
            restored.fills()
            restored.rewind(ledger)


@pytest.mark.long
def test_a_snapshot_of_the_same_epoch(restored: Restored, system: System, server: RedisServer) -> None:
    snapshot = server.snapshot()
    for _ in range(4):
        restored.moves()
        with asleep(system):
            restored.fills()
            restored.restore(snapshot)


@pytest.mark.long
def test_a_snapshot_of_an_epoch_that_is_over(restored: Restored, system: System, server: RedisServer) -> None:
    """And nobody is there to notice it: the next scheduler meets a ledger of the past."""
    snapshot = server.snapshot()
    scheduler = system.roles["scheduler"]
    assert scheduler.stop() == 0
    scheduler.start()
    restored.moves()
    scheduler.kill()
    restored.restore(snapshot)
    scheduler.start()


@pytest.mark.long
def test_claims_of_a_snapshot_whose_workers_sleep_through_it(
    restored: Restored, system: System, server: RedisServer
) -> None:
    """They wake with claims that Redis believes in again, and then with ones that it has never heard of."""
    with asleep(system):
        snapshot = server.snapshot()
        restored.fills()
        restored.restore(snapshot)
    restored.moves()
    with asleep(system):
        restored.fills()
        restored.restore(snapshot)
