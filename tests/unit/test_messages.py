"""Records made Kafka messages, with a transformation among it (contract §4 to §6)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from contextlib import closing
from zlib import crc32

import pytest

from sinkworker.connectors.settings import parse
from sinkworker.delivery.headers import RecordedEvent
from sinkworker.delivery.messages import MessageBuilder
from sinkworker.errors import Undeliverable
from sinkworker.keys import java_partition_of, partition_of
from sinkworker.outgoing import Outgoing, Unfit

POSITION = 2**63 + 1


def six(_topic: str) -> int:
    """How many partitions each topic has."""
    return 6


def event(
    data: bytes, number: int = 0, content_type: str = "application/json", metadata: bytes = b'{"tenant": "north"}'
) -> RecordedEvent:
    recorded = RecordedEvent()
    recorded.id.string = f"id-{number}"
    recorded.stream_identifier.stream_name = b"user-1"
    recorded.commit_position = recorded.prepare_position = POSITION + number
    recorded.metadata["type"], recorded.metadata["content-type"] = "UserCreated", content_type
    recorded.metadata["created"] = "17236472026213572"
    recorded.data, recorded.custom_metadata = data, metadata
    return recorded


def builder(function: str, **settings: str) -> closing[MessageBuilder]:
    encoded = base64.b64encode(f"function transform(record) {{ {function} }}".encode()).decode()
    given = {"transformer:enabled": "true", "transformer:function": encoded, **settings}
    return closing(MessageBuilder("users", parse({"instanceTypeName": "kafka-sink", "topic": "users", **given})))


def built(function: str, *events: RecordedEvent, **settings: str) -> list[Outgoing]:
    with builder(function, **settings) as made:
        return [each for each in made.messages(events, six) if isinstance(each, Outgoing)]


def test_a_transformed_record_has_its_new_value_subject_and_headers_and_the_flag() -> None:
    """A43"""
    (message,) = built(
        """
        const { firstName, lastName, email } = record.value;
        record.value = { name: `${firstName} ${lastName}`, email: email.replace(/(.).*@/, "$1***@") };
        record.schemaInfo.subject = "User";
        record.headers.origin = record.streamId;
        """,
        event(b'{"firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.org"}'),
    )
    assert message.value == b'{"name":"Ada Lovelace","email":"a***@example.org"}'
    headers = dict(message.headers)
    assert len(headers) == len(message.headers)
    assert {
        "esdb-record-is-transformed": b"true",
        "esdb-record-schema-subject": b"User",
        "esdb-record-schema-type": b"json",
        "esdb-record-headers-origin": b"user-1",
        "esdb-record-headers-tenant": b"north",
        "esdb-record-id": b"id-0",
        "esdb-record-log-position": b"%d" % POSITION,
    }.items() <= headers.items()


@pytest.mark.parametrize(
    "other",
    [event(b'{"a": 1}', content_type="application/octet-stream"), event(b"{", 0), event(b""), event(b'"\xff"')],
    ids=["not said to be JSON", "no JSON", "empty", "no text"],
)
def test_what_is_not_json_stays_as_it_is_and_in_its_place(other: RecordedEvent) -> None:
    """A43"""
    data = bytes(other.data)
    messages = built("record.value = record.value + 1", event(b"1"), other, event(b"3"))
    assert [message.value for message in messages] == [b"2", data, b"4"]
    assert ["esdb-record-is-transformed" in dict(message.headers) for message in messages] == [True, False, True]


def test_an_id_or_position_changes_only_what_goes_out() -> None:
    (message,) = built(
        "record.recordId = 'other'; record.position.logPosition = 7; record.position.streamId = 'person-2'",
        event(b"{}"),
    )
    assert message[:4] == ("id-0", "user-1", "UserCreated", POSITION)
    assert message.partition == partition_of(None, "id-0", 6)  # P2: as its lane was chosen
    headers = dict(message.headers)
    assert (headers["esdb-record-id"], headers["esdb-record-log-position"]) == (b"other", b"7")
    assert headers["esdb-record-stream-id"] == b"person-2"


@pytest.mark.parametrize(
    ("source", "expression", "function", "key"),
    [
        ("stream", "", "record.position.streamId = 'person-2'", b"person-2"),
        ("streamSuffix", "", "record.streamId = 'person-2'", b"2"),
        ("headers", "tenant", "record.headers.tenant = 'south'", b"south"),
        ("headers", "tenant", "delete record.headers.tenant", None),
        ("partitionKey", "", "record.headers['esdb.partition-key'] = 'k7'", b"k7"),
    ],
)
def test_the_key_is_that_of_the_transformed_record(
    source: str, expression: str, function: str, key: bytes | None
) -> None:
    settings = {f"partitionKeyExtraction:{name}": text for name, text in (("source", source), ("enabled", "true"))}
    (message,) = built(function, event(b"{}"), **settings, **{"partitionKeyExtraction:expression": expression})
    assert message.key == key
    assert message.partition == partition_of(key, "id-0", 6)  # where librdkafka puts it: R6 looks at that


def test_the_partition_is_that_of_the_partitioner() -> None:
    settings = {"partitionKeyExtraction:enabled": "true", "partitionKeyExtraction:source": "stream"}
    (message,) = built("record.streamId = 'person-3'", event(b"{}"), partitioner="murmur2_random", **settings)
    assert message.partition == java_partition_of(b"person-3", "id-0", 6) != partition_of(b"person-3", "id-0", 6)


def test_the_filter_sees_the_record_before_the_transformation() -> None:
    messages = built(
        "record.value = 5",
        *(event(b'{"year": %d}' % year, year) for year in (2017, 2018)),
        **{"subscription:filter:filterType": "jsonPath", "subscription:filter:expression": "$[?($.value.year==2018)]"},
    )
    assert [(message.record_id, message.value) for message in messages] == [("id-2018", b"5")]


def test_a_failure_comes_after_everything_before_it_and_names_the_record() -> None:
    """A44"""
    function = "if (record.value === 2) record.value.missing.part"
    with builder(function) as made:
        found, error = until_it_stops(made.messages([event(b"%d" % each, each) for each in range(4)], six))
    assert [message.value for message in found] == [b"0", b"1"]
    assert re.search(
        r"Record id-2 of stream 'user-1' at position \d+: The function failed: TypeError: Cannot read properties of "
        r"undefined \(reading 'part'\) \(line 1, column \d+\)\. Correct `transformer:function`",
        str(error),
    )
    assert error.code == "transform-failed"


def test_a_filter_that_fails_lets_everything_before_it_pass_first() -> None:
    deep = b"[" * 200 + b"1" + b"]" * 200
    with builder(
        "record.headers.seen = 'yes'",
        **{"subscription:filter:filterType": "jsonPath", "subscription:filter:expression": "$.value..[?(@.x==1)]"},
    ) as made:
        found, error = until_it_stops(made.messages([event(b'[{"x": 1}]'), event(deep, 1)], six))
    assert [dict(message.headers)["esdb-record-headers-seen"] for message in found] == [b"yes"]
    assert str(error).startswith("Record id-1 of stream 'user-1'")


DEAD = {"errors:policy": "deadLetter", "errors:deadLetterTopic": "dead"}


def told(builder: closing[MessageBuilder], *events: RecordedEvent) -> list[str]:
    """Each record's value, or why there is none."""
    with builder as made:
        return [
            each.reason.code if isinstance(each, Unfit) else each.value.decode() for each in made.messages(events, six)
        ]


