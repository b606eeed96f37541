"""`topic` as a template through real processes: several topics from one connector (an addition of ours)."""

from __future__ import annotations

import pytest

from tests.oracle import consume, judge, passed_by
from tests.processes import eventually
from tests.routed import KINDS, Routed
from tests.system import System


@pytest.mark.parametrize("keyed", [True, pytest.param(False, marks=pytest.mark.long)])
def test_each_record_goes_to_its_own_topic_in_order_for_each_key_also_across_a_restart(
    system: System, keyed: bool
) -> None:
    flow = Routed(system)
    for kind, partitions in KINDS.items():
        flow.create_topic(kind, partitions)
    flow.create(**{} if keyed else {"partitionKeyExtraction:enabled": "false"})
    flow.append_kinds(100)
    flow.start()
    flow.await_checkpoint()
    assert flow.connector.generation is not None
    assert flow.connector.generation.layout.lanes == 32
    flow.stop()
    flow.append_kinds(100)
    flow.start()
    flow.await_checkpoint()
    assert flow.duplicates(keyed=keyed) == 0  # P3


@pytest.mark.long
def test_a_record_without_a_topic_stops_the_connector_or_goes_aside(system: System) -> None:
    flow, dead = Routed(system), system.topic(partitions=1)
    flow.create_topic("Placed", 4)
    flow.create()
    flow.append_kinds(10, "Placed", streams=1)
    flow.append_kinds(1, "Order Paid", streams=1)
    flow.append_kinds(10, "Placed", streams=1)
    flow.start()
    guilty = flow.log()[10]
    message = flow.await_failure("topic-unnameable")
    assert f"Record {guilty.id} of stream '{guilty.stream_name}'" in message
    assert f"'{flow.prefix}.Order Paid' is no legal name" in message
    assert [each.record_id for each in flow.arrived("Placed")["Placed"]] == [str(each.id) for each in flow.log()[:10]]

    system.registry.reconfigure(
        flow.id,
        {**flow.connector.settings, "errors:policy": "deadLetter", "errors:deadLetterTopic": dead},
    )
    flow.start()
    flow.await_checkpoint()
    others = [event for event in flow.log() if event.id != guilty.id]
    verdict = judge(others, flow.arrived("Placed")["Placed"])
    assert verdict.holds, verdict
    (letter,) = consume(system.servers, dead)
    assert (letter.record_id, letter.value) == (str(guilty.id), guilty.data)
    assert letter.headers["sinkworker-error-code"] == b"topic-unnameable"
    assert letter.headers["sinkworker-error-topic"] == flow.topic.encode()


@pytest.mark.long
def test_a_missing_topic_stops_the_connector_behind_what_precedes_the_record_and_a_start_goes_on_there(
    system: System,
) -> None:
    flow = Routed(system)
    flow.create_topic("Placed", 4)
    flow.create()
    flow.append_kinds(60, "Placed")
    flow.append_kinds(60)
    flow.start()
    message, guilty = flow.await_failure("topic-missing"), flow.log()[61]
    assert guilty.type == "Paid"
    assert f"Record {guilty.id} of stream '{guilty.stream_name}'" in message
    assert f"The topic '{flow.topic_of('Paid')}' does not exist" in message
    assert passed_by(flow.log(), flow.arrived("Placed")["Placed"], str(guilty.id)) == ([], [])
    flow.create_topic("Paid", 1)
    flow.create_topic("Shipped", 3)
    flow.start()
    flow.await_checkpoint()
    assert flow.duplicates() == 0


@pytest.mark.long
def test_a_killed_worker_costs_no_record_and_no_order(system: System) -> None:
    flow = Routed(system)
    for kind, partitions in KINDS.items():
        flow.create_topic(kind, partitions)
    flow.create()
    flow.append_kinds(600)
    flow.start()
    eventually(lambda: any(flow.arrived().values()))
    for worker in system.workers:
        worker.kill()
        worker.start()
        flow.append_kinds(100)
    flow.await_checkpoint()
    flow.duplicates()
