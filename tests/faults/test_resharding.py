"""Slots of a Redis Cluster move to another master while connectors run: who meets one half-way waits for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from sinkworker.config import Secret
from sinkworker.connectors.lifecycle import State
from sinkworker.errors import RedisUnavailable, Stale
from sinkworker.ledger import redis_client
from sinkworker.ledger.redis_client import Lease
from sinkworker.ledger.redis_ledger import RedisLedger
from sinkworker.metrics.recorder import Recorder, recorded
from sinkworker.metrics.series import PRODUCED
from sinkworker.model import Epoch
from tests.builders import batch, cursor, tenure
from tests.processes import eventually
from tests.redis_cluster import Move, Node, RedisCluster, system_over
from tests.system import System

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resharding")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[RedisCluster]:
    running = RedisCluster(folder / "nodes")
    yield running
    running.destroy()


@pytest.fixture(scope="module")
def system(folder: Path, cluster: RedisCluster) -> Iterator[System]:
    with system_over(folder, cluster) as running:
        yield running


def with_slots(cluster: RedisCluster, key: str) -> Node:
    return next(node for node in cluster.masters if not node.has(key))


def without_slots(cluster: RedisCluster, _key: str) -> Node:
    return cluster.join()


targets = pytest.mark.parametrize("target", [with_slots, without_slots])


@targets
def test_every_call_works_or_is_to_be_made_again(
    cluster: RedisCluster, target: Callable[[RedisCluster, str], Node]
) -> None:
    moved, still = f"moved-{target.__name__}", f"still-{target.__name__}"
    client = redis_client.connect(Secret(cluster.url))
    ledger, lease = RedisLedger(client, moved, 60_000), Lease(client, moved, 60.0)
    taken = ledger.takeover(tenure(), cursor(0), {})
    survey = ledger.dispatch(Epoch(1), taken.counter, cursor(1), [batch(0, 0, 1)])
    claim = ledger.claim(Epoch(1), survey.activations[0], "token").claim
    assert lease.acquire()
    move = Move(cluster, ledger.keys["state"], target(cluster, ledger.keys["state"]))

    def carry_some() -> None:
        move.carry([ledger.keys["state"], ledger.keys["lanes"]])

    def carry_the_rest() -> None:
        move.carry(move.keys())

    recorder = Recorder(client)
    recorder.start()
    for step in (move.begin, carry_some, carry_the_rest):
        step()
        for connector in (moved, still):
            recorder.tally.count(connector, PRODUCED, 1)
        for call in (
            ledger.reap,
            lambda: ledger.next(claim, 0, 1),
            lambda: ledger.complain(claim, "{}"),
            lambda: ledger.takeover(tenure(), cursor(0), {}),
            lease.keep,
            lambda: Lease(client, moved, 60.0).acquire(),
            lambda: recorded(client, moved),
        ):
            with contextlib.suppress(RedisUnavailable, Stale):
                call()
    move.end()
    recorder.close()
    assert [each.payload for each in ledger.next(claim, 0, 1)] == [batch(0, 0, 1).payload]
    assert not Lease(client, moved, 60.0).acquire()
    assert [recorded(client, each)[0][PRODUCED.name] for each in (moved, still)] == [3.0, 3.0]
    client.close()


@targets
def test_a_slot_that_moves_under_load_costs_no_record_and_no_order(
    system: System, cluster: RedisCluster, target: Callable[[RedisCluster, str], Node]
) -> None:
    flow, other = system.flow(), system.flow()
    key = f"sink:{{{flow.id}}}:state"
    taking = target(cluster, key)
    move, redirected = Move(cluster, key, taking), taking.redirected
    with flow.load(), other.load():
        move.begin()
        eventually(lambda: flow.connector.error is not None, within_s=30)
        assert "on its way" in str(flow.connector.error)
        before = other.position
        eventually(lambda: other.position > before)
        while left := move.keys():
            move.carry(left[:1])
        eventually(lambda: taking.redirected > redirected + 20, within_s=30)
        move.end()
        before = flow.position
        eventually(lambda: flow.position > before, within_s=30)
        eventually(lambda: flow.connector.error is None)
    for each in (flow, other):
        verdict = each.delivered()
        assert verdict.holds, verdict
        assert each.connector.state is State.RUNNING
        each.stop()
    for role in system.roles.values():
        assert role.alive
        assert not role.said("Traceback")


def test_a_slot_that_moves_at_once_costs_no_record_and_no_order(system: System, cluster: RedisCluster) -> None:
    flow = system.flow()
    key = f"sink:{{{flow.id}}}:state"
    with flow.load():
        for target in (with_slots(cluster, key), without_slots(cluster, key), cluster.master_of(key)):
            try:
                Move(cluster, key, target).at_once()
            except redis.ResponseError as exc:
                pytest.skip(f"this Redis moves no slots by itself: {exc}")
            eventually(lambda target=target: target.has(key), within_s=30)  # type: ignore[misc]
            before = flow.position
            eventually(lambda before=before: flow.position > before, within_s=30)  # type: ignore[misc]
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert flow.connector.state is State.RUNNING
    flow.stop()
