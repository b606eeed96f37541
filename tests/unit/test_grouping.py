"""Which activations share a task."""

from __future__ import annotations

from sinkworker.ledger.contract import Activation, Survey
from sinkworker.model import LaneNumber
from sinkworker.scheduling.grouping import FEW_RECORDS, HOLD_S, Grouping

NOW_S = 100.0


def lanes(*numbers: int) -> list[Activation]:
    return [Activation(LaneNumber(number), 1) for number in numbers]


def survey(*waiting: int, held: int = 0) -> Survey:
    """Mailboxes with something in them, and how many lanes workers hold."""
    return Survey(counter=1, mailboxes={LaneNumber(number): 1 for number in waiting}, in_flight_bytes=0, held=held)


def grouping(*numbers: int) -> Grouping:
    made = Grouping()
    made.add(lanes(*numbers), NOW_S)
    return made


def test_the_first_lane_leaves_at_once() -> None:
    made = grouping(1)
    assert made.due(survey(1), 1, NOW_S) == [lanes(1)]
    assert not made


def test_lanes_that_come_together_share_a_task() -> None:
    assert grouping(1, 2).due(survey(1, 2), 2, NOW_S) == [lanes(1, 2)]


def test_while_a_task_waits_for_a_worker_those_that_follow_wait_for_each_other() -> None:
    made = grouping(2)
    assert made.due(survey(1, 2), 1, NOW_S) == []
    made.add(lanes(3), NOW_S + HOLD_S / 2)
    assert made.due(survey(1, 2, 3), 1, NOW_S + HOLD_S / 2) == []
    assert made
    assert made.due(survey(1, 2, 3, held=1), 0, NOW_S + HOLD_S / 2) == [lanes(2, 3)]
    assert made.due(survey(1, 2, 3), 0, NOW_S + HOLD_S / 2) == []


def test_nobody_waits_for_long() -> None:
    made = grouping(2)
    made.add(lanes(3), NOW_S + HOLD_S / 2)
    assert made.due(survey(1, 2, 3), 1, NOW_S + HOLD_S + 0.01) == [lanes(2, 3)]


def test_under_load_each_lane_is_a_task_of_its_own() -> None:
    assert grouping(2, 3).due(survey(1, 2, 3), FEW_RECORDS + 1, NOW_S) == [lanes(2), lanes(3)]


def test_at_the_end_nobody_is_left_behind() -> None:
    made = grouping(2, 3)
    assert (made.rest(), made.rest()) == ([lanes(2, 3)], [])
