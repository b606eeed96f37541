"""What Kafka remembers of a lane: names that never meet (X1), and marks that are missed when they are gone (X5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sinkworker.connectors.lifecycle import Connector
from sinkworker.errors import Misconfigured
from sinkworker.exactly_once.marks import Lineage, Mark, behind, to_restore
from sinkworker.model import Cursor, Generation, LaneNumber, Revision
from tests.builders import cursor, stopped_connector

STOPPED = replace(stopped_connector(), ran_revision=Revision(4), drained_revision=Revision(5))
CRASHED = replace(STOPPED, ran_revision=Revision(6))
NEVER_RAN = replace(STOPPED, ran_revision=None, drained_revision=None)
ZERO, ONE = LaneNumber(0), LaneNumber(1)
CHECKPOINT = cursor(50)


def test_no_two_deployments_connectors_generations_or_lanes_share_a_name() -> None:
    names = {
        Lineage(deployment, connector, Generation(generation)).name(LaneNumber(lane))
        for deployment in ("north", "south")
        for connector in ("loans", "loans-2")
        for generation in ("g1", "g2")
        for lane in range(3)
    }
    assert len(names) == 24  # X1
    assert all(name.startswith("sinkworker-") for name in names)  # what users grant rights on


@pytest.mark.parametrize("mark", [Mark(cursor(42)), Mark(Cursor.BEGINNING), Mark(cursor(7), closed=True)])
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    read = Mark.decode(mark.encode())
    assert read == mark
    assert read.cursor.record_id == mark.cursor.record_id
    assert mark.offset >= 0


@pytest.mark.parametrize("text", ["1 open", "2 open -", "1 ajar -", "1 open 12", "somebody else's"])
def test_what_nobody_of_ours_wrote_is_not_guessed_at(text: str) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        Mark.decode(text)


def test_brokers_that_keep_no_metadata_are_told_from_a_foreign_mark() -> None:
    with pytest.raises(Misconfigured, match="Apache Kafka") as told:
        Mark.decode("")
    assert told.value.code == "transactions-unsupported"


def test_marks_that_are_there_need_nothing() -> None:
    assert to_restore({ZERO: Mark(cursor(60)), ONE: Mark(cursor(10))}, CRASHED, CHECKPOINT) == {}


def test_a_closed_mark_is_of_a_start_that_was_not_completed() -> None:
    assert to_restore({ZERO: Mark(cursor(60), closed=True)}, CRASHED, CHECKPOINT) == {ZERO: cursor(60)}


@pytest.mark.parametrize("connector", [STOPPED, NEVER_RAN, replace(STOPPED, drained={ONE: cursor(90)})])
def test_a_mark_that_has_expired_does_no_harm_where_its_lane_was_not_ahead(connector: Connector) -> None:
    assert to_restore({ZERO: None, ONE: Mark(cursor(90))}, connector, CHECKPOINT) == {ZERO: CHECKPOINT}


@pytest.mark.parametrize("connector", [CRASHED, replace(STOPPED, drained={ZERO: cursor(90)})])
def test_a_mark_that_is_gone_is_missed_where_its_lane_may_have_been_ahead(connector: Connector) -> None:
    with pytest.raises(Misconfigured, match="forgotten how far lane 0") as told:
        to_restore({ZERO: None}, connector, CHECKPOINT)  # X5
    assert told.value.code == "progress-lost"


@pytest.mark.parametrize(
    ("remembered", "delivered", "expected"),
    [
        ({ZERO: cursor(60)}, {ZERO: cursor(60)}, None),
        ({ZERO: cursor(60)}, {ZERO: cursor(70)}, None),
        ({ZERO: cursor(40)}, {}, None),
        ({ZERO: cursor(60)}, {ZERO: cursor(55)}, ZERO),
        ({ZERO: cursor(60), ONE: cursor(70)}, {ZERO: cursor(60)}, ONE),
    ],
)
def test_kafka_must_have_what_was_known_to_be_delivered(
    remembered: dict[LaneNumber, Cursor], delivered: dict[LaneNumber, Cursor], expected: LaneNumber | None
) -> None:
    assert behind(remembered, delivered, CHECKPOINT) == expected  # X5