def test_with_dead_letters_what_cannot_be_built_is_answered_in_its_place() -> None:
    found = told(
        builder("if (record.value % 3 === 1) null.x", **DEAD), *(event(b"%d" % each, each) for each in range(6))
    )
    assert found == ["0", "transform-failed", "2", "3", "transform-failed", "5"]


def test_with_dead_letters_a_record_that_fails_after_its_transformation_costs_no_other_its_own() -> None:
    settings = {
        "partitionKeyExtraction:enabled": "true",
        "partitionKeyExtraction:source": "stream",
        "partitionKeyExtraction:expression": "^(a|aa)+$",
    }
    slow = "record.streamId = record.value === 1 ? 'a'.repeat(60) + 'b' : 'x'; record.value = [record.value]"
    found = told(builder(slow, **DEAD, **settings), *(event(b"%d" % each, each) for each in range(3)))
    assert found == ["[0]", "regex-timeout", "[2]"]


def test_with_dead_letters_a_filter_that_fails_costs_only_its_record() -> None:
    deep = b"[" * 200 + b"1" + b"]" * 200
    found = told(
        builder(
            "record.value = 7",
            **DEAD,
            **{"subscription:filter:filterType": "jsonPath", "subscription:filter:expression": "$.value..[?(@.x==1)]"},
        ),
        *(event(b'[{"x": 1}]'), event(deep, 1), event(b'[{"x": 2}]', 2), event(b'[{"x": 1}]', 3)),
    )
    assert found == ["7", "filter-unusable", "7"]


def test_a_function_that_cannot_be_used_is_no_record_s_fault() -> None:
    for function in ("}}} no", "} while (true); {"):
        with builder(function, **DEAD) as made, pytest.raises(Undeliverable, match="cannot be used"):
            list(made.messages([event(b"1")], six))


def until_it_stops(messages: Iterable[Outgoing | Unfit]) -> tuple[list[Outgoing], Undeliverable]:
    found: list[Outgoing] = []
    try:
        for message in messages:
            assert isinstance(message, Outgoing)
            found.append(message)
    except Undeliverable as exc:
        return found, exc
    pytest.fail("it did not stop")


def test_the_topic_of_a_template_is_made_of_what_a_transformation_leaves_and_unkeyed_records_follow_their_stream() -> (
    None
):
    """The lane was chosen by the stream that the record came with, so that one decides the partition, too (P2)."""
    first, second = built(
        "record.schemaInfo.subject = record.value.type; record.streamId = 'other-1'",
        event(b'{"type": "Opened"}', 0),
        event(b'{"type": "Closed"}', 1),
        topic="{category}.{eventType}.{metadata.tenant}",
    )
    assert [first.topic, second.topic] == ["other.Opened.north", "other.Closed.north"]
    assert first.key is None
    assert first.partition == second.partition == crc32(b"user-1") % 6


def test_a_record_without_a_topic_is_put_aside_or_stops_the_connector() -> None:
    nameless = event(b"{}", 1, metadata=b"{}")
    plain = {"instanceTypeName": "kafka-sink", "topic": "t.{metadata.tenant}"}
    with closing(MessageBuilder("users", parse({**plain, **DEAD}))) as made:
        _, aside, after = made.messages([event(b"{}"), nameless, event(b"{}", 2)], six)
    assert isinstance(aside, Unfit)
    assert isinstance(after, Outgoing)
    assert (aside.origin.record_id, aside.reason.code) == ("id-1", "topic-unnameable")
    with (
        closing(MessageBuilder("users", parse(plain))) as made,
        pytest.raises(Undeliverable, match=r"^Record id-1 of stream 'user-1' at position .*: The template") as raised,
    ):
        list(made.messages([event(b"{}"), nameless], six))
    assert raised.value.code == "topic-unnameable"
