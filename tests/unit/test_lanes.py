"""Buffers, batches, flow control and the frontier, without I/O."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sinkworker.ledger import payload
from sinkworker.ledger.contract import Survey
from sinkworker.model import Cursor, LaneNumber, Record
from sinkworker.scheduling.lanes import Lanes, Limits
from tests import builders
from tests.builders import cursor

LIMITS = Limits(batch_records=4, batch_bytes=100, eager_depth=1, lane_depth=3, undelivered_bytes=400, record_bytes=0)
LANE, OTHER = LaneNumber(0), LaneNumber(1)


def record(position: int, size: int = 10) -> Record:
    return builders.record(position, b"x" * size)


def survey(depth: int = 0, in_flight_bytes: int = 0, lane: int = 0) -> Survey:
    mailboxes = {LaneNumber(lane): depth} if depth else {}
    return Survey(counter=1, mailboxes=mailboxes, in_flight_bytes=in_flight_bytes)


def lanes(progress: dict[LaneNumber, Cursor] | None = None, limits: Limits = LIMITS) -> Lanes:
    return Lanes(Cursor.BEGINNING, progress or {}, limits)


def test_a_record_leaves_at_once_when_nothing_waits_before_it() -> None:
    core = lanes()
    core.offer(record(10), LANE)
    (batch,) = core.take()
    assert (batch.before, batch.last, batch.count) == (Cursor.BEGINNING, cursor(10), 1)
    assert core.frontier == cursor(10)


def test_a_busy_lane_collects_until_a_batch_is_full() -> None:
    core = lanes()
    core.observe(survey(depth=1))
    for position in (10, 20, 30):
        core.offer(record(position), LANE)
        assert core.take() == []
    core.offer(record(40), LANE)
    (batch,) = core.take()
    assert batch.count == 4


def test_with_a_limit_only_what_begins_before_it_leaves() -> None:
    core = lanes()
    for position, lane in ((10, LANE), (20, LANE), (30, OTHER), (40, LANE)):
        core.offer(record(position), lane)
    assert [each.lane for each in core.take(cursor(20))] == [LANE]
    assert not core.holds(cursor(20))
    assert core.holds(cursor(21))  # the other lane's, which begins just after the record at 20
    assert core.frontier == cursor(20)


def test_a_full_mailbox_takes_nothing_more() -> None:
    core = lanes()
    core.observe(survey(depth=3))
    for position in range(10, 100, 10):
        core.offer(record(position), LANE)
    assert core.take() == []
    assert core.buffered_records == 9


def test_a_batch_is_bounded_in_bytes_but_takes_one_record_of_any_size() -> None:
    core = lanes()
    core.offer(record(10, 60), LANE)
    core.offer(record(20, 60), LANE)
    core.offer(record(30, 500), LANE)
    assert [batch.last.commit for batch in core.take()] == [10, 20, 30]


def test_the_frontier_stops_before_the_oldest_record_that_waits() -> None:
    core = lanes()
    core.observe(survey(depth=3, lane=1))
    core.offer(record(10), LANE)
    core.offer(record(20), LaneNumber(1))
    core.offer(record(30), LANE)
    core.take()
    assert core.frontier == cursor(10)  # just before 20 (P1)


def test_what_the_filter_keeps_back_moves_the_frontier() -> None:
    core = lanes()
    core.passed(cursor(500))
    assert core.frontier == cursor(500)


def test_a_replay_skips_what_its_lane_has_delivered() -> None:
    core = lanes({LANE: cursor(20)})
    for position in (10, 20, 30):
        core.offer(record(position), LANE)
    core.offer(record(15), LaneNumber(1))
    assert {batch.lane: batch.last for batch in core.take()} == {LANE: cursor(30), LaneNumber(1): cursor(15)}
    assert core.skipped == 2


def test_reading_pauses_when_as_much_is_undelivered_as_may_be() -> None:
    core = lanes()
    core.observe(survey(depth=3, in_flight_bytes=390))
    full = [core.full]
    core.offer(record(10), LANE)
    full.append(core.full)  # P6
    core.observe(survey(depth=0))
    core.take()
    full.append(core.full)
    assert full == [False, True, False]


def test_small_records_count_with_what_they_take_in_memory() -> None:
    """P6: of events with hardly any data the objects around them take the most."""
    core = lanes(limits=replace(LIMITS, record_bytes=90))
    full = []
    for position in (10, 20, 30, 40):
        core.offer(record(position), LANE)
        full.append(core.full)
    core.take()
    assert [*full, core.full] == [False, False, False, True, False]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 150), st.integers(0, 4)), max_size=60))
def test_every_record_leaves_once_and_in_order_whatever_the_mailboxes_do(steps: list[tuple[int, int, int]]) -> None:
    core = lanes()
    offered: dict[int, list[int]] = {}
    left: dict[int, list[int]] = {}
    position = 0
    for lane, size, depth in [*steps, *[(0, 0, 0)] * 80]:
        if size:
            position += 10
            offered.setdefault(lane, []).append(position)
            core.offer(builders.record(position, b"%d" % position), LaneNumber(lane))
        core.observe(Survey(counter=1, mailboxes={LaneNumber(lane): depth} if depth else {}, in_flight_bytes=0))
        for batch in core.take():
            left.setdefault(int(batch.lane), []).extend(int(bytes(raw)) for raw in payload.unpack(batch.payload))
        waiting = [each for number, all_of in offered.items() for each in all_of[len(left.get(number, [])) :]]
        assert all(core.frontier < cursor(each) for each in waiting)  # P1
    assert left == offered


def test_a_lane_is_renewed_behind_all_that_it_has_had() -> None:
    core = lanes({LANE: cursor(30)})
    for position in (10, 20):
        core.offer(record(position), LANE)
    core.offer(record(25), OTHER)
    batch = core.renewal(LANE)
    assert batch is not None
    assert (batch.before, batch.last, batch.count) == (cursor(25), cursor(30), 0)  # an earlier one would put it back
    core.offer(record(40), LANE)
    core.take()
    batch = core.renewal(LANE)
    assert batch is not None
    assert (batch.before, batch.last) == (cursor(40), cursor(40))


def test_a_lane_with_records_needs_no_renewal() -> None:
    core = lanes()
    core.offer(record(10), LANE)
    assert core.renewal(LANE) is None
    core.take()
    core.observe(survey(depth=1))
    assert core.renewal(LANE) is None
