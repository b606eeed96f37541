"""Apache Kafka stopped and killed in mid-flow, and restarted with its data: nothing lost, order kept (P1, P2)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public names, but the package has no __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from sinkworker.connectors.lifecycle import State
from tests.apache_kafka import USER, ApacheKafka, running
from tests.faults.conftest import RECORDS
from tests.faults.midflow import outcome
from tests.faults.test_operator import Logs
from tests.oracle import consume
from tests.processes import eventually
from tests.routed import Routed
from tests.system import OWN_KEYS, Flow, System


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    with running(tmp_path_factory.mktemp("apache-kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, kafka: ApacheKafka) -> Iterator[System]:
    with System(
        tmp_path_factory.mktemp("system"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.servers,
        SINKWORKER_DATA_PROTECTION_TOKEN="a token of the tests",
    ) as running:
        yield running


@pytest.mark.long  # in the plain suite tests/chaos kills Apache Kafka
def test_a_broker_that_is_killed_and_comes_back_loses_nothing(kafka: ApacheKafka, system: System) -> None:
    """Over TLS and with a password (A54): what a broker says that is going or coming is no refusal of either."""
    flow = system.flow(**kafka.access("saslSsl", "scramSha512"))
    flow.appending = flow.append_in_background(RECORDS)
    eventually(lambda: flow.position > 0)
    kafka.kill()
    kafka.start()
    outcome(flow)
    flow.stop()


@pytest.mark.long
def test_a_broker_that_is_restarted_in_order_loses_nothing(kafka: ApacheKafka, flow: Flow) -> None:
    kafka.stop()
    kafka.start()
    outcome(flow)


@pytest.mark.long
def test_topics_of_one_template_and_of_different_limits_get_all_without_a_refusal(system: System) -> None:
    """The largest requests to one topic would be more than another takes (R7)."""
    flow = Routed(system)
    flow.create_topic("Placed", 4)
    flow.create_topic("Paid", 1, **{"max.message.bytes": "2000"})
    flow.create_topic("Shipped", 3, **{"max.message.bytes": "5000000"})
    flow.create(**{"compression:type": "none"})
    flow.append_kinds(600)
    logs = Logs(system.roles)
    flow.start()
    flow.await_checkpoint()
    assert flow.duplicates() == 0
    assert not any(logs.said("refuses record", name) for name in system.roles)


@pytest.mark.long
def test_a_broker_that_lost_what_it_confirmed_ends_its_producer_and_delivery_goes_on(
    kafka: ApacheKafka, system: System
) -> None:
    """Its data folder is an older copy: the producer's sequence has a gap, which is fatal to it (a new one takes over).

    What the broker lost is lost; all that is appended from then on arrives.
    """
    flow = system.flow()
    flow.append(500)
    assert flow.delivered().holds
    with kafka.restored():
        flow.append(500)
        assert flow.delivered().holds
    logs = Logs(system.roles)
    at = len(flow.log())
    flow.append(500)
    verdict = flow.delivered(since=at)
    assert verdict.holds, verdict
    assert any(logs.said("(OUT_OF_ORDER_SEQUENCE_NUMBER)", worker.name) for worker in system.workers)
    eventually(lambda: flow.connector.error is None)
    flow.stop()


@pytest.mark.long
@pytest.mark.parametrize(
    ("guarantee", "visible", "code"),
    [
        pytest.param("atLeastOnce", True, "TOPIC_AUTHORIZATION_FAILED", id="seen"),
        pytest.param("atLeastOnce", False, "topic-authorization", id="hidden"),
        pytest.param("exactlyOnce", True, "TOPIC_AUTHORIZATION_FAILED", id="seen, in transactions"),
    ],
)
def test_a_topic_that_the_user_may_no_longer_write_to_stops_the_connector_and_it_goes_on_there(
    kafka: ApacheKafka, system: System, guarantee: str, visible: bool, code: str
) -> None:
    flow = system.flow(**kafka.access("saslSsl", "scramSha512"), **{"delivery:guarantee": guarantee})
    with flow.load():
        forbid(system, flow.topic, visible=visible)
        eventually(lambda: flow.connector.state is State.STOPPED, within_s=40)
    error = flow.connector.error
    assert error is not None
    assert error.code == code
    assert ("refuses record" if visible else flow.topic) in error.message
    permit(system, flow.topic)
    flow.start()
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert verdict.duplicates == 0
    flow.stop()


def forbid(system: System, topic: str, *, visible: bool) -> None:
    """Writing; with any rule about a topic, what no rule allows is forbidden as well."""
    rules = [rule(topic, AclOperation.WRITE, AclPermissionType.DENY)]
    if visible:
        allowed = (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS, AclOperation.READ)
        rules += [rule(topic, operation, AclPermissionType.ALLOW) for operation in allowed]
    for made in system.admin.create_acls(rules).values():
        made.result(10)


def rule(topic: str, operation: AclOperation, permission: AclPermissionType) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{USER}", "*", operation, permission
    )


def permit(system: System, topic: str) -> None:
    every = AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        None,  # type: ignore[arg-type]  # any principal, says the documentation
        None,  # type: ignore[arg-type]  # any host
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    for removed in system.admin.delete_acls([every]).values():
        removed.result(10)


@pytest.mark.long
def test_a_key_goes_where_java_s_producer_puts_it(kafka: ApacheKafka, system: System) -> None:
    flow = Flow(system, system.topic(partitions=12))
    flow.create(partitioner="murmur2_random", **OWN_KEYS)
    flow.append_keyed(2000)
    flow.start()
    assert flow.delivered().missing == []
    theirs = system.topic(partitions=12)
    kafka.produce(theirs, [f"Loan-{number}" for number in range(1, 2001)])
    ours = {message.key: message.partition for message in consume(system.servers, flow.topic)}
    assert len(ours) == 2000
    assert ours == {message.key: message.partition for message in consume(system.servers, theirs)}
    flow.stop()


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
