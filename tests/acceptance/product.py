"""The product as its users have it: connectors over HTTP, events over KurrentDB's client, messages out of Kafka."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Consumer, KafkaException, TopicPartition
from kurrentdbclient import NewEvent, RecordedEvent, StreamState

from sinkworker.demo.topic import consumed
from tests.oracle import Consumed
from tests.ports import free_port
from tests.processes import eventually
from tests.system import System

WITHIN_S = 30.0


@dataclass
class Product:
    """What a user can reach of it, and the processes behind that."""

    system: System
    http: httpx.Client
    kafka: Reader

    def sink(self, settings: Mapping[str, object] | None = None, *, topic: str = "", partitions: int = 1) -> Sink:
        """A new connector from the beginning of the log, to a topic of its own. Not yet started."""
        topic = topic or self.system.topic(partitions)
        sink = Sink(self, f"check-{uuid.uuid4().hex[:8]}", topic, partitions)
        given = {
            "instanceTypeName": "kafka-sink",
            "topic": topic,
            "bootstrapServers": self.system.servers,
            "subscription:initialPosition": "earliest",
            "autocommit:interval": "200",
            **(settings or {}),
        }
        assert self.create(sink.id, given).json() == {}
        return sink

    def running(self, settings: Mapping[str, object] | None = None, *, partitions: int = 1) -> Sink:
        """As `sink`, and started."""
        sink = self.sink(settings, partitions=partitions)
        sink.start()
        return sink

    def stop_all(self) -> None:
        """Ask every connector to stop."""
        for item in self.http.get("/connectors").json()["items"]:
            self.http.post(f"/connectors/{item['connectorId']}/stop")

    def create(self, connector_id: str, settings: Mapping[str, object]) -> httpx.Response:
        return self.http.post(f"/connectors/{connector_id}", json={"settings": settings})

    def refusal(self, settings: Mapping[str, object]) -> dict[str, str]:
        """What is wrong with these settings, by the key that is to blame: the violations of a 400/3 (contract §1.6)."""
        required = {"instanceTypeName": "kafka-sink", "topic": "loans"}
        answer = self.create(f"check-{uuid.uuid4().hex[:8]}", {**required, **settings})
        body = answer.json()
        assert (answer.status_code, body["code"]) == (400, 3), body
        return {each["field"]: each["description"] for each in body["details"][0]["fieldViolations"]}

    def append(self, stream: str, *events: NewEvent) -> int:
        """Append, and answer the last event's position."""
        return self.system.client.append_to_stream(stream, current_version=StreamState.ANY, events=events)

    def events(self, stream: str) -> Sequence[RecordedEvent]:
        """The stream as the database has it."""
        return self.system.client.get_stream(stream)


class Reader:
    """One consumer of many topics, which shares nothing with the workers' clients. Order is that of each partition."""

    def __init__(self, servers: str) -> None:
        options = {"bootstrap.servers": servers, "group.id": "independent", "enable.auto.commit": False}
        self._consumer = Consumer({**options, "fetch.wait.max.ms": 50, "log_level": 0})
        self._found: dict[str, list[Consumed]] = defaultdict(list)
        self._followed: set[str] = set()

    def follow(self, topic: str, partitions: int) -> None:
        """Read the topic too, from its first record."""
        if topic not in self._followed:
            self._followed.add(topic)
            self._consumer.incremental_assign([TopicPartition(topic, number, 0) for number in range(partitions)])

    def messages(self, topic: str, count: int = 0) -> list[Consumed]:
        """What there is of the topic, once there are so many; without a number just what has come so far."""

        def enough() -> bool:
            self._poll()
            return len(self._found[topic]) >= count

        eventually(enough, within_s=WITHIN_S)
        return list(self._found[topic])

    def _poll(self) -> None:
        for message in self._consumer.consume(1000, timeout=0.05):
            if message.error() is not None:
                raise KafkaException(message.error())
            self._found[message.topic() or ""].append(consumed(message))

    def close(self) -> None:
        self._consumer.close()


class Sink:
    """One connector, by its id."""

    def __init__(self, product: Product, connector_id: str, topic: str, partitions: int) -> None:
        self.id = connector_id
        self.topic = topic
        self._partitions = partitions
        self._product = product

    def do(self, what: str, expected: int = 200) -> dict[str, Any]:
        """`POST /connectors/{id}/{what}`: `start`, `start/7`, `reset`, `stop` and so on."""
        answer = self._product.http.post(f"/connectors/{self.id}/{what}")
        assert answer.status_code == expected, answer.text
        return dict(answer.json())

    def start(self) -> None:
        self.do("start")

    def runs(self) -> None:
        """Wait until it does."""
        eventually(lambda: self.state == "RUNNING", within_s=WITHIN_S)

    def stop(self) -> None:
        """Ask for a stop, and wait until it is complete."""
        self.do("stop")
        eventually(lambda: self.state == "STOPPED", within_s=WITHIN_S)

    def change(self, settings: Mapping[str, object]) -> None:
        """Merge into its settings."""
        answer = self._product.http.put(f"/connectors/{self.id}/settings", json=settings)
        assert answer.json() == {}, answer.text

    @property
    def listed(self) -> dict[str, Any]:
        """The connector as the list has it."""
        (item,) = self._product.http.get("/connectors", params={"connectorId": self.id}).json()["items"]
        return dict(item)

    @property
    def state(self) -> str:
        return str(self.listed["state"]).removeprefix("CONNECTOR_STATE_")

    @property
    def position(self) -> int:
        """Of its last checkpoint; -1 without one."""
        return int(self.listed.get("position", -1))

    def reaches(self, position: int) -> None:
        """Wait until a checkpoint says that everything up to there is delivered."""
        eventually(lambda: self.position >= position, within_s=WITHIN_S)

    def fails(self) -> dict[str, str]:
        """Wait until it has stopped for a reason; the reason: `code` and `message`."""
        eventually(lambda: self.state == "STOPPED" and "errorDetails" in self.listed, within_s=WITHIN_S)
        return dict(self.listed["errorDetails"])

    def messages(self, count: int = 0) -> list[Consumed]:
        """What its topic holds, once there are so many."""
        self._product.kafka.follow(self.topic, self._partitions)
        return self._product.kafka.messages(self.topic, count)


def json_event(type: str, value: object, metadata: object = None) -> NewEvent:
    """An event of that type, with the JSON of that value and metadata."""
    encoded = b"" if metadata is None else json.dumps(metadata).encode()
    return NewEvent(type=type, data=json.dumps(value).encode(), metadata=encoded)


def binary_event(type: str, data: bytes, metadata: bytes = b"") -> NewEvent:
    return NewEvent(type=type, data=data, metadata=metadata, content_type="application/octet-stream")


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Product]:
    """Every process of the product, and a client of its API."""
    with System(folder) as system:
        port = free_port()
        api = system.another("api", ["sinkworker", "api"], SINKWORKER_API_PORT=str(port))
        api.start()
        try:
            eventually(lambda: api.said("listening on"), within_s=30)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as http:
                reader = Reader(system.servers)
                yield Product(system, http, reader)
                reader.close()
        finally:
            api.destroy()
