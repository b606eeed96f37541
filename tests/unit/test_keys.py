"""Partition keys: the twenty documented examples (contract §5), and where keys go."""

from __future__ import annotations

import json
from zlib import crc32

import pytest

from sinkworker.connectors.errors import InvalidSettings
from sinkworker.connectors.settings import KeySettings, KeySource, Partitioner, parse
from sinkworker.errors import Undeliverable
from sinkworker.keys import KeyExtractor, java_partition_of, lane_of, partition_of, placement
from sinkworker.model import Cursor, Layout
from sinkworker.scheduling.routing import Router
from tests.builders import record


def key(source: str | None, expression: str | None, stream: str, metadata: object = None) -> str | None:
    settings = {"instanceTypeName": "kafka-sink", "topic": "loans"}
    if source is not None:
        settings |= {"partitionKeyExtraction:enabled": "true", "partitionKeyExtraction:source": source}
    if expression is not None:
        settings["partitionKeyExtraction:expression"] = expression
    encoded = b"" if metadata is None else json.dumps(metadata).encode()
    return KeyExtractor(parse(settings).key).key(stream, encoded)


BOTH = {"key1": "regionA", "key2": "zone1"}
DATA = r"^(.*)_data$"


@pytest.mark.check("A40")
@pytest.mark.parametrize(
    ("number", "source", "expression", "stream", "metadata", "expected"),
    [
        (1, None, None, "user-123", None, None),
        (2, "partitionKey", None, "user-123", None, None),
        (3, "stream", None, "orders_data", None, "orders_data"),
        (4, "stream", DATA, "orders_data", None, "orders"),
        (5, "stream", DATA, "orders_log", None, None),
        (6, "stream", "[a-z]+", "user-123", None, "user"),
        (7, "stream", r"^(\w+)-(\d+)$", "user-123", None, "user"),
        (8, "stream", "^(x)?user", "user-123", None, None),
        (10, "streamSuffix", None, "user-123", None, "123"),
        (11, "streamSuffix", None, "order-2021-05-15", None, "15"),
        (12, "streamSuffix", None, "inventory", None, None),
        (13, "streamSuffix", None, "user-", None, None),
        (14, "headers", "key1,key2", "s", BOTH, "regionA-zone1"),
        (15, "headers", "key2, key1", "s", BOTH, "zone1-regionA"),
        (16, "headers", "key1,key2", "s", {"key1": "regionA"}, "regionA"),
        (17, "headers", "key1,key2", "s", None, None),
        (18, "headers", "Key1", "s", {"key1": "regionA"}, None),
        (19, "headers", "tenant", "s", {"tenant": 7}, "7"),
        (20, "headers", "key1", "s", {"key1": ""}, None),
    ],
)
def test_the_documented_examples(
    number: int, source: str | None, expression: str | None, stream: str, metadata: object, expected: str | None
) -> None:
    """A40"""
    assert key(source, expression, stream, metadata) == expected


@pytest.mark.check("A40")
def test_an_expression_that_is_none_is_refused() -> None:
    """A40, example 9"""
    with pytest.raises(InvalidSettings) as raised:
        key("stream", "(", "any")
    assert raised.value.violations.keys() == {"partitionKeyExtraction:expression"}


def test_a_records_own_key_counts_where_nothing_is_extracted() -> None:
    own = {"esdb.partition-key": "mine"}
    assert key(None, None, "s", own) == "mine"
    assert key("streamSuffix", None, "inventory", own) == "mine"
    assert key("streamSuffix", None, "user-1", own) == "1"


@pytest.mark.parametrize("metadata", [b"", b"\xff", b"[1]", b"3", b'{"key1"', b"null"])
def test_metadata_of_any_kind_is_no_error(metadata: bytes) -> None:
    settings = parse(
        {
            "instanceTypeName": "kafka-sink",
            "topic": "loans",
            "partitionKeyExtraction:enabled": "true",
            "partitionKeyExtraction:source": "headers",
            "partitionKeyExtraction:expression": "key1",
        }
    )
    assert KeyExtractor(settings.key).key("s", metadata) is None


def test_groups_are_named_as_in_dot_net() -> None:
    assert key("stream", r"^(?<who>\w+)-", "user-123") == "user"


def test_an_expression_that_does_not_come_to_an_end_is_stopped() -> None:
    with pytest.raises(Undeliverable, match=r"^partitionKeyExtraction:expression: .* took longer than") as raised:
        key("stream", r"^(a|aa)+$", "a" * 60 + "b")
    assert "nested repetitions" in raised.value.hint


def test_a_router_names_the_record_whose_key_cannot_be_told() -> None:
    router = Router(KeySettings(KeySource.STREAM, "^(a|aa)+$"), Layout(4, 4, "k"), Cursor.BEGINNING)
    with pytest.raises(Undeliverable, match=r"^Record id-7 at position 7: partitionKeyExtraction:expression: "):
        router.lane_of(record(7, stream="a" * 60 + "b"))


def test_a_key_decides_its_partition_as_librdkafka_does() -> None:
    assert partition_of(b"LoanRequest-1", "id", 12) == crc32(b"LoanRequest-1") % 12


def test_without_a_key_the_records_id_decides() -> None:
    assert partition_of(None, "id-1", 12) == crc32(b"id-1") % 12


def test_with_murmur2_a_key_decides_its_partition_as_java_does() -> None:
    # What Kafka's BuiltInPartitioner.partitionForKey answered; the second hash is negative.
    assert [java_partition_of(key, "id", 12) for key in (b"abc", b"a-little-bit-long-string")] == [3, 8]
    assert java_partition_of(None, "id-1", 12) == java_partition_of(b"", "id-1", 12) == partition_of(None, "id-1", 12)


def test_the_partitioner_decides_which() -> None:
    assert placement(KeySettings()) is partition_of
    assert placement(KeySettings(partitioner=Partitioner.MURMUR2_RANDOM)) is java_partition_of


def test_each_partition_is_fed_by_one_lane() -> None:
    assert [lane_of(partition, 4) for partition in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]
