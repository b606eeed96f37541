"""Pure: a record as filters by content see it (contract §4.1): one JSON object of what is known of it and its value."""

from __future__ import annotations

from typing import Any

import orjson
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker import metadata as event_metadata
from sinkworker.delivery.headers import schema_type

RecordedEvent = streams_pb2.ReadResp.ReadEvent.RecordedEvent

JSON = "application/json"
TYPE_NUMBERS = {b"json": 1, b"protobuf": 2, b"avro": 3, b"bytes": 4}
"""Of schema types, as the original's registry numbers them."""


def record_object(event: RecordedEvent) -> dict[str, Any] | None:
    """The object; None for an event that is not JSON, by its content type or by what is in it."""
    facts = event.metadata
    if facts["content-type"] != JSON:
        return None
    try:
        value = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        return None
    stream = event.stream_identifier.stream_name.decode()
    values = event_metadata.parsed(event.custom_metadata)
    return {
        "recordId": event.id.string,
        "streamId": stream,
        "position": {"streamId": stream, "logPosition": event.commit_position},
        "isTransformed": False,
        "schemaInfo": {"subject": facts["type"], "type": TYPE_NUMBERS[schema_type(JSON, values)]},
        "headers": event_metadata.entries(event.custom_metadata),
        "value": value,
    }
