"""KurrentDB to Kafka through real processes: what arrives, in which order, and what a stop or a start does to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinkworker.connectors.lifecycle import State
from sinkworker.keys import partition_of
from tests.oracle import consume
from tests.processes import eventually
from tests.system import UNHURRIED_S, Flow, System


def test_every_record_arrives_once_and_in_order(system: System) -> None:
    flow = system.flow()
    flow.append(1000)
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert verdict.duplicates == 0


def test_records_appended_while_it_runs_follow_live(system: System) -> None:
    flow = system.flow()
    eventually(lambda: flow.connector.state is State.RUNNING)
    for _ in range(20):
        flow.append(1)
    verdict = flow.delivered()
    assert verdict.holds, verdict


def test_a_record_without_a_key_goes_to_the_partition_that_its_id_decides(system: System) -> None:
    flow = system.flow(**{"partitionKeyExtraction:enabled": "false"})
    flow.append(200)
    verdict = flow.delivered()
    assert verdict.holds, verdict
    messages = consume(system.servers, flow.topic)
    assert {message.key for message in messages} == {None}
    assert all(message.partition == partition_of(None, message.record_id, 6) for message in messages)


def test_a_stop_and_a_start_in_mid_flow_repeat_nothing_and_lose_nothing(system: System) -> None:
    flow = system.flow()
    appending = flow.append_in_background(4000)
    eventually(lambda: flow.position > 0)
    flow.stop()
    appending.join()
    flow.start()
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert verdict.duplicates == 0  # P3


def test_a_start_between_two_records_reads_up_to_it_and_drops_that(system: System) -> None:
    flow = Flow(system, system.topic())
    flow.create()
    flow.append(50)
    log = flow.log()
    flow.start(log[9].commit_position + 1)
    eventually(lambda: flow.position >= log[-1].commit_position)
    delivered = [message.position for message in consume(system.servers, flow.topic)]
    assert sorted(delivered) == [event.commit_position for event in log[10:]]


def one_stream(name: str) -> dict[str, str]:
    return {"subscription:filter:filterType": "streamId", "subscription:filter:expression": name}


def test_a_stream_is_delivered_from_the_position_of_another_streams_record(system: System) -> None:
    flow, other = Flow(system, system.topic()), Flow(system, "unused")
    flow.append(30, streams=1)
    other.append(20, streams=1)
    flow.append(30, streams=1)
    flow.create(**one_stream(f"{flow.prefix}-0"))
    flow.start(other.log()[-1].commit_position)
    log = flow.log()
    eventually(lambda: flow.position >= log[-1].commit_position)
    delivered = [message.position for message in consume(system.servers, flow.topic)]
    assert sorted(delivered) == [event.commit_position for event in log[30:]]


@pytest.mark.long
def test_a_filter_that_becomes_one_stream_goes_on_from_the_checkpoint(system: System) -> None:
    flow = Flow(system, system.topic())
    flow.append(20, streams=1)
    flow.append(20, streams=2)  # the last of it is of the one stream, at a revision that the other has yet to reach
    flow.create()
    flow.start()
    assert flow.delivered().holds
    flow.stop()
    reached = flow.log()[-1]
    wanted = f"{flow.prefix}-1"
    assert reached.stream_name != wanted
    flow.append(40, streams=2)
    system.registry.reconfigure(flow.id, one_stream(wanted))
    flow.start()
    after = [event for event in flow.log() if event.commit_position > reached.commit_position]
    expected = [event.commit_position for event in after if event.stream_name == wanted]
    eventually(lambda: flow.position >= expected[-1])
    delivered = [message.position for message in consume(system.servers, flow.topic)]
    assert sorted(position for position in delivered if position > reached.commit_position) == expected
    assert len(delivered) == 40 + len(expected)


@pytest.mark.check("A50")
def test_a_connector_over_the_whole_log_does_not_feed_on_its_own_checkpoints(system: System) -> None:
    flow = Flow(system, system.topic())
    flow.create(
        **{
            "subscription:initialPosition": "latest",
            "subscription:filter:scope": "record",
            "subscription:filter:filterType": "",
            "subscription:filter:expression": "",
            "autocommit:interval": "50",
        }
    )
    flow.start()
    eventually(lambda: flow.connector.state is State.RUNNING)
    flow.append(10)
    last = flow.log()[-1].commit_position
    eventually(lambda: flow.position >= last)
    checkpoints = system.database.last_event(f"$connectors/{flow.id}/checkpoints")
    flow.append(1)  # delivering it takes longer than several checkpoints would
    last = flow.log()[-1].commit_position
    eventually(lambda: flow.position >= last)
    after = system.database.last_event(f"$connectors/{flow.id}/checkpoints")
    assert checkpoints is not None
    assert after is not None
    assert after.revision - checkpoints.revision <= 2
    types = {message.headers["esdb-record-schema-subject"] for message in consume(system.servers, flow.topic)}
    assert b"$conn-ctrl-checkpoint" not in types
    assert not any(name.startswith(b"$sinkworker") for name in types)
    flow.stop()


def test_what_is_caught_up_with_is_a_checkpoint_at_once(system: System) -> None:
    flow = Flow(system, system.topic())
    flow.append(20)
    flow.create(**{"autocommit:interval": "3600000"})
    flow.start()
    assert flow.delivered().holds
    last = flow.log()[-1].commit_position
    eventually(lambda: flow.position >= last)


def test_a_missing_topic_stops_the_connector_with_a_sentence_and_loses_nothing(system: System) -> None:
    flow = Flow(system, f"missing-{system.topic()}")
    flow.create()
    flow.append(20)
    flow.start()
    eventually(lambda: flow.connector.error is not None)
    error = flow.connector.error
    assert error is not None
    assert error.code == "topic-missing"
    assert flow.topic in error.message
    assert flow.connector.state is State.STOPPED


@pytest.mark.parametrize("wait", ["true", "false"])
def test_waiting_for_the_broker_changes_nothing_in_what_arrives(system: System, wait: str) -> None:
    flow = system.flow(waitForBrokerAck=wait)
    flow.append(300)
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert verdict.duplicates == 0


@pytest.mark.long
def test_the_other_reader_delivers_as_well(tmp_path: Path) -> None:
    with System(
        tmp_path, workers=1, SINKWORKER_READER="kurrentdbclient", SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S
    ) as system:
        flow = system.flow()
        flow.append(1000)
        verdict = flow.delivered()
    assert verdict.holds, verdict
    assert verdict.duplicates == 0
