"""What can never be delivered, or not now, on Apache Kafka (P5): the connector stops for it, and goes on there.

None of it stops a broker, so that any cluster serves (`SINKWORKER_TEST_KAFKA`), which has to let us create topics.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public names, but the package has no __all__
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from kurrentdbclient import NewEvent, StreamState

from sinkworker.connectors.lifecycle import Failure, State
from tests.apache_kafka import given, running_unless_given
from tests.oracle import consume, judge, passed_by
from tests.processes import eventually
from tests.system import PARTITIONS, Flow, System

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with (
        running_unless_given(tmp_path_factory.mktemp("apache-kafka")) as broker,
        System(
            tmp_path_factory.mktemp("system"), KAFKA_BOOTSTRAP_SERVERS=broker.servers if broker else given()
        ) as running,
    ):
        yield running


def test_a_record_that_is_too_large_stops_the_connector_and_once_it_may_be_it_goes_on_there(system: System) -> None:
    flow = Flow(system, system.topic(config={"max.message.bytes": "3000"}))
    flow.create(**{"compression:type": "none"})
    large = append_after(flow, 300, b"x" * 5000)
    flow.append(300)
    flow.start()
    error = stopped(flow)
    assert error.code == "MSG_SIZE_TOO_LARGE"
    assert large in error.message
    assert_nothing_passed(flow, large)

    allow_bytes(flow, 30_000)
    flow.start()
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert verdict.duplicates == 0  # P3: it goes on exactly there


def test_a_record_that_the_broker_refuses_stops_the_connector_or_goes_aside(system: System) -> None:
    """What the client library lets pass is the broker's to refuse, in the middle of a sequence (R7)."""
    flow = Flow(system, system.topic(partitions=2, config={"max.message.bytes": "3000"}))
    dead = system.topic(partitions=2, config={"max.message.bytes": "30000"})
    flow.create(**{"compression:type": "none"})
    larger = [b"x" * 5000, b"y" * 6000]
    large = [append_after(flow, 150, data) for data in larger]
    flow.append(150)
    flow.start()
    error = stopped(flow)
    assert error.code == "MSG_SIZE_TOO_LARGE"
    assert large[0] in error.message

    system.registry.reconfigure(flow.id, {"errors:policy": "deadLetter", "errors:deadLetterTopic": dead})
    flow.start()
    log = flow.log()
    eventually(lambda: flow.position >= log[-1].commit_position, within_s=40)
    verdict = judge([event for event in log if str(event.id) not in large], consume(system.servers, flow.topic))
    assert (verdict.missing, verdict.unexpected, verdict.out_of_order) == ([], [], [])
    letters = {each.record_id: each for each in consume(system.servers, dead)}
    assert {record_id: each.value for record_id, each in letters.items()} == dict(zip(large, larger, strict=True))
    assert {each.headers["sinkworker-error-code"] for each in letters.values()} == {b"MSG_SIZE_TOO_LARGE"}

    largest = append_after(flow, 10, b"z" * 50_000)
    error = stopped(flow)
    assert error.code == "dead-letter-refused"
    assert largest in error.message
    assert error.message.count("MSG_SIZE_TOO_LARGE") == 2


def test_a_transform_that_fails_stops_the_connector_and_once_corrected_it_goes_on_there(system: System) -> None:
    flow = Flow(system, system.topic())
    flow.create(**transform("if (record.value.number === 431) { null.x }"))
    flow.append(600)
    flow.start()
    error = stopped(flow)
    assert error.code == "transform-failed"
    poison = next(str(event.id) for event in flow.log() if json.loads(event.data)["number"] == 431)
    assert poison in error.message
    assert_nothing_passed(flow, poison)

    system.registry.reconfigure(flow.id, transform(""))
    flow.start()
    verdict = flow.delivered()
    assert (verdict.missing, verdict.out_of_order, verdict.duplicates) == ([], [], 0)


