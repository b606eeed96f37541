"""Which lanes are due to have their marks committed again, by a clock of the test's."""

from __future__ import annotations

import pytest

from sinkworker.model import LaneNumber
from sinkworker.scheduling.renewal import LONGEST_S, Renewal, interval_s

ZERO, ONE = LaneNumber(0), LaneNumber(1)


@pytest.mark.parametrize(("retention_s", "expected"), [(60.0, 15.0), (7 * 86400.0, LONGEST_S), (None, LONGEST_S)])
def test_a_lane_is_renewed_several_times_before_its_mark_expires(retention_s: float | None, expected: float) -> None:
    assert interval_s(retention_s) == expected


def test_an_idle_lane_is_due_once_in_each_interval() -> None:
    renewal = Renewal(2, 100, 0, lambda: 1.0)
    assert renewal.due(99) == []
    renewal.used([ONE], 50)
    assert renewal.due(100) == [ZERO]
    renewal.used([ZERO], 100)
    assert renewal.due(149) == []
    assert renewal.due(150) == [ONE]


def test_an_epoch_that_is_short_renews_some() -> None:
    waits = iter([0.1, 0.9])
    assert Renewal(2, 100, 0, lambda: next(waits)).due(50) == [ZERO]
