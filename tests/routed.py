"""A connector whose topic is a template, as tests of real processes have it."""

from __future__ import annotations

import json
from itertools import cycle, islice
from zlib import crc32

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

    def duplicates(self, *kinds: str, keyed: bool = True, aside: int = 0) -> int:
        """How many there are, once it is sure that all events are in their topics, for each key in order (P2).

        `aside`: so many events are in none.
        """
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
        assert sum(map(len, arrived.values())) == len(log) - aside + duplicates
        return duplicates
