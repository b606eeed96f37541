"""`topic` as a template through real processes: several topics from one connector (an addition of ours)."""

from __future__ import annotations

import json
from itertools import cycle, islice
from zlib import crc32

import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # public, but not in an __all__
from kurrentdbclient import NewEvent, StreamState

from sinkworker.connectors.lifecycle import State
from tests.oracle import Consumed, consume, judge
from tests.processes import eventually
from tests.system import Flow, System

KINDS = {"Placed": 4, "Paid": 1, "Shipped": 3}
"""Event types, and how many partitions the topic of each has."""


class Routed(Flow):
    """A connector over streams of its own, to the topic `<prefix>.<type>` of each event."""

    def __init__(self, system: System) -> None:
        super().__init__(system, "")
        self.topic = f"{self.prefix}.{{eventType}}"

    def create_topic(self, kind: str, partitions: int, **config: str) -> None:
        (created,) = self.system.admin.create_topics(
            [NewTopic(self.topic_of(kind), partitions, config=config)]
        ).values()
        created.result(10)

    def topic_of(self, kind: str) -> str:
        return f"{self.prefix}.{kind}"

    def append_kinds(self, count: int, *kinds: str, streams: int = 12) -> None:
        """Append so many events, the kinds in turn, to each stream in turn."""
        for number, kind in enumerate(islice(cycle(kinds or KINDS), count)):
            self.appended += 1
            event = NewEvent(type=kind, data=json.dumps({"number": self.appended}).encode())
            stream = f"{self.prefix}-{number // 7 % streams}"
            self.system.client.append_to_stream(stream, current_version=StreamState.ANY, events=[event])

    def await_checkpoint(self) -> None:
        last = self.log()[-1].commit_position
        eventually(lambda: self.position >= last, within_s=40)

    def await_failure(self, code: str) -> str:
        """The message of the error that stopped it."""
        eventually(lambda: self.connector.error is not None and self.connector.state is State.STOPPED, within_s=40)
        assert self.connector.error is not None
        assert self.connector.error.code == code
        return self.connector.error.message

    def arrived(self, *kinds: str) -> dict[str, list[Consumed]]:
        return {kind: list(consume(self.system.servers, self.topic_of(kind))) for kind in kinds or KINDS}

    def duplicates(self, *kinds: str, keyed: bool = True) -> int:
        """How many there are, once it is sure that all events are in their topics, for each key in order (P2)."""
        duplicates = 0
        arrived, log = self.arrived(*kinds), self.log()
        streams = {event.stream_name for event in log}
        for kind, messages in arrived.items():
            for stream in streams:
                own = [each for each in messages if each.headers["esdb-record-stream-id"].decode() == stream]
                verdict = judge([event for event in log if (event.stream_name, event.type) == (stream, kind)], own)
                assert verdict.holds, f"{stream} in the topic of {kind}: {verdict}"
                assert {each.key for each in own} <= {stream.encode() if keyed else None}
                assert {each.partition for each in own} <= {crc32(stream.encode()) % KINDS.get(kind, 1)}
                duplicates += verdict.duplicates
        assert sum(map(len, arrived.values())) == len(log) + duplicates
        return duplicates


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
    flow.append_kinds(60, "Placed", streams=1)
    flow.append_kinds(60, streams=1)
    flow.start()
    assert f"The topic '{flow.topic_of('Paid')}' does not exist" in flow.await_failure("topic-missing")
    assert {each.record_id for each in flow.arrived("Placed")["Placed"]} >= {str(each.id) for each in flow.log()[:60]}
    flow.create_topic("Paid", 1)
    flow.create_topic("Shipped", 3)
    flow.start()
    flow.await_checkpoint()
    flow.duplicates()


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
