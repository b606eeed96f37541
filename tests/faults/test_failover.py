"""Three nodes of Apache Kafka under load: brokers die, leaders move, disks fill; P1, P2 and P4 hold."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from tests.apache_kafka.cluster import Cluster, running_cluster
from tests.faults.midflow import outcome
from tests.processes import eventually
from tests.system import UNHURRIED_S, Flow, System

pytestmark = pytest.mark.long

RECORDS = 6000
FULL_AT_BYTES = 2 << 20
"""Less than so many records take in one partition, and more than anything else that a node writes."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[System]:
    with System(
        tmp_path_factory.mktemp("system"), KAFKA_BOOTSTRAP_SERVERS=cluster.servers, SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S
    ) as running:
        yield running


def in_flow(flow: Flow, records: int = RECORDS) -> Flow:
    """The connector, started; records keep arriving, and some are delivered."""
    flow.appending = flow.append_in_background(records)
    eventually(lambda: flow.position > 0, within_s=40)  # these brokers make the topics of their own only now
    return flow


@pytest.fixture(autouse=True)
def beside(system: System) -> Iterator[None]:
    """A connector that delivers exactly once meets the same (P4)."""
    flow = in_flow(system.flow(**{"delivery:guarantee": "exactlyOnce"}))
    yield
    assert outcome(flow).duplicates == 0
    flow.stop()


def test_a_leader_that_is_killed_and_comes_back_loses_nothing(cluster: Cluster, system: System) -> None:
    flow = in_flow(system.flow())
    node = cluster.leader(flow.topic)
    node.kill()
    eventually(lambda: node.number not in cluster.leaders(flow.topic), within_s=30)
    node.start()
    cluster.await_in_sync(flow.topic)
    outcome(flow)
    flow.stop()


def test_a_rolling_restart_of_all_brokers_loses_nothing(cluster: Cluster, system: System) -> None:
    flow = in_flow(system.flow())
    for node in cluster.nodes:
        node.stop()
        node.start()
        cluster.await_in_sync(flow.topic)
    outcome(flow)
    flow.stop()


def test_leaders_that_move_while_records_are_sent_lose_nothing_and_repeat_nothing(
    cluster: Cluster, system: System
) -> None:
    flow = system.flow()
    with flow.load():
        node = cluster.leader(flow.topic)
        node.stop()  # in order: its leaders move first
        node.start()
        cluster.await_in_sync(flow.topic)
        moved = cluster.leaders(flow.topic)
        cluster.restore_leaders(flow.topic)
        eventually(lambda: cluster.leaders(flow.topic) != moved)
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert verdict.duplicates == 0
    eventually(lambda: flow.connector.error is None)
    flow.stop()


def test_partitions_with_too_few_replicas_in_sync_hold_records_up_and_lose_none(
    cluster: Cluster, system: System
) -> None:
    """`NOT_ENOUGH_REPLICAS`, with a majority of controllers that says so."""
    flow = Flow(system, system.topic(config={"min.insync.replicas": "3"}))
    flow.create()
    flow.start()
    in_flow(flow)
    node = cluster.nodes[0]
    node.kill()
    error = eventually(lambda: flow.connector.error, within_s=30)
    reached = flow.position
    node.start()
    outcome(flow)
    assert error is not None
    assert error.code in ("kafka-unavailable", "NOT_ENOUGH_REPLICAS")
    assert flow.position > reached
    flow.stop()


def test_two_brokers_of_three_away_hold_records_up_and_lose_none(cluster: Cluster, system: System) -> None:
    flow = in_flow(system.flow())
    away = cluster.nodes[:2]
    for node in away:
        node.kill()
    error = eventually(lambda: flow.connector.error, within_s=30)
    cluster.launch(away)
    outcome(flow)
    assert error is not None
    assert error.code == "kafka-unavailable"
    flow.stop()


def test_a_broker_whose_disk_is_full_costs_no_record(cluster: Cluster, system: System) -> None:
    """Its files may not grow, which to it is what a full disk is: a write fails, and it ends."""
    flow = Flow(system, system.topic(partitions=1))
    flow.create(**{"compression:type": "none"})
    flow.start()
    in_flow(flow)
    node = cluster.leader(flow.topic)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (FULL_AT_BYTES, FULL_AT_BYTES))
    eventually(lambda: not node.alive, within_s=30)
    node.start()
    cluster.await_in_sync(flow.topic)
    outcome(flow)
    flow.stop()
