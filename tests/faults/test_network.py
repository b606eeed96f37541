"""A network that loses, delays or cuts, between each role and each server alone: nothing lost, order kept (P1, P2).

Every role reaches Redis and KurrentDB through proxies of its own; Apache Kafka advertises the address of one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sinkworker.connectors.lifecycle import State
from tests.apache_kafka import running
from tests.faults.midflow import GOES_ON_WITHIN_S, arrives, lasts, repeats, watched
from tests.integration.kurrentdb.standin import StandIn
from tests.processes import eventually
from tests.proxy import Proxy
from tests.redis_server import RedisServer
from tests.system import IN_FLIGHT, QUICK, UNHURRIED_S, Flow, System

ROLES = ("scheduler", "coordinator", "worker-0", "worker-1")
SERVERS = ("redis", "database")
FAULT_S = 8.0
"""Longer than a claim, a delivery and a call to Redis last in these tests."""
CATCHES_UP_WITHIN_S = 60.0
"""With what a minute brings. Standing still is over before, when the first of it moves; how long the rest takes is the
machine's affair.
"""

SHORT_STALL_S = float(QUICK["SINKWORKER_DELIVERY_TIMEOUT_S"]) - 2
REDIS_CUT, DATABASE_CUT, KAFKA_CUT = 20_000, 100_000, 2_000
"""Bytes from the server: some calls, some events, some confirmations."""

pytestmark = pytest.mark.long


@dataclass
class Network:
    redis: dict[str, Proxy]
    database: dict[str, Proxy]
    kafka: Proxy

    def between(self, role: str, server: str) -> Proxy:
        found: Proxy = getattr(self, server)[role]
        return found

    @property
    def all(self) -> list[Proxy]:
        return [*self.redis.values(), *self.database.values(), self.kafka]


@dataclass
class World:
    system: System
    network: Network


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("network")
        (files := folder / "redis").mkdir()
        redis = RedisServer(files, **{"maxmemory-policy": "noeviction", "appendonly": "no"})
        stack.callback(redis.kill)
        database = StandIn(folder / "events.db").start()
        stack.callback(database.kill)
        kafkas: list[Proxy] = []

        def through(address: str) -> str:
            kafkas.append(Proxy(address))
            stack.callback(kafkas[-1].close)
            return kafkas[-1].address

        (data := folder / "kafka").mkdir()
        kafka = stack.enter_context(running(data, through))
        network = Network(
            {role: Proxy(redis.url) for role in ROLES},
            {role: Proxy(database.uri) for role in ROLES},
            next(each for each in kafkas if each.address == kafka.servers),
        )
        for proxy in (*network.redis.values(), *network.database.values()):
            stack.callback(proxy.close)
        of_roles = {
            role: {"REDIS_URL": network.redis[role].address, "KURRENTDB_URI": network.database[role].address}
            for role in ROLES
        }
        (home := folder / "system").mkdir()
        servers = {"REDIS_URL": redis.url, "KURRENTDB_URI": database.uri, "KAFKA_BOOTSTRAP_SERVERS": kafka.servers}
        system = stack.enter_context(System(home, of_roles, workers=2, **servers, SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S))
        # One coordinator alone revives lanes, so that only with another one can it be missed.
        second = system.another("coordinator", ["sinkworker", "coordinator"])
        stack.callback(second.destroy)
        second.start()
        eventually(second.ready, within_s=30)
        yield World(system, network)


@pytest.fixture
def flow(world: World) -> Iterator[Flow]:
    flow = world.system.flow()
    yield flow
    flow.stop()


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("role", ROLES[:3])
def test_a_server_that_one_role_alone_cannot_reach(world: World, flow: Flow, role: str, server: str) -> None:
    """Unreachable, and then silent. All but a scheduler's work goes on elsewhere, or without it."""
    proxy = world.network.between(role, server)
    with watched(flow) as arrivals:
        for fault in (proxy.unreachable, proxy.stalled):
            with fault():
                lasts(FAULT_S)
                if role != "scheduler":
                    arrives(flow, arrivals, GOES_ON_WITHIN_S)
            arrives(flow, arrivals, GOES_ON_WITHIN_S)
    assert repeats(arrivals) <= 2 * IN_FLIGHT  # P3
    assert all(each.alive for each in world.system.roles.values())


