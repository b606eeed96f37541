"""The naive script: what a good engineer writes in an afternoon to bring events from KurrentDB to Kafka.

One process: a subscription of the client library, headers as the Kafka sink connector sends them, an idempotent
producer, a checkpoint in KurrentDB after every 1,000 records. Each line of its input makes it begin after a position of
the log: `POSITION`, to go on for ever, or `POSITION COUNT`, to deliver so many records and wait for the next line.

It uses nothing of sinkworker, and sinkworker uses nothing of it but to measure itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import uuid4

import grpc
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from grpc.experimental import ChannelOptions
from kurrentdbclient import KurrentDBClient, NewEvent, RecordedEvent, StreamState

CHECKPOINT_EVERY = 1000
PRODUCER_OPTIONS: dict[str, str | int | bool] = {
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "compression.type": "zstd",
    "compression.level": 6,
    "partitioner": "consistent_random",
    "message.timeout.ms": 0,
    "batch.size": 1_000_000,
}


class TunedClient(KurrentDBClient):
    """The client with the one gRPC option that matters: no thread of gRPC's between the socket and the iterator."""

    def _construct_grpc_channel(self, grpc_target: str, grpc_options: tuple[Any, ...] = ()) -> grpc.Channel:
        options = (*grpc_options, (ChannelOptions.SingleThreadedUnaryStream, 1))
        return super()._construct_grpc_channel(grpc_target, options)


def main() -> None:
    """Do what the lines of stdin say, one after the other."""
    options = parsed()
    client = (TunedClient if options.tuned else KurrentDBClient)(options.kurrentdb)
    producer = Producer({**PRODUCER_OPTIONS, "bootstrap.servers": options.kafka})
    for line in sys.stdin:
        after, _, count = line.partition(" ")
        with client.subscribe_to_all(
            commit_position=int(after),
            filter_include=[options.prefix],
            filter_by_stream_name=True,
            filter_by_prefix=True,
        ) as subscription:
            deliver(islice(subscription, int(count) if count else None), client, producer, options)


def deliver(
    events: Iterable[RecordedEvent], client: KurrentDBClient, producer: Producer, options: argparse.Namespace
) -> None:
    """Produce every event; what Kafka refuses ends the script."""
    for number, event in enumerate(events, 1):
        record = {
            "topic": options.topic,
            "key": event.stream_name,
            "value": event.data,
            "headers": headers(event, options.name),
            "on_delivery": check,
        }
        while True:
            try:
                producer.produce(**record)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        if number % CHECKPOINT_EVERY == 0:
            producer.flush()
            position = json.dumps({"logPosition": event.commit_position}).encode()
            client.append_to_stream(
                f"checkpoints-{options.name}",
                current_version=StreamState.ANY,
                events=NewEvent(type="Checkpoint", data=position),
            )
    producer.flush()


def headers(event: RecordedEvent, name: str) -> list[tuple[str, str]]:
    """What the connector says about a record."""
    found = [
        ("esdb-request-id", str(uuid4())),
        ("esdb-request-date", iso(datetime.now(UTC))),
        ("esdb-connector-id", name),
        ("esdb-record-id", str(event.id)),
        ("esdb-record-timestamp", iso(event.recorded_at or datetime.now(UTC))),
        ("esdb-record-redacted", "false"),
        ("esdb-record-stream-id", event.stream_name),
        ("esdb-record-stream-revision", str(event.stream_position)),
        ("esdb-record-log-position", str(event.commit_position)),
        ("esdb-record-schema-subject", event.type),
        ("esdb-record-schema-type", "json" if event.content_type == "application/json" else "bytes"),
    ]
    if event.metadata:
        for key, value in json.loads(event.metadata).items():
            if not key.startswith("$"):
                found.append((f"esdb-record-headers-{key}", value if isinstance(value, str) else json.dumps(value)))
    return found


def iso(moment: datetime) -> str:
    """As the connector writes it, with seven digits."""
    return moment.isoformat(timespec="microseconds").replace("+", "0+")


def check(error: KafkaError | None, _message: Message) -> None:
    """Called for every record that Kafka has or refuses."""
    if error is not None:
        raise KafkaException(error)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Bring events from KurrentDB to Kafka.")
    for name in ("name", "kurrentdb", "kafka", "topic", "prefix"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tuned", action="store_true", help="use the gRPC option for single-threaded streams")
    return parser.parse_args()


if __name__ == "__main__":
    main()
