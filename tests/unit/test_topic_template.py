"""The setting `topic` as a template: what it may say, and what it makes of records (an addition of ours)."""

from __future__ import annotations

import pytest

from sinkworker.connectors.errors import InvalidSettings
from sinkworker.connectors.settings import SinkSettings, parse
from sinkworker.connectors.topic_template import TopicTemplate
from sinkworker.errors import Undeliverable


def settings(topic: str, **others: str) -> SinkSettings:
    return parse({"instanceTypeName": "kafka-sink", "topic": topic, **others})


@pytest.mark.parametrize(
    "topic",
    [
        "orders.{category}",
        "{eventType}",
        "{Category}-{EVENTTYPE}",
        "{metadata.tenant}",
        "a{metadata.$x y}_{category}",
    ],
)
def test_what_has_braces_is_a_template(topic: str) -> None:
    assert settings(topic).topic_is_template


def test_what_has_none_is_a_name() -> None:
    assert not settings("orders.category").topic_is_template


@pytest.mark.parametrize(
    ("topic", "faults"),
    [
        ("orders.{tenant}", ["has {tenant}, and there are {category}, {eventType} and {metadata.NAME}"]),
        ("orders.{}", ["has {}, and there are"]),
        ("orders.{metadata.}", ["has {metadata.}, and there are"]),
        ("orders.{category", ["has a '{' without its counterpart"]),
        ("orders.category}", ["has a '}' without its counterpart"]),
        ("{{category}}", ["has a '{' without", "has a '}' without"]),
        ("orders/{category}", ["has 'orders/', and only letters, digits"]),
        ("a b{nothing}{", ["has 'a b'", "has {nothing}", "has a '{' without"]),
        ("a" * 249 + "{category}", ["makes names of more than 249 characters"]),
    ],
)
def test_a_template_is_refused_with_everything_that_is_wrong_with_it(topic: str, faults: list[str]) -> None:
    with pytest.raises(InvalidSettings) as raised:
        settings(topic)
    (said,) = raised.value.violations["topic"]
    assert said.startswith("is no template for topic names: it ")
    assert all(fault in said for fault in faults), said


def test_no_dead_letter_topic_is_a_template() -> None:
    with pytest.raises(InvalidSettings) as raised:
        settings("loans", **{"errors:policy": "deadLetter", "errors:deadLetterTopic": "dead.{category}"})
    assert raised.value.violations.keys() == {"errors:deadLetterTopic"}


def topic_of(template: str, stream: str = "order-17-a", type: str = "Placed", metadata: bytes = b"") -> str:
    return TopicTemplate(template).topic_of(stream, type, metadata)


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("orders.{category}", "orders.order"),
        ("{CATEGORY}.{eventtype}.v1", "order.Placed.v1"),
        ("{metadata.tenant}_{category}", "north_order"),
        ("{metadata.a.b}", "dotted"),
        ("{metadata.number}", "7"),
        ("{category}{category}", "orderorder"),
    ],
)
def test_placeholders_stand_for_category_type_and_metadata(template: str, topic: str) -> None:
    metadata = b'{"tenant": "north", "a.b": "dotted", "a": {"b": "nested"}, "number": 7}'
    assert topic_of(template, metadata=metadata) == topic


@pytest.mark.parametrize(
    ("template", "record", "why"),
    [
        ("{category}", {"stream": "orders"}, "it has no {category}"),
        ("{category}", {"stream": "-17"}, "it has no {category}"),
        ("{category}", {"stream": "$$order-1"}, "'$$order' is no legal name"),
        ("t.{metadata.tenant}", {}, "it has no {metadata.tenant}"),
        ("t.{metadata.tenant}", {"metadata": b'{"tenant": ""}'}, "it has no {metadata.tenant}"),
        ("t.{metadata.tenant}", {"metadata": b'{"tenant": null}'}, "it has no {metadata.tenant}"),
        ("t.{metadata.tenant}", {"metadata": b'{"Tenant": "north"}'}, "it has no {metadata.tenant}"),
        ("t.{metadata.tenant}", {"metadata": b"\xff"}, "it has no {metadata.tenant}"),
        ("t.{metadata.tenant}", {"metadata": b'{"tenant": {"a": 1}}'}, "is no legal name"),
        ("t.{eventType}", {"type": "Order Placed"}, "'t.Order Placed' is no legal name"),
        ("{eventType}", {"type": ".."}, "'..' is no legal name"),
        ("{eventType}", {"type": "Placed\n"}, "is no legal name"),
        ("{eventType}", {"type": "Größe"}, "is no legal name"),
        ("{eventType}", {"type": "a" * 250}, "…' is no legal name"),
    ],
)
def test_a_record_without_a_legal_name_has_no_topic(template: str, record: dict[str, object], why: str) -> None:
    with pytest.raises(Undeliverable) as raised:
        topic_of(template, **record)  # type: ignore[arg-type]  # texts and bytes, as the parameters want them
    assert raised.value.code == "topic-unnameable"
    assert why in raised.value.message
    assert template in raised.value.message
    assert len(raised.value.message) < 500


def test_a_name_may_have_249_characters() -> None:
    assert topic_of("{eventType}", type="a" * 249) == "a" * 249
