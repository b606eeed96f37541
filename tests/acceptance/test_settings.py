"""A55: every documented producer option, and the common keys that have no effect on this sink (contract §2)."""

from __future__ import annotations

import pytest

from sinkworker.connectors.settings import parse
from tests.acceptance.product import Product, json_event, unique
from tests.acceptance.test_checkpoints import over

WITHOUT_EFFECT = {
    "resilience:enabled": "true",
    **{
        f"resilience:{bound}DelayBound:{key}": value
        for bound in ("first", "second", "third")
        for key, value in {"upperLimitMs": "60000", "delayMs": "5000"}.items()
    },
}
OTHERS = {
    "resilience:messageSendMaxRetries": "7",
    "resilience:reconnectBackoffMaxMs": "50",
    "brokerAddressFamily": "Any",
    "compression:type": "Gzip",
    "compression:level": "3",
}


def options(**settings: str) -> dict[str, object]:
    required = {"instanceTypeName": "kafka-sink", "topic": "loans"}
    return dict(parse({**required, **settings}).producer_options("loans-sink"))


@pytest.mark.check("A55")
def test_without_settings_the_producer_has_the_documented_options() -> None:
    assert options() == {
        "bootstrap.servers": "localhost:9092",
        "security.protocol": "PLAINTEXT",
        "enable.idempotence": True,
        "compression.type": "zstd",
        "compression.level": 6,
        "broker.address.family": "v4",
        "message.send.max.retries": 2147483647,
        "reconnect.backoff.max.ms": 20000,
        "reconnect.backoff.ms": 100,
        "message.timeout.ms": 0,
        "partitioner": "consistent_random",
        "client.id": "loans-sink",
    }
    assert options(**WITHOUT_EFFECT) == options()


@pytest.mark.check("A55")
def test_every_setting_of_the_producer_becomes_its_option() -> None:
    assert options(**OTHERS) == {
        **options(),
        "compression.type": "gzip",
        "compression.level": 3,
        "broker.address.family": "any",
        "message.send.max.retries": 7,
        "reconnect.backoff.max.ms": 50,
        "reconnect.backoff.ms": 50,
    }
    for type in ("None", "Gzip", "Lz4", "Zstd", "Snappy"):
        assert options(**{"compression:type": type})["compression.type"] == type.lower()
    for family in ("Any", "V4", "V6"):
        assert options(brokerAddressFamily=family)["broker.address.family"] == family.lower()


@pytest.mark.check("A55")
def test_a_connector_with_such_settings_delivers(product: Product) -> None:
    stream = unique("options-")
    product.append(stream, *(json_event("Counted", number) for number in range(20)))
    sink = product.running({**over(stream), **OTHERS, **WITHOUT_EFFECT})
    assert [message.value for message in sink.messages(20)] == [b"%d" % number for number in range(20)]
