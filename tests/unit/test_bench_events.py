"""The benchmark's events and its script: what the comparison assumes of them."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import orjson
import pytest

from sinkworker.bench import script
from sinkworker.bench.events import BODY_BYTES, CATEGORY, Orders, per_partition
from sinkworker.bench.log import Written
from sinkworker.bench.roles import SETTINGS
from sinkworker.connectors.settings import parse
from sinkworker.demo.loans import LARGEST_APPEND
from sinkworker.demo.topic import Consumed


@pytest.mark.parametrize(("events", "streams"), [(1, 1), (7, 20), (1000, 300), (100_000, 2000), (5000, 3)])
def test_there_are_exactly_as_many_events_as_asked_for_over_as_many_streams_as_can_be(
    events: int, streams: int
) -> None:
    appends = list(Orders(streams).appends(events))
    assert sum(len(append.events) for append in appends) == events
    assert len({append.stream for append in appends}) == min(events, streams)
    assert max(len(append.events) for append in appends) <= LARGEST_APPEND


def test_every_body_is_json_of_the_same_size() -> None:
    for append in Orders(5).appends(500):
        for event in append.events:
            assert len(event.data) == BODY_BYTES
            assert orjson.loads(event.data)["orderId"] == append.stream


def test_each_append_expects_what_the_one_before_it_left() -> None:
    revisions: dict[str, int] = {}
    for append in Orders(20, "live-").appends(2000):
        assert append.stream.startswith(CATEGORY)
        assert append.after == revisions.get(append.stream)
        revisions[append.stream] = (append.after if append.after is not None else -1) + len(append.events)


def test_partitions_are_counted_without_those_that_get_nothing() -> None:
    counts = per_partition(Orders(3).appends(90), 12)
    assert sum(counts.values()) == 90
    assert 0 not in Counter(counts.values())


def test_the_script_has_the_producer_options_of_the_connector() -> None:
    ours = parse({**SETTINGS, "topic": "any"}).producer_options("any")
    # the rest are the library's own defaults, or what only a connector has to name
    assert {name: ours[name] for name in script.PRODUCER_OPTIONS if name in ours} == {
        name: value for name, value in script.PRODUCER_OPTIONS.items() if name in ours
    }


@pytest.mark.parametrize(
    ("message", "differs"),
    [
        (Consumed(0, b"BenchOrder-1", b"body", {}), False),
        (Consumed(0, b"BenchOrder-1", b"other", {}), True),
        (Consumed(0, b"BenchOrder-2", b"body", {}), True),
        (Consumed(0, None, b"body", {}), True),
    ],
)
def test_a_message_with_another_body_or_key_is_altered(message: Consumed, differs: bool) -> None:
    assert Written(UUID(int=1), "BenchOrder-1", b"body").differs(message) is differs
