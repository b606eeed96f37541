"""A36-A39: what a message carries (contract §4). One stream, and connectors that differ in their header settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pytest
from kurrentdbclient import NewEvent, RecordedEvent

from tests.acceptance.product import Product, Sink, binary_event, unique

STREAM = unique("kredit-ä-")
METADATA = '{"X-Case": "Käse", "tenant": 7, "$correlationId": "c-1"}'.encode()

VALUES = [
    b'{ "b" : 1.50,\n\t"a":[1e400, 12345678901234567890, "\\u00e4", "\xc3\xa4"],"a": null }',  # no writer's own style
    b"[]",
    b'{"unfinished":',
    b"",
]
BINARY = [bytes(range(256)), b"\xff\xfe", b""]
EVENTS = [
    *(NewEvent(type="Anything", data=value, metadata=METADATA) for value in VALUES),
    *(binary_event("Scanned", value, METADATA) for value in BINARY),
]

SETTINGS: dict[str, dict[str, str]] = {
    "plain": {},
    "all": {"headers:ignoreSystem": "false"},
    "defaults": {"defaultHeaders:Team": "lending", "defaultHeaders:esdb-record-id": "forged"},
}

DATE = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+00:00"
UUID = rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def events(product: Product) -> Sequence[RecordedEvent]:
    product.append(STREAM, *EVENTS)
    return product.events(STREAM)


@pytest.fixture(scope="module")
def sinks(product: Product, events: Sequence[RecordedEvent]) -> Mapping[str, Sink]:
    only = {"scope": "stream", "filterType": "streamId", "expression": STREAM}
    filtered = {f"subscription:filter:{key}": value for key, value in only.items()}
    return {name: product.running({**filtered, **settings}) for name, settings in SETTINGS.items()}


@pytest.mark.check("A36")
def test_all_eleven_system_headers_are_on_every_message(
    sinks: Mapping[str, Sink], events: Sequence[RecordedEvent]
) -> None:
    sink = sinks["plain"]
    for event, message in zip(events, sink.messages(len(events)), strict=True):
        system = {name: value for name, value in message.headers.items() if "-headers-" not in name}
        assert re.fullmatch(UUID, system.pop("esdb-request-id"))
        assert re.fullmatch(DATE, system.pop("esdb-request-date"))
        created = system.pop("esdb-record-timestamp")
        assert re.fullmatch(DATE, created)
        assert event.recorded_at is not None
        assert created.startswith(event.recorded_at.strftime("%Y-%m-%dT%H:%M:%S.").encode())
        assert system == {
            "esdb-connector-id": sink.id.encode(),
            "esdb-record-id": str(event.id).encode(),
            "esdb-record-redacted": b"false",
            "esdb-record-stream-id": STREAM.encode(),
            "esdb-record-stream-revision": b"%d" % event.stream_position,
            "esdb-record-log-position": b"%d" % event.commit_position,
            "esdb-record-schema-subject": event.type.encode(),
            "esdb-record-schema-type": b"json" if event.type == "Anything" else b"bytes",
        }


@pytest.mark.check("A37")
def test_user_headers_keep_their_case_and_system_metadata_comes_on_request(
    sinks: Mapping[str, Sink], events: Sequence[RecordedEvent]
) -> None:
    def sent(name: str) -> list[dict[str, bytes]]:
        start = "esdb-record-headers-"
        messages = sinks[name].messages(len(events))
        return [{key: text for key, text in each.headers.items() if key.startswith(start)} for each in messages]

    user = {"esdb-record-headers-X-Case": "Käse".encode(), "esdb-record-headers-tenant": b"7"}
    assert sent("plain") == [user] * len(events)
    assert sent("all") == [{**user, "esdb-record-headers-$correlationId": b"c-1"}] * len(events)


@pytest.mark.check("A38")
def test_default_headers_are_on_every_message_and_forge_nothing(
    sinks: Mapping[str, Sink], events: Sequence[RecordedEvent]
) -> None:
    messages = sinks["defaults"].messages(len(events))
    assert [message.headers["Team"] for message in messages] == [b"lending"] * len(events)
    assert [message.record_id for message in messages] == [str(event.id) for event in events]


@pytest.mark.check("A39")
def test_a_value_is_the_events_data_byte_for_byte(sinks: Mapping[str, Sink], events: Sequence[RecordedEvent]) -> None:
    for name in SETTINGS:
        values = [message.value for message in sinks[name].messages(len(events))]
        assert values == [*VALUES, *BINARY]  # without data a message of no bytes, and no tombstone
