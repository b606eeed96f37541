"""What a producer knows of the topics it sends to, without a broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sinkworker.delivery.producer import LaneProducer
from sinkworker.delivery.window import InFlight
from sinkworker.outgoing import Outgoing
from tests.builders import batch


@pytest.fixture
def producer() -> Iterator[LaneProducer]:
    made = LaneProducer({"bootstrap.servers": "127.0.0.1:1", "enable.idempotence": True}, [3_000, 5_000])
    yield made
    made.abandon()


def record(topic: str, partition: int) -> Outgoing:
    return Outgoing("id-1", "loan-1", "Requested", 1, b"k", b"{}", [], 0.0, topic, partition)


def test_a_confirmation_primes_one_partition_of_one_topic(producer: LaneProducer) -> None:
    producer._on_report(InFlight(batch(0, 0, 1)), record("north", 0), None, None)  # type: ignore[arg-type]  # unused
    assert producer.primed(record("north", 0))
    assert not producer.primed(record("north", 1))
    assert not producer.primed(record("south", 0))  # R6


def test_it_suits_topics_within_the_limits_that_it_was_made_for(producer: LaneProducer) -> None:
    assert [producer.suits(limit) for limit in (2_999, 3_000, 5_000, 5_001)] == [False, True, True, False]  # R7
