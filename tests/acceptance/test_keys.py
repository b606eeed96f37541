"""A40-A42: partition keys (contract §5), out of Kafka. One connector for each of the settings in the examples."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.acceptance.product import Product, Sink, json_event, unique

TYPE = unique("KeyExample")
DATA = r"^(.*)_data$"
BOTH = {"key1": "regionA", "key2": "zone1"}

EXAMPLES: list[tuple[int, str, str, str, Mapping[str, object], str | None]] = [
    # number, source, expression, stream, metadata, key
    (1, "off", "", "user-123", {}, None),
    (2, "partitionKey", "", "user-123", {}, None),
    (3, "stream", "", "orders_data", {}, "orders_data"),
    (4, "stream", DATA, "orders_data", {}, "orders"),
    (5, "stream", DATA, "orders_log", {}, None),
    (6, "stream", "[a-z]+", "user-123", {}, "user"),
    (7, "stream", r"^(\w+)-(\d+)$", "user-123", {}, "user"),
    (8, "stream", "^(x)?user", "user-123", {}, None),
    (10, "streamSuffix", "", "user-123", {}, "123"),
    (11, "streamSuffix", "", "order-2021-05-15", {}, "15"),
    (12, "streamSuffix", "", "inventory", {}, None),
    (13, "streamSuffix", "", "user-", {}, None),
    (14, "headers", "key1,key2", "any", BOTH, "regionA-zone1"),
    (15, "headers", "key2, key1", "any", BOTH, "zone1-regionA"),
    (16, "headers", "key1,key2", "any", {"key1": "regionA"}, "regionA"),
    (17, "headers", "key1,key2", "any", {}, None),
    (18, "headers", "Key1", "any", {"key1": "regionA"}, None),
    (19, "headers", "tenant", "any", {"tenant": 7}, "7"),
    (20, "headers", "key1", "any", {"key1": ""}, None),
]
NUMBERS = [number for number, *_ in EXAMPLES]


def extraction(source: str, expression: str) -> dict[str, str]:
    if source == "off":
        return {}
    given = {"enabled": "true", "source": source, **({"expression": expression} if expression else {})}
    return {f"partitionKeyExtraction:{key}": value for key, value in given.items()}


def of_type(type: str) -> dict[str, str]:
    given = {"scope": "record", "filterType": "prefix", "expression": type}
    return {f"subscription:filter:{key}": value for key, value in given.items()}


@pytest.fixture(scope="module")
def keys(product: Product) -> Mapping[int, bytes | None]:
    """The key of each example's message."""
    for number, _, _, stream, metadata, _ in EXAMPLES:
        product.append(stream, json_event(TYPE, number, metadata or None))
    settings = {(source, expression) for _, source, expression, *_ in EXAMPLES}
    sinks = {each: product.running({**of_type(TYPE), **extraction(*each)}) for each in sorted(settings)}
    found = {}
    for number, source, expression, *_ in EXAMPLES:
        messages = sinks[source, expression].messages(len(EXAMPLES))
        (found[number],) = [each.key for each in messages if each.value == b"%d" % number]
    return found


@pytest.mark.long  # many connectors at once; the plain suite has the examples in tests/unit/test_keys.py
@pytest.mark.check("A40")
@pytest.mark.parametrize("example", EXAMPLES, ids=NUMBERS)
def test_the_twenty_examples(keys: Mapping[int, bytes | None], example: tuple[object, ...]) -> None:
    number, expected = example[0], example[-1]
    assert isinstance(number, int)
    assert keys[number] == (expected.encode() if isinstance(expected, str) else None)


@pytest.mark.check("A40")
@pytest.mark.parametrize("expression", ["(", "(a{9999}){9999}"])
def test_example_9_an_expression_that_is_none_is_refused(product: Product, expression: str) -> None:
    assert product.refusal(extraction("stream", expression)).keys() == {"partitionKeyExtraction:expression"}


def test_an_expression_that_does_not_come_to_an_end_stops_the_connector_with_the_record_and_the_setting(
    product: Product,
) -> None:
    type = unique("Explosive")
    product.append("a" * 20, json_event(type, 1))
    position = product.append("a" * 60 + "b", json_event(type, 2))
    sink = product.running({**of_type(type), **extraction("stream", "^(a|aa)+$")})
    reason = sink.fails()
    assert reason["code"] == "regex-timeout"
    assert reason["message"].startswith("Record ")
    assert f" at position {position}: partitionKeyExtraction:expression: " in reason["message"]
    assert sink.position < position
    assert b"2" not in [message.value for message in sink.messages()]


def to_four_partitions(product: Product, type: str, source: str) -> Sink:
    return product.running({**of_type(type), **extraction(source, "")}, partitions=4)


@pytest.mark.check("A41")
def test_messages_without_a_key_spread_over_partitions(product: Product) -> None:
    type = unique("Unkeyed")
    product.append(unique("unkeyed-"), *(json_event(type, number) for number in range(200)))
    messages = to_four_partitions(product, type, "off").messages(200)
    assert {message.key for message in messages} == {None}
    assert len({message.partition for message in messages}) > 1


@pytest.mark.check("A42")
def test_messages_of_one_key_are_on_one_partition_in_the_order_of_the_log(product: Product) -> None:
    type = unique("Keyed")
    streams = [unique("keyed-") for _ in range(8)]
    for number in range(5):
        for stream in streams:
            product.append(stream, *(json_event(type, 6 * number + step) for step in range(6)))
    messages = to_four_partitions(product, type, "stream").messages(8 * 30)
    for stream in streams:
        of_key = [message for message in messages if message.key == stream.encode()]
        assert len({message.partition for message in of_key}) == 1
        assert [message.value for message in of_key] == [b"%d" % number for number in range(30)]
    for partition in range(4):
        positions = [message.position for message in messages if message.partition == partition]
        assert positions == sorted(positions)
