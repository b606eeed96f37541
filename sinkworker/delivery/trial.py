"""A transformation tried without any server: the Kafka message that a worker would make of an event from a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from sinkworker.connectors.settings import SinkSettings
from sinkworker.delivery.headers import RecordedEvent
from sinkworker.delivery.messages import MessageBuilder
from sinkworker.delivery.shape import JSON, TYPE_NUMBERS
from sinkworker.errors import Invalid, Undeliverable
from sinkworker.outgoing import Outgoing

MEMBERS = ("value", "streamId", "type", "headers", "recordId", "position", "schemaInfo", "isTransformed")
STREAM, TYPE, RECORD_ID = "example-1", "ExampleHappened", "00000000-0000-0000-0000-000000000000"

_VARYING = ("esdb-request-id", "esdb-request-date", "esdb-connector-id", "esdb-record-timestamp")


@dataclass(frozen=True, slots=True)
class Result:
    """What goes to Kafka, without the headers that are a connector's or a moment's."""

    key: str | None
    headers: dict[str, str]
    value: str


class Trial:
    """One function, tried with any number of events. Close it."""

    def __init__(self, source: str) -> None:
        self._builder = MessageBuilder("trial", SinkSettings(topic="trial", transform=source))

    def run(self, event: RecordedEvent) -> Result:
        """Raises Invalid with the JavaScript error when the function fails."""
        try:
            (message,) = self._builder.messages([event], lambda _topic: 1)
            assert isinstance(message, Outgoing)  # its settings have no dead-letter topic
        except Undeliverable as exc:
            raise Invalid(exc.message, code=exc.code) from exc
        headers = {name: value.decode() for name, value in message.headers}
        for name in _VARYING:
            del headers[name]
        return Result(None if message.key is None else message.key.decode(), headers, message.value.decode())

    def close(self) -> None:
        self._builder.close()


def event_of(text: bytes) -> RecordedEvent:
    """The event of a file: the function's argument, or as much of it as matters. Raises Invalid for anything else."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise Invalid(f"it is no JSON: {exc}.") from exc
    if not isinstance(given, dict) or "value" not in given:
        raise Invalid('it must be a JSON object with a member `value`, such as {"value": {"name": "Ada"}}.')
    if unknown := given.keys() - set(MEMBERS):
        raise Invalid(f"it has a member {sorted(unknown)[0]!r}; there are {', '.join(MEMBERS)}.")
    schema = _member(given, "schemaInfo", dict, {})
    position = _member(given, "position", dict, {})
    headers = _member(given, "headers", dict, {})
    numbers = {number: name.decode() for name, number in TYPE_NUMBERS.items()}
    number = _member(schema, "type", int, 1)
    if number not in numbers:
        raise Invalid("its schemaInfo.type must be 1 (json), 2 (protobuf), 3 (avro) or 4 (bytes).")
    if number != TYPE_NUMBERS[b"json"]:
        headers = {**headers, "$schema.format": numbers[number]}
    event = RecordedEvent()
    event.id.string = _member(given, "recordId", str, RECORD_ID)
    stream = _member(given, "streamId", str, _member(position, "streamId", str, STREAM))
    event.stream_identifier.stream_name = stream.encode()
    event.commit_position = event.prepare_position = _position(position)
    event.metadata["type"] = _member(given, "type", str, _member(schema, "subject", str, TYPE))
    event.metadata["content-type"] = JSON
    event.metadata["created"] = "0"
    event.custom_metadata = orjson.dumps(headers)
    event.data = orjson.dumps(given["value"])
    return event


def _position(given: dict[str, Any]) -> int:
    number = _member(given, "logPosition", int, 0)
    if not 0 <= number < 2**64:
        raise Invalid("its position.logPosition must be a whole number of at most 64 bits.")
    return int(number)


def _member(given: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = given.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {dict: "an object", str: "a text", int: "a whole number"}
        raise Invalid(f"its {name} must be {words[kind]}.")
    return value