@pytest.mark.parametrize("guarantee", ["atLeastOnce", "exactlyOnce"])
def test_in_a_backlog_the_first_of_several_stops_the_connector_behind_everything_before_it(
    system: System, guarantee: str
) -> None:
    """Whichever a worker comes to first, and though what is before it waits in the mailboxes of other lanes."""
    flow = Flow(system, system.topic(partitions=12))
    flow.create(**transform("if (record.value.poison) { null.x }"), **{"delivery:guarantee": guarantee})
    poison = []
    for stream in ("1", "2", "1"):
        flow.append(3000, streams=40, per_append=50)
        event = NewEvent(type="Requested", data=b'{"poison": true}')
        system.client.append_to_stream(f"{flow.prefix}-{stream}", current_version=StreamState.ANY, events=[event])
        poison.append(str(event.id))
    flow.append(3000, streams=40, per_append=50)
    flow.start()
    assert poison[0] in stopped(flow).message
    assert_nothing_passed(flow, poison[0])

    system.registry.reconfigure(flow.id, transform(f"if (record.recordId === '{poison[1]}') {{ null.x }}"))
    flow.start()
    eventually(lambda: flow.connector.error is None)
    assert poison[1] in stopped(flow).message
    assert_nothing_passed(flow, poison[1])

    system.registry.reconfigure(flow.id, transform(""))
    flow.start()
    verdict = flow.delivered()
    assert (verdict.missing, verdict.out_of_order, verdict.duplicates) == ([], [], 0)


def test_a_topic_that_vanishes_stops_the_connector_and_once_it_is_back_it_goes_on_there(system: System) -> None:
    """What was in the topic is gone with it; what was not, is what comes."""
    flow = system.flow()
    flow.append(300)
    assert flow.delivered().holds
    gone = len(flow.log())
    delete(flow)
    flow.append(300)
    error = stopped(flow)
    assert error.code in ("topic-missing", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC")
    assert any(str(event.id) in error.message for event in flow.log()[gone:])

    create(flow)
    flow.start()
    verdict = flow.delivered(since=gone)
    assert verdict.holds, verdict
    assert verdict.duplicates == 0


def test_a_topic_that_is_recreated_under_a_running_connector_gets_what_comes_after(system: System) -> None:
    """It stops or goes on, by what the client library meets; nothing is acknowledged that is in neither topic (P1)."""
    flow = system.flow()
    with flow.load():
        delete(flow)
        create(flow)
        after = len(flow.log()) + 20  # an append may be on its way to the one while it is counted
        eventually(lambda: flow.appended > after + 1000 or flow.connector.error, within_s=30)
    with contextlib.suppress(AssertionError):
        flow.delivered(within_s=15)
    if flow.connector.state is State.STOPPED:
        flow.start()
    verdict = flow.delivered(since=after)
    assert verdict.holds, verdict


# -- what they share


def stopped(flow: Flow) -> Failure:
    """Why the connector stopped, once it has."""
    eventually(lambda: flow.connector.error is not None and flow.connector.state is State.STOPPED, within_s=40)
    assert flow.connector.error is not None
    return flow.connector.error


def append_after(flow: Flow, count: int, data: bytes) -> str:
    """Append so many of the usual records, and one of that data; its id."""
    flow.append(count)
    event = NewEvent(type="Scanned", data=data, content_type="application/octet-stream")
    flow.system.client.append_to_stream(f"{flow.prefix}-0", current_version=StreamState.ANY, events=[event])
    return str(event.id)


def transform(body: str) -> dict[str, str]:
    function = f"function transform(record) {{ {body} }}"
    return {"transformer:enabled": "true", "transformer:function": base64.b64encode(function.encode()).decode()}


def assert_nothing_passed(flow: Flow, poison: str) -> None:
    """Everything before the record is there, and nothing of its partition that comes after it."""
    log = flow.log()
    found = consume(flow.system.servers, flow.topic)
    assert passed_by(log, found, poison) == ([], [])
    at = next(index for index, event in enumerate(log) if str(event.id) == poison)
    partition = next(message.partition for message in found if message.key == log[at].stream_name.encode())
    later = {str(event.id) for event in log[at:]}
    assert [
        message.record_id for message in found if message.partition == partition and message.record_id in later
    ] == []


def allow_bytes(flow: Flow, count: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(count), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, flow.topic, incremental_configs=[entry])
    flow.system.admin.incremental_alter_configs([resource])[resource].result(10)


def delete(flow: Flow) -> None:
    flow.system.admin.delete_topics([flow.topic])[flow.topic].result(10)
    eventually(lambda: flow.topic not in flow.system.admin.list_topics(timeout=10).topics)


def create(flow: Flow) -> None:
    """The topic again, once the brokers let go of the one of that name, and until each partition has a leader."""
    eventually(lambda: create_once(flow))
    eventually(lambda: len(leaders(flow)) == PARTITIONS and min(leaders(flow)) >= 0)


def create_once(flow: Flow) -> bool:
    created = flow.system.admin.create_topics([NewTopic(flow.topic, PARTITIONS)])[flow.topic]
    try:
        created.result(10)
    except KafkaException:
        return False
    return True


def leaders(flow: Flow) -> list[int]:
    return [
        each.leader
        for each in flow.system.admin.list_topics(flow.topic, timeout=10).topics[flow.topic].partitions.values()
    ]
