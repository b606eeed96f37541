"""A record as a transformation is given it, and what comes of it put back into the record (contract §6)."""

from __future__ import annotations

import orjson

from sinkworker import metadata as event_metadata
from sinkworker.delivery.headers import RecordedEvent, schema_type
from sinkworker.delivery.shape import JSON, TYPE_NUMBERS
from sinkworker.transform.transformer import Outcome, Subject

_TYPES = {number: name for name, number in TYPE_NUMBERS.items()}


def subject_of(event: RecordedEvent) -> Subject | None:
    """What a transformation gets of the event; None for one that is not JSON by its content type, or no text."""
    facts = event.metadata
    if facts["content-type"] != JSON:
        return None
    try:
        value = event.data.decode()
    except UnicodeDecodeError:
        return None
    custom = event.custom_metadata
    values = event_metadata.parsed(custom)
    return Subject(
        value,
        event.id.string,
        event.stream_identifier.stream_name.decode(),
        event.commit_position,
        facts["type"],
        TYPE_NUMBERS[schema_type(JSON, values)],
        orjson.dumps(event_metadata.entries(custom)).decode() if values else "{}",
    )


def apply(event: RecordedEvent, given: Subject, outcome: Outcome) -> bytes:
    """Make the event what the transformation made of it; answer its schema type. The rest stays exactly as it was."""
    event.data = outcome.value.encode()
    changes = outcome.changes
    if "recordId" in changes:
        event.id.string = changes["recordId"]
    if "streamId" in changes:
        event.stream_identifier.stream_name = changes["streamId"].encode()
    if "logPosition" in changes:
        event.commit_position = changes["logPosition"]
    if "subject" in changes:
        event.metadata["type"] = changes["subject"]
    if "headers" in changes:
        event.custom_metadata = orjson.dumps(changes["headers"])
    return _TYPES[changes.get("type", given.type)]
