"""When a start opens a generation (R3), and where it begins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sinkworker.connectors.lifecycle import Connector, GenerationInfo, ProgressPlace, State
from sinkworker.connectors.settings import SinkSettings, parse
from sinkworker.errors import Misconfigured
from sinkworker.model import Cursor, Generation, LaneNumber, Layout, Position, Revision
from sinkworker.scheduling.generations import (
    MOST_LANES,
    FromBeginning,
    FromCheckpoint,
    FromNow,
    FromPosition,
    layout,
    opening,
)
from tests.builders import stopped_connector

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHECKPOINT = Cursor(Position(500), Position(500), Revision(4), "e-4")
AHEAD = Cursor(Position(900), Position(900), Revision(9), "e-9")


def settings(**changes: str) -> SinkSettings:
    return parse({"instanceTypeName": "kafka-sink", "topic": "loans", **changes})


def connector(config: SinkSettings | None = None, *, generation: bool = True) -> Connector:
    config = config or settings()
    info = GenerationInfo(
        id=Generation("generation-2"),
        start=Cursor.BEGINNING,
        layout=layout(config, 4),
        fingerprint=config.generation_fingerprint(),
        reason="first start",
        opened_at=NOW,
    )
    found = info if generation else None
    return replace(stopped_connector(), state=State.ACTIVATING, should_run=True, generation=found)


@pytest.mark.parametrize(("initial", "start"), [("earliest", FromBeginning()), ("latest", FromNow())])
def test_the_first_start_begins_where_the_settings_say(initial: str, start: object) -> None:
    config = settings(**{"subscription:initialPosition": initial})
    found = opening(connector(config, generation=False), config, config.generation_fingerprint(), None, None)
    assert found is not None
    assert found.start == start


def test_a_start_with_the_same_settings_goes_on() -> None:
    config = settings()
    assert opening(connector(config), config, config.generation_fingerprint(), CHECKPOINT, 4) is None


def test_a_position_that_a_person_named_outranks_the_checkpoint() -> None:
    config = settings()
    asked = replace(connector(config), start_request=Position(77))
    found = opening(asked, config, config.generation_fingerprint(), CHECKPOINT, 4)
    assert found is not None
    assert found.start == FromPosition(Position(77))


def test_position_zero_is_the_very_beginning() -> None:
    config = settings()
    asked = replace(connector(config), start_request=Position(0))
    found = opening(asked, config, config.generation_fingerprint(), CHECKPOINT, 4)
    assert found is not None
    assert found.start == FromBeginning()


@pytest.mark.parametrize(
    "changes",
    [
        {"topic": "other"},
        {"bootstrapServers": "elsewhere:9092"},
        {"subscription:filter:expression": "loan-", "subscription:filter:filterType": "prefix"},
        {"partitionKeyExtraction:enabled": "true", "partitionKeyExtraction:source": "stream"},
        {"lanes:count": "3"},
        {"partitioner": "murmur2_random"},
    ],
)
def test_settings_that_decide_what_progress_means_open_a_generation_at_the_checkpoint(changes: dict[str, str]) -> None:
    changed = settings(**changes)
    found = opening(connector(settings()), changed, changed.generation_fingerprint(), CHECKPOINT, None)
    assert found is not None
    assert found.start == FromCheckpoint(CHECKPOINT)


@pytest.mark.parametrize(
    "changes",
    [
        {"defaultHeaders:X": "y"},
        {"compression:type": "none"},
        {"waitForBrokerAck": "true"},
        {"format": "cloudevents"},
        {"headers:traceContext": "true"},
        {"partitioner": "consistent_random"},
    ],
)
def test_other_settings_do_not(changes: dict[str, str]) -> None:
    changed = settings(**changes)
    assert opening(connector(settings()), changed, changed.generation_fingerprint(), CHECKPOINT, 4) is None


def drained(config: SinkSettings, progress: dict[LaneNumber, Cursor]) -> Connector:
    ran = replace(connector(config), ran_revision=Revision(7))
    return replace(ran, drained_revision=Revision(8), drained=progress)


def test_a_topic_that_gained_partitions_opens_a_generation_where_nothing_is_ahead_of_the_checkpoint() -> None:
    config = settings()
    stopped = drained(config, {LaneNumber(1): CHECKPOINT})
    found = opening(stopped, config, config.generation_fingerprint(), CHECKPOINT, 6)
    assert found is not None
    assert found.start == FromCheckpoint(CHECKPOINT)


def test_the_old_partition_count_stays_where_a_lane_is_ahead_of_the_checkpoint() -> None:
    config = settings()
    stopped = drained(config, {LaneNumber(1): AHEAD})
    assert opening(stopped, config, config.generation_fingerprint(), CHECKPOINT, 6) is None


def test_the_old_partition_count_stays_after_an_epoch_that_did_not_end_in_order() -> None:
    config = settings()
    crashed = replace(drained(config, {}), ran_revision=Revision(9))
    assert opening(crashed, config, config.generation_fingerprint(), CHECKPOINT, 6) is None


EXACTLY_ONCE = {"delivery:guarantee": "exactlyOnce"}


@pytest.mark.parametrize(("old", "new"), [({}, EXACTLY_ONCE), (EXACTLY_ONCE, {}), (EXACTLY_ONCE, EXACTLY_ONCE)])
@pytest.mark.parametrize("progress", [{}, {LaneNumber(1): AHEAD}])
def test_other_settings_wait_until_nothing_is_ahead_where_each_record_is_promised_once(
    old: dict[str, str], new: dict[str, str], progress: dict[LaneNumber, Cursor]
) -> None:
    changed = settings(**{**new, "lanes:count": "3"})
    stopped = drained(settings(**old), progress)
    assert stopped.generation is not None
    if old:
        stopped = replace(stopped, generation=replace(stopped.generation, progress=ProgressPlace("loans", "id")))
    if progress:
        with pytest.raises(Misconfigured, match="ahead of the checkpoint"):  # X4
            opening(stopped, changed, changed.generation_fingerprint(), CHECKPOINT, 4)
    else:
        found = opening(stopped, changed, changed.generation_fingerprint(), CHECKPOINT, 4)
        assert found is not None
        assert found.start == FromCheckpoint(CHECKPOINT)


@pytest.mark.parametrize(("partitions", "lanes"), [(1, 1), (12, 12), (64, 64), (200, MOST_LANES)])
def test_a_topic_has_one_lane_for_each_partition_up_to_a_limit(partitions: int, lanes: int) -> None:
    assert layout(settings(), partitions) == Layout(partitions, lanes, settings().key_fingerprint())


@pytest.mark.parametrize("source", ["partitionKey", "stream", "headers"])
def test_another_partitioner_is_another_layout(source: str) -> None:
    keys = {"partitionKeyExtraction:enabled": "true", "partitionKeyExtraction:source": source}
    keys["partitionKeyExtraction:expression"] = "tenant"
    assert layout(settings(**keys, partitioner="murmur2_random"), 6) != layout(settings(**keys), 6)


def test_the_setting_for_lanes_counts_more() -> None:
    assert layout(settings(**{"lanes:count": "5"}), 12).lanes == 5


def test_a_template_has_32_lanes_unless_it_is_told_otherwise() -> None:
    assert layout(settings(topic="loans.{category}"), 0).lanes == 32
    assert layout(settings(topic="loans.{category}", **{"lanes:count": "5"}), 0).lanes == 5


def test_a_start_with_a_template_goes_on_and_one_with_another_opens_a_generation() -> None:
    config = settings(topic="loans.{category}")
    held = replace(connector(config), drained_revision=Revision(6), drained={})
    assert opening(held, config, config.generation_fingerprint(), CHECKPOINT, 0) is None
    other = settings(topic="loans.{eventType}")
    found = opening(held, other, other.generation_fingerprint(), CHECKPOINT, 0)
    assert found is not None
    assert found.reason == "settings changed: topic"
