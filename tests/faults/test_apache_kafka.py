"""Apache Kafka stopped and killed in mid-flow, and restarted with its data: nothing lost, order kept (P1, P2)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.apache_kafka import ApacheKafka, jars
from tests.faults.test_crashes import outcome
from tests.faults.test_operator import Logs
from tests.processes import eventually
from tests.system import Flow, System

RECORDS = 5000


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    folder = tmp_path_factory.mktemp("apache-kafka")
    broker = ApacheKafka(folder, jars(folder / "jars"))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, kafka: ApacheKafka) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), KAFKA_BOOTSTRAP_SERVERS=kafka.servers) as running:
        yield running


@pytest.fixture
def flow(system: System) -> Iterator[Flow]:
    """A connector in mid-flow: records keep arriving, and some are delivered."""
    flow = system.flow()
    flow.appending = flow.append_in_background(RECORDS)
    eventually(lambda: flow.position > 0)
    yield flow
    flow.stop()


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(kafka: ApacheKafka, flow: Flow) -> None:
    kafka.kill()
    kafka.start()
    outcome(flow)


def test_a_broker_that_is_restarted_in_order_loses_nothing(kafka: ApacheKafka, flow: Flow) -> None:
    kafka.stop()
    kafka.start()
    outcome(flow)


@pytest.mark.long
def test_a_broker_that_is_away_for_20_seconds_loses_nothing(kafka: ApacheKafka, system: System, flow: Flow) -> None:
    logs = Logs(system.roles)
    kafka.stop()
    back_at = time.monotonic() + 20
    error = eventually(lambda: flow.connector.error)
    eventually(lambda: time.monotonic() >= back_at, within_s=30)
    kafka.start()
    outcome(flow)
    assert error is not None
    assert error.code == "kafka-unavailable"
    for name in system.roles:
        assert len(logs.troubles(name)) <= 1, logs.troubles(name)
        assert not logs.said("Traceback", name)
