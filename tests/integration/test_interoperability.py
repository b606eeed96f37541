"""Our additions for consumers of other makes through real processes: Java's partitions, CloudEvents, traces."""

from __future__ import annotations

import json

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from kurrentdbclient import NewEvent, StreamState

from sinkworker.keys import java_partition_of, partition_of
from tests.oracle import consume, judge
from tests.processes import eventually
from tests.system import OWN_KEYS, PARTITIONS, Flow, System

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_another_partitioner_opens_a_generation_and_librdkafka_puts_keys_where_their_lanes_expect_them(
    system: System,
) -> None:
    flow = Flow(system, system.topic())
    flow.create(**OWN_KEYS)
    flow.append_keyed(300)
    old = {str(event.id) for event in flow.log()}
    flow.start()
    eventually(lambda: flow.position >= flow.log()[-1].commit_position)
    flow.stop()
    before = flow.connector.generation
    system.registry.reconfigure(flow.id, {"partitioner": "murmur2_random"})
    flow.append_keyed(2700)
    flow.start()
    log = flow.log()
    eventually(lambda: flow.position >= log[-1].commit_position, within_s=40)
    after = flow.connector.generation
    assert before is not None
    assert after is not None
    assert (after.id != before.id, after.reason) == (True, "settings changed: keys")
    placed = consume(system.servers, flow.topic)
    verdict = judge(log, placed)
    assert (verdict.missing, verdict.unexpected, verdict.out_of_order, verdict.duplicates) == ([], [], [], 0)
    assert {message.key for message in placed} == {f"Loan-{number}".encode() for number in range(1, 3001)}
    for message in placed:
        decides = partition_of if message.record_id in old else java_partition_of
        assert message.partition == decides(message.key, message.record_id, PARTITIONS)


def test_a_cloud_event_goes_on_with_its_trace(system: System) -> None:
    flow = Flow(system, system.topic())
    flow.create(format="cloudevents", **{"headers:traceContext": "true", "defaultHeaders:ce_id": "forged"})
    flow.append(1)
    traced = NewEvent(
        type="LoanTraced",
        data=b'{"a":  1}',
        metadata=json.dumps({"$traceId": TRACE_ID, "$spanId": SPAN_ID}).encode(),
    )
    system.client.append_to_stream(f"{flow.prefix}-ä", current_version=StreamState.ANY, events=[traced])
    flow.start()
    assert flow.delivered().holds
    found = {message.headers["ce_type"]: message for message in consume(system.servers, flow.topic)}
    assert found.keys() == {b"LoanRequested", b"LoanTraced"}
    message = found[b"LoanTraced"]
    read = from_binary_event(KafkaMessage(message.headers, message.key, message.value or b""))
    assert message.value == traced.data
    assert (read.get_id(), read.get_subject(), read.get_data()) == (str(traced.id), f"{flow.prefix}-ä", {"a": 1})
    assert read.get_source() == f"/streams/{flow.prefix}-%C3%A4"
    assert read.get_extension("partitionkey") == f"{flow.prefix}-ä"
    assert message.headers["traceparent"] == f"00-{TRACE_ID}-{SPAN_ID}-01".encode()
    assert "traceparent" not in found[b"LoanRequested"].headers