@pytest.mark.parametrize("fault", [Proxy.unreachable, Proxy.stalled])
def test_a_scheduler_that_alone_does_not_reach_the_database_is_replaced(
    world: World, flow: Flow, fault: Callable[[Proxy], contextlib.AbstractContextManager[None]]
) -> None:
    """By one that stands by, long before the fault is over."""
    eventually(lambda: flow.connector.state is State.RUNNING)
    second = world.system.another("scheduler", ["sinkworker", "scheduler"])
    second.start()
    try:
        eventually(lambda: second.said("standing by"), within_s=30)
        with watched(flow) as arrivals:
            before = flow.connector.epoch
            with fault(world.network.between("scheduler", "database")):
                lasts(1)
                arrives(flow, arrivals, GOES_ON_WITHIN_S)
                assert flow.connector.epoch > before
            arrives(flow, arrivals, GOES_ON_WITHIN_S)
        assert repeats(arrivals) <= IN_FLIGHT  # P3
    finally:
        assert second.stop() == 0


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_nobody_can_reach(world: World, flow: Flow, server: str) -> None:
    with watched(flow) as arrivals:
        for fault in (Proxy.unreachable, Proxy.stalled):
            with contextlib.ExitStack() as faults:
                for role in ROLES:
                    faults.enter_context(fault(world.network.between(role, server)))
                lasts(FAULT_S)
            arrives(flow, arrivals, GOES_ON_WITHIN_S)
    assert repeats(arrivals) <= 2 * IN_FLIGHT  # P3


def test_a_database_that_is_away_for_a_minute(world: World, flow: Flow) -> None:
    with watched(flow) as arrivals:
        with contextlib.ExitStack() as faults:
            for role in ROLES:
                faults.enter_context(world.network.database[role].unreachable())
            lasts(60)
            before = flow.position
        eventually(lambda: flow.position > before, within_s=GOES_ON_WITHIN_S)
        arrives(flow, arrivals, CATCHES_UP_WITHIN_S)
    assert repeats(arrivals) == 0  # no epoch ends for it


def cut_short(proxy: Proxy) -> contextlib.AbstractContextManager[None]:
    return proxy.cutting(KAFKA_CUT)


def far(proxy: Proxy) -> contextlib.AbstractContextManager[None]:
    return proxy.slow(0.2)


@pytest.mark.parametrize(
    ("fault", "seconds", "most"),
    [
        pytest.param(Proxy.stalled, SHORT_STALL_S, 0, id="a short stall"),
        pytest.param(Proxy.stalled, FAULT_S, IN_FLIGHT, id="a long stall"),
        pytest.param(Proxy.unreachable, FAULT_S, IN_FLIGHT, id="unreachable"),
        pytest.param(cut_short, FAULT_S, 0, id="cut in mid-answer"),
        pytest.param(far, FAULT_S, 0, id="far away"),
    ],
)
def test_a_kafka_behind_a_bad_network(
    world: World,
    flow: Flow,
    fault: Callable[[Proxy], contextlib.AbstractContextManager[None]],
    seconds: float,
    most: int,
) -> None:
    """What the idempotent producer repeats by itself is no duplicate; only an activation that gave up repeats (P3)."""
    with watched(flow) as arrivals, fault(world.network.kafka):
        lasts(seconds)
    assert repeats(arrivals) <= most


def test_connections_that_lead_nowhere_any_more_are_given_up(world: World, tmp_path: Path) -> None:
    """The client library would wait for an answer as long as a worker does, and brokers that know nothing of it are
    there all the time (X2).
    """
    servers, patience_s = world.system.servers, 60
    with System(tmp_path, KAFKA_BOOTSTRAP_SERVERS=servers, SINKWORKER_DELIVERY_TIMEOUT_S=str(patience_s)) as system:
        flow = system.flow(**{"delivery:guarantee": "exactlyOnce"})
        flow.append(500)
        assert flow.delivered().holds
        kafka = world.network.kafka
        used = [
            each.laddr.port
            for worker in system.workers
            for child in worker.children()
            for each in psutil.Process(child).net_connections()
            if each.raddr and each.raddr.port == kafka.port
        ]
        assert used
        kafka.lose(used)
        flow.append(500)
        verdict = flow.delivered(within_s=patience_s / 2)
        assert verdict.holds, verdict
        assert verdict.duplicates == 0


@pytest.mark.parametrize(("server", "after_bytes"), [("redis", REDIS_CUT), ("database", DATABASE_CUT)])
def test_connections_that_are_cut_in_the_middle_of_an_answer(
    world: World, flow: Flow, server: str, after_bytes: int
) -> None:
    """So that what was done and what was told of it differ (R10)."""
    with watched(flow) as arrivals:
        with contextlib.ExitStack() as faults:
            for role in ROLES:
                faults.enter_context(world.network.between(role, server).cutting(after_bytes))
            lasts(FAULT_S)
        arrives(flow, arrivals, GOES_ON_WITHIN_S)
    assert repeats(arrivals) <= IN_FLIGHT * FAULT_S  # each takeover may repeat what was in flight, at most one a second


def test_servers_that_are_far_away(world: World, flow: Flow) -> None:
    with watched(flow) as arrivals, contextlib.ExitStack() as faults:
        for proxy in world.network.all:
            faults.enter_context(proxy.slow(0.05))
        lasts(FAULT_S)
    assert repeats(arrivals) == 0
