"""What a dead letter consists of (an addition of ours)."""

from __future__ import annotations

import pytest

from sinkworker.connectors.settings import parse
from sinkworker.delivery.dead_letters import MESSAGE_BYTES, DeadLetters
from sinkworker.errors import Undeliverable
from sinkworker.keys import lane_of, partition_of
from sinkworker.model import Cursor, Layout
from sinkworker.outgoing import Outgoing
from sinkworker.scheduling.routing import Router
from tests.builders import record
from tests.unit.test_messages import DEAD, event

SLOW = "a" * 60 + "b"
BACKTRACKS = {
    "partitionKeyExtraction:enabled": "true",
    "partitionKeyExtraction:source": "stream",
    "partitionKeyExtraction:expression": "^(a|aa)+$",
}


def letter(reason: str = "too large", **settings: str) -> Outgoing:
    given = parse({"instanceTypeName": "kafka-sink", "topic": "users", **DEAD, **settings})
    made = DeadLetters("users", given, "dead", {}, lambda _: pytest.fail("nothing is sent"))
    subject = event(b"\x00 as stored")
    if "partitionKeyExtraction:expression" in settings:
        subject.stream_identifier.stream_name = SLOW.encode()
    return made.letter(subject, Undeliverable(reason, code="MSG_SIZE_TOO_LARGE"), None)


def test_a_dead_letter_is_the_event_as_stored_with_its_key_its_headers_and_the_reason() -> None:
    found = letter(**{"partitionKeyExtraction:enabled": "true", "partitionKeyExtraction:source": "stream"})
    assert (found.value, found.key) == (b"\x00 as stored", b"user-1")
    headers = dict(found.headers)
    assert {
        "esdb-record-id": b"id-0",
        "esdb-record-stream-id": b"user-1",
        "esdb-record-headers-tenant": b"north",
        "sinkworker-error-code": b"MSG_SIZE_TOO_LARGE",
        "sinkworker-error-message": b"too large",
        "sinkworker-error-topic": b"users",
    }.items() <= headers.items()
    assert "esdb-record-is-transformed" not in headers


def test_a_long_reason_is_cut_at_a_whole_character() -> None:
    text = dict(letter("é" * MESSAGE_BYTES).headers)["sinkworker-error-message"]
    assert text.decode() == "é" * (MESSAGE_BYTES // 2)
    odd = dict(letter("x" + "é" * MESSAGE_BYTES).headers)["sinkworker-error-message"]
    assert odd.decode() == "x" + "é" * (MESSAGE_BYTES // 2 - 1)


def test_no_default_header_is_taken_for_the_reason() -> None:
    found = letter(**{"defaultHeaders:sinkworker-error-code": "none"})
    assert [value for name, value in found.headers if name == "sinkworker-error-code"] == [b"MSG_SIZE_TOO_LARGE"]


def test_where_the_key_cannot_be_taken_there_is_none() -> None:
    assert letter(**BACKTRACKS).key is None


def test_the_scheduler_routes_a_record_without_a_key_to_take_as_one_without_a_key() -> None:
    keys, layout = parse({"instanceTypeName": "kafka-sink", "topic": "users", **BACKTRACKS}).key, Layout(6, 3, "k")
    subject = record(7, stream=SLOW)
    with pytest.raises(Undeliverable):
        Router(keys, layout, Cursor.BEGINNING).lane_of(subject)
    lane = Router(keys, layout, Cursor.BEGINNING, dead_letters=True).lane_of(subject)
    assert lane == lane_of(partition_of(None, "id-7", 6), 3)
