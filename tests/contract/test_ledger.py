"""What every ledger promises, transition by transition. Each test runs over both implementations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sinkworker.errors import Stale
from sinkworker.ledger.contract import (
    FIRST_RESEND_MS,
    LONGEST_RESEND_MS,
    Activation,
    Batch,
    Claim,
    Closed,
    Granted,
    Ledger,
    Reaped,
    Survey,
)
from sinkworker.ledger.redis_ledger import KEYS
from sinkworker.model import Cursor, Epoch, LaneNumber, Position
from tests.builders import batch, cursor, tenure
from tests.contract.worlds import LEASE_MS, World

EPOCH = Epoch(1)
LANE = LaneNumber(2)

COUNTER = 1
"""What the scheduler of `begin` presents next."""


def begin(ledger: Ledger, *batches: Batch, frontier: int = 100) -> Survey:
    """An epoch with these batches dispatched."""
    taken = ledger.takeover(tenure(), cursor(0), {})
    return ledger.dispatch(EPOCH, taken.counter, cursor(frontier), batches)


def hold(ledger: Ledger, *batches: Batch, frontier: int = 100) -> Claim:
    """The same with lane 2 held by a worker."""
    survey = begin(ledger, *batches, frontier=frontier)
    (activation,) = [each for each in survey.activations if each.lane == LANE]
    return ledger.claim(EPOCH, activation, "token").claim


def watermark(ledger: Ledger) -> int:
    found = ledger.watermark()
    assert found is not None
    return max(0, found.cursor.commit)


# -- takeover


def test_an_empty_ledger_has_no_watermark(ledger: Ledger) -> None:
    assert ledger.watermark() is None


def test_a_takeover_starts_at_the_checkpoint_with_empty_mailboxes(ledger: Ledger) -> None:
    begin(ledger, batch(2, 3, 4))
    taken = ledger.takeover(tenure(2), cursor(3), {})
    survey = ledger.advance(Epoch(2), taken.counter, cursor(3))
    assert survey.mailboxes == {}
    assert survey.in_flight_bytes == 0
    assert watermark(ledger) == 3


@pytest.mark.parametrize("epoch", [1, 2])
def test_only_a_newer_epoch_takes_over(ledger: Ledger, epoch: int) -> None:
    ledger.takeover(tenure(2), cursor(0), {})
    with pytest.raises(Stale):
        ledger.takeover(tenure(epoch), cursor(0), {})


def test_epochs_are_compared_as_numbers(ledger: Ledger) -> None:
    ledger.takeover(tenure(9), cursor(0), {})
    ledger.takeover(tenure(10), cursor(0), {})


def test_a_takeover_fences_the_older_epoch(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1))
    ledger.takeover(tenure(2), cursor(0), {})
    for call in (
        lambda: ledger.dispatch(EPOCH, 1, cursor(101), []),
        lambda: ledger.claim(EPOCH, Activation(LANE, 1), "other"),
        lambda: ledger.next(claim, 0, 1),
        lambda: ledger.ack(claim, 1),
        lambda: ledger.release(claim),
        lambda: ledger.fail(claim, 0),
        lambda: ledger.complain(claim, "{}"),
        lambda: ledger.condemn(claim, "{}"),
        lambda: ledger.quiesce(EPOCH),
        lambda: ledger.close(EPOCH),
    ):
        with pytest.raises(Stale):
            call()
    assert watermark(ledger) == 0


def test_progress_survives_a_takeover_within_its_generation_and_layout(ledger: Ledger) -> None:
    ledger.ack(hold(ledger, batch(2, 0, 5)), 1)
    assert ledger.takeover(tenure(2), cursor(0), {}).progress == {LANE: cursor(5)}


@pytest.mark.parametrize("other", [tenure(2, generation="other"), tenure(2, keys="other"), tenure(2, lanes=5)])
def test_progress_does_not_outlive_its_generation_or_layout(ledger: Ledger, other: object) -> None:
    ledger.ack(hold(ledger, batch(2, 0, 5)), 1)
    assert ledger.takeover(other, cursor(0), {}).progress == {}  # type: ignore[arg-type]


def test_the_farther_of_kept_and_given_progress_counts(ledger: Ledger) -> None:
    ledger.takeover(tenure(1), cursor(0), {LaneNumber(0): cursor(9), LaneNumber(1): cursor(10)})
    given = {LaneNumber(0): cursor(10), LaneNumber(1): cursor(9), LaneNumber(2): cursor(0)}
    taken = ledger.takeover(tenure(2), cursor(0), given)
    assert taken.progress == {LaneNumber(0): cursor(10), LaneNumber(1): cursor(10), LaneNumber(2): cursor(0)}


def test_a_cursor_before_the_beginning_of_positions_sorts_first(ledger: Ledger) -> None:
    ledger.takeover(tenure(1), cursor(0), {LANE: cursor(0)})
    assert ledger.takeover(tenure(2), cursor(0), {LANE: cursor(1)}).progress == {LANE: cursor(1)}
    assert ledger.takeover(tenure(3), cursor(0), {LANE: cursor(0)}).progress == {LANE: cursor(1)}


# -- dispatch and advance


def test_a_dispatch_activates_the_lanes_that_were_empty_once(ledger: Ledger) -> None:
    survey = begin(ledger, batch(2, 0, 1), batch(2, 1, 2), batch(0, 2, 3))
    assert set(survey.activations) == {Activation(LANE, 1), Activation(LaneNumber(0), 1)}
    again = ledger.dispatch(EPOCH, survey.counter, cursor(101), [batch(2, 100, 101)])
    assert again.activations == ()
    assert again.mailboxes == {LANE: 3, LaneNumber(0): 1}


def test_a_dispatch_does_not_activate_a_lane_that_is_held(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1))
    ledger.ack(claim, 1)
    survey = ledger.dispatch(EPOCH, COUNTER, cursor(101), [batch(2, 100, 101)])
    assert survey.activations == ()
    assert survey.held == 1


def test_a_survey_counts_what_is_in_flight(ledger: Ledger) -> None:
    survey = begin(ledger, batch(2, 0, 1, payload=b"12345"), batch(0, 1, 2, payload=b"123"))
    assert survey.in_flight_bytes == 8
    claim = ledger.claim(EPOCH, Activation(LANE, 1), "t").claim
    ledger.ack(claim, 1)
    survey = ledger.advance(EPOCH, survey.counter, cursor(100))
    assert survey.in_flight_bytes == 3
    assert survey.mailboxes == {LaneNumber(0): 1}


@pytest.mark.parametrize("off", [-1, 1])
def test_a_dispatch_with_another_counter_is_refused_and_changes_nothing(ledger: Ledger, off: int) -> None:
    survey = begin(ledger, batch(2, 0, 1))
    with pytest.raises(Stale):
        ledger.dispatch(EPOCH, survey.counter + off, cursor(200), [batch(0, 100, 200)])
    after = ledger.advance(EPOCH, survey.counter, cursor(100))
    assert after.mailboxes == {LANE: 1}


def test_a_dispatch_of_a_lane_that_does_not_exist_changes_nothing(ledger: Ledger) -> None:
    survey = begin(ledger)
    with pytest.raises(Stale):
        ledger.dispatch(EPOCH, survey.counter, cursor(200), [batch(0, 100, 150), batch(4, 150, 200)])
    assert ledger.advance(EPOCH, survey.counter, cursor(100)).mailboxes == {}


def test_a_dispatch_repeated_after_a_lost_reply_is_refused(ledger: Ledger) -> None:
    survey = begin(ledger)
    ledger.dispatch(EPOCH, survey.counter, cursor(200), [batch(0, 100, 200)])
    with pytest.raises(Stale):
        ledger.dispatch(EPOCH, survey.counter, cursor(200), [batch(0, 100, 200)])


def test_any_bytes_travel_in_a_batch(ledger: Ledger) -> None:
    payload = bytes(range(256)) * 5000
    claim = hold(ledger, batch(2, 0, 1, payload=payload, count=3))
    (handed,) = ledger.next(claim, 0, 1)
    assert (handed.payload, handed.count, handed.number) == (payload, 3, 1)
    assert (handed.before, handed.last, handed.lane) == (cursor(0), cursor(1), LANE)
    assert (handed.last.revision, handed.last.record_id) == (1, "id-1")


# -- claim


def test_a_claim_is_granted_with_what_producing_needs(ledger: Ledger) -> None:
    begin(ledger, batch(2, 0, 1))
    granted = ledger.claim(EPOCH, Activation(LANE, 1), "token")
    expected = tenure()
    claim = Claim(EPOCH, LANE, "token")
    assert granted == Granted(claim, expected.generation, expected.layout, expected.settings)


def test_a_lane_is_held_once(ledger: Ledger) -> None:
    hold(ledger, batch(2, 0, 1))
    with pytest.raises(Stale):
        ledger.claim(EPOCH, Activation(LANE, 1), "another")


def test_a_claim_whose_reply_was_lost_is_granted_again(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1))
    assert ledger.claim(EPOCH, Activation(LANE, 1), "token").claim == claim


@pytest.mark.parametrize("number", [0, 2])
def test_another_activation_than_the_current_is_stale(ledger: Ledger, number: int) -> None:
    begin(ledger, batch(2, 0, 1))
    with pytest.raises(Stale):
        ledger.claim(EPOCH, Activation(LANE, number), "token")


def test_an_activation_is_claimed_once_even_after_its_release(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1))
    assert ledger.release(claim) == Activation(LANE, 2)
    with pytest.raises(Stale):
        ledger.claim(EPOCH, Activation(LANE, 1), "token")


# -- next and ack


def test_next_hands_out_in_order_and_by_number(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1), batch(2, 1, 2), batch(2, 2, 3))
    assert [each.number for each in ledger.next(claim, 0, 2)] == [1, 2]
    ledger.ack(claim, 1)
    assert [each.number for each in ledger.next(claim, 2, 5)] == [3]
    assert ledger.next(claim, 3, 5) == []
    assert ledger.next(claim, 1, 0) == []


def test_an_ack_moves_progress_and_watermark(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 3, 4, count=2), batch(2, 6, 9))
    assert watermark(ledger) == 3
    ledger.ack(claim, 1)
    assert watermark(ledger) == 6
    ledger.ack(claim, 2)
    found = ledger.watermark()
    assert found is not None
    assert (found.cursor, found.acked_records, found.in_flight_batches) == (cursor(100), 3, 0)
    assert ledger.close(EPOCH).progress == {LANE: cursor(9)}


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_only_the_head_can_be_acknowledged(ledger: Ledger, number: int) -> None:
    claim = hold(ledger, batch(2, 0, 1), batch(2, 1, 2), batch(2, 2, 3))
    ledger.ack(claim, 1)
    with pytest.raises(Stale):
        ledger.ack(claim, number)
    assert [each.number for each in ledger.next(claim, 0, 9)] == [2, 3]


def test_an_ack_needs_the_token_of_the_claim(ledger: Ledger) -> None:
    hold(ledger, batch(2, 0, 1))
    for token in ("other", ""):
        with pytest.raises(Stale):
            ledger.ack(Claim(EPOCH, LANE, token), 1)


def test_an_empty_token_holds_nothing(ledger: Ledger) -> None:
    begin(ledger, batch(2, 0, 1))
    with pytest.raises(Stale):
        ledger.ack(Claim(EPOCH, LANE, ""), 1)


def test_several_acks_and_the_next_go_in_one_step(ledger: Ledger) -> None:
    claim = hold(ledger, *[batch(2, each, each + 1) for each in range(5)])
    assert [each.number for each in ledger.ack_and_next(claim, [1, 2], 3, 1)] == [4]
    assert [each.number for each in ledger.ack_and_next(claim, [], 0, 9)] == [3, 4, 5]
    assert ledger.ack_and_next(claim, [3, 4, 5], 5, 2) == []
    assert watermark(ledger) == 100


@pytest.mark.parametrize("numbers", [[1, 3], [2, 1], [1, 1], [2], [1, 2, 3, 4]])
def test_several_acks_that_are_not_the_head_in_order_change_nothing(ledger: Ledger, numbers: list[int]) -> None:
    claim = hold(ledger, batch(2, 0, 1), batch(2, 1, 2), batch(2, 2, 3))
    with pytest.raises(Stale):
        ledger.ack_and_next(claim, numbers, 3, 1)
    assert [each.number for each in ledger.next(claim, 0, 9)] == [1, 2, 3]


# -- release, fail, condemn


def test_a_lane_released_with_work_left_is_activated_anew(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1), batch(2, 1, 2))
    ledger.ack(claim, 1)
    activation = ledger.release(claim)
    assert activation == Activation(LANE, 2)
    again = ledger.claim(EPOCH, activation, "second").claim
    assert [each.number for each in ledger.next(again, 0, 9)] == [2]


def test_a_lane_released_empty_waits_for_a_dispatch(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1))
    ledger.ack(claim, 1)
    assert ledger.release(claim) is None
    survey = ledger.dispatch(EPOCH, COUNTER, cursor(101), [batch(2, 100, 101)])
    assert survey.activations == (Activation(LANE, 2),)


def test_a_failed_lane_is_activated_by_the_reaper_after_the_delay(world: World) -> None:
    ledger = world.ledger
    claim = hold(ledger, batch(2, 0, 1))
    ledger.fail(claim, 60_000)
    with pytest.raises(Stale):
        ledger.ack(claim, 1)
    world.elapse(59_000)
    assert ledger.reap() == Reaped()
    world.elapse(2_000)
    assert ledger.reap().activations == (Activation(LANE, 2),)


@pytest.mark.parametrize("fails", [True, False])
def test_what_a_lane_waits_for_is_told_until_it_acknowledges_something(ledger: Ledger, fails: bool) -> None:
    claim = hold(ledger, batch(2, 0, 1), batch(2, 1, 2), batch(0, 2, 3))
    other = ledger.claim(EPOCH, Activation(LaneNumber(0), 1), "other").claim
    if fails:
        ledger.fail(claim, 0, "silence")
        (again,) = ledger.reap().activations
        claim = ledger.claim(EPOCH, again, "again").claim
    else:
        ledger.complain(claim, "silence")
    ledger.ack(other, 1)
    assert ledger.advance(EPOCH, COUNTER, cursor(101)).trouble == "silence"
    ledger.ack(claim, 1)
    assert ledger.advance(EPOCH, COUNTER + 1, cursor(102)).trouble == ""


def test_the_first_lane_that_delivers_again_wakes_those_that_rest(world: World) -> None:
    ledger = world.ledger
    claim = hold(ledger, batch(2, 0, 1), batch(0, 1, 2))
    other = ledger.claim(EPOCH, Activation(LaneNumber(0), 1), "other").claim
    ledger.fail(other, 60_000, "silence")
    ledger.complain(claim, "silence")
    assert ledger.reap() == Reaped()
    ledger.ack(claim, 1)
    world.elapse(1)
    assert ledger.reap().activations == (Activation(LaneNumber(0), 2),)


def test_a_failure_without_a_word_leaves_what_was_said(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1))
    ledger.complain(claim, "silence")
    ledger.fail(claim, 0)
    assert ledger.advance(EPOCH, COUNTER, cursor(101)).trouble == "silence"


def test_a_condemned_lane_stops_the_handing_out_of_lanes(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1), batch(0, 1, 2))
    ledger.condemn(claim, '{"code": "first"}')
    with pytest.raises(Stale):
        ledger.claim(EPOCH, Activation(LaneNumber(0), 1), "other")
    survey = ledger.dispatch(EPOCH, COUNTER, cursor(200), [batch(1, 100, 200)])
    assert survey.failure == '{"code": "first"}'
    assert survey.activations == ()
    assert ledger.reap() == Reaped()
    assert ledger.close(EPOCH) == Closed(cursor(0), {}, '{"code": "first"}')


def test_a_condemned_lane_says_how_far_it_got_within_its_head(ledger: Ledger) -> None:
    """The records before the undeliverable one are not sent again; the checkpoint stays before their batch (P1)."""
    ledger.condemn(hold(ledger, batch(2, 0, 7)), "no", cursor(5))
    assert watermark(ledger) == 0
    assert ledger.close(EPOCH) == Closed(cursor(0), {LANE: cursor(5)}, "no")
    assert ledger.takeover(tenure(2), cursor(0), {}).progress == {LANE: cursor(5)}


def test_a_condemned_lane_does_not_fall_behind_what_it_acknowledged(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 7), batch(2, 7, 9))
    ledger.ack(claim, 1)
    ledger.condemn(claim, "no", cursor(5))
    assert ledger.close(EPOCH).progress == {LANE: cursor(7)}


def test_the_first_reason_is_kept(ledger: Ledger) -> None:
    first, second = hold_all(ledger, batch(2, 0, 1), batch(0, 1, 2))
    ledger.condemn(first, "first")
    ledger.condemn(second, "second")
    assert ledger.close(EPOCH).failure == "first"


def hold_all(ledger: Ledger, *batches: Batch) -> list[Claim]:
    """An epoch with these batches dispatched, each lane of theirs held by a worker, in their order."""
    activations = {each.lane: each for each in begin(ledger, *batches).activations}
    lanes = dict.fromkeys(each.lane for each in batches)
    return [ledger.claim(EPOCH, activations[lane], f"holds {lane}").claim for lane in lanes]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]])
def test_of_several_records_the_first_is_the_reason_in_whatever_order_they_are_found(
    ledger: Ledger, order: list[int]
) -> None:
    claims = hold_all(ledger, batch(0, 10, 20), batch(1, 20, 30), batch(2, 30, 40))
    for index in order:
        ledger.condemn(claims[index], f"record at {20 + 10 * index}", None, Position(20 + 10 * index))
    survey = ledger.advance(EPOCH, COUNTER, cursor(101))
    assert (survey.failure, survey.limit) == ("record at 20", cursor(20))


@pytest.mark.parametrize("at", [(None, 20), (20, None)])
def test_a_reason_about_no_record_stops_all_and_leaves_the_word_to_the_first(
    ledger: Ledger, at: tuple[int | None, int | None]
) -> None:
    first, second, _ = hold_all(ledger, batch(0, 10, 20), batch(1, 11, 30), batch(2, 12, 40))
    for claim, each, reason in ((first, at[0], "first"), (second, at[1], "second")):
        ledger.condemn(claim, reason, None, None if each is None else Position(each))
    survey = ledger.advance(EPOCH, COUNTER, cursor(101))
    assert (survey.failure, survey.limit, survey.going_on) == ("first", Cursor.BEGINNING, 1)


def test_after_a_failure_a_lane_is_handed_what_begins_before_the_record_and_no_more(ledger: Ledger) -> None:
    condemned, held = hold_all(ledger, batch(0, 10, 20), batch(2, 5, 6), batch(2, 6, 25), batch(2, 20, 30))
    ledger.condemn(condemned, "the record at 20", None, Position(20))
    assert [each.number for each in ledger.next(held, 0, 9)] == [1, 2]
    assert [each.number for each in ledger.ack_and_next(held, [1], 0, 9)] == [2]
    assert ledger.advance(EPOCH, COUNTER, cursor(101)).going_on == 1
    again = ledger.release(held)
    assert again is not None
    held = ledger.claim(EPOCH, again, "again").claim
    assert ledger.ack_and_next(held, [2], 0, 9) == []
    assert ledger.release(held) is None
    survey = ledger.advance(EPOCH, COUNTER + 1, cursor(102))
    assert (survey.going_on, survey.mailboxes) == (0, {0: 1, 2: 1})
    assert ledger.reap() == Reaped()
    with pytest.raises(Stale):
        ledger.claim(EPOCH, Activation(LANE, again.number + 1), "nobody needs it")


def test_a_lane_that_waited_at_a_failure_is_claimed_and_sent_again(world: World) -> None:
    ledger = world.ledger
    survey = begin(ledger, batch(0, 10, 20), batch(2, 5, 6))
    condemned = ledger.claim(EPOCH, survey.activations[0], "a").claim
    ledger.condemn(condemned, "the record at 20", None, Position(20))
    world.elapse(FIRST_RESEND_MS)
    assert ledger.reap().activations == (Activation(LANE, 1),)
    ledger.claim(EPOCH, Activation(LANE, 1), "b")
    world.elapse(LEASE_MS)
    assert ledger.reap() == Reaped((Activation(LANE, 2),), (LANE,))


@pytest.mark.parametrize("before", [19, 20])
def test_what_is_dispatched_after_a_failure_is_handed_out_where_it_begins_before_the_record(
    ledger: Ledger, before: int
) -> None:
    ledger.condemn(hold(ledger, batch(2, 10, 20)), "the record at 20", None, Position(20))
    survey = ledger.dispatch(EPOCH, COUNTER, cursor(100), [batch(1, before, 30)])
    assert len(survey.activations) == survey.going_on == (before < 20)


def test_a_condemned_lane_is_not_handed_out_again_though_it_begins_before_the_record(ledger: Ledger) -> None:
    ledger.condemn(hold(ledger, batch(2, 10, 20)), "the record at 20", None, Position(20))
    survey = ledger.dispatch(EPOCH, COUNTER, cursor(100), [batch(2, 10, 15)])
    assert (survey.activations, survey.going_on) == ((), 0)
    assert ledger.reap() == Reaped()
    with pytest.raises(Stale):
        ledger.claim(EPOCH, Activation(LANE, 2), "again")


# -- the reaper


def test_a_claim_that_is_not_renewed_is_freed_and_its_holder_is_stale(world: World) -> None:
    ledger = world.ledger
    claim = hold(ledger, batch(2, 0, 1))
    world.elapse(LEASE_MS - 1_000)
    assert ledger.reap() == Reaped()
    world.elapse(1_000)
    reaped = ledger.reap()
    assert reaped == Reaped((Activation(LANE, 2),), (LANE,))
    assert reaped.epoch == EPOCH
    with pytest.raises(Stale):
        ledger.ack(claim, 1)


@pytest.mark.parametrize("renew", ["next", "ack", "claim"])
def test_every_word_of_the_worker_renews_its_claim(world: World, renew: str) -> None:
    ledger = world.ledger
    claim = hold(ledger, batch(2, 0, 1))
    world.elapse(LEASE_MS - 1_000)
    match renew:
        case "next":
            ledger.next(claim, 0, 0)
        case "ack":
            ledger.ack(claim, 1)
        case "claim":
            ledger.claim(EPOCH, Activation(LANE, 1), "token")
    world.elapse(LEASE_MS - 1_000)
    assert ledger.reap() == Reaped()


def test_the_same_activation_is_sent_again_with_growing_intervals(world: World) -> None:
    ledger = world.ledger
    begin(ledger, batch(2, 0, 1))
    waits_ms = [FIRST_RESEND_MS, *(FIRST_RESEND_MS << doublings for doublings in range(5)), LONGEST_RESEND_MS]
    for wait_ms in waits_ms:
        world.elapse(wait_ms - 1_000)
        assert ledger.reap() == Reaped()
        world.elapse(1_000)
        assert ledger.reap() == Reaped((Activation(LANE, 1),))
        assert ledger.reap() == Reaped()


HOUR_MS = 3_600_000


def test_a_clock_that_is_put_back_keeps_no_lane_from_being_freed(world: World) -> None:
    ledger = world.ledger
    hold(ledger, batch(2, 0, 1))
    world.elapse(-HOUR_MS)
    assert ledger.reap() == Reaped()
    world.elapse(LEASE_MS)
    assert ledger.reap() == Reaped((Activation(LANE, 2),), (LANE,))


def test_a_clock_that_is_put_back_keeps_no_activation_from_being_sent_again(world: World) -> None:
    ledger = world.ledger
    begin(ledger, batch(2, 0, 1))
    world.elapse(-HOUR_MS)
    assert ledger.reap() == Reaped((Activation(LANE, 1),))


def test_a_clock_that_is_put_forward_makes_only_stale(world: World) -> None:
    ledger = world.ledger
    claim = hold(ledger, batch(2, 0, 1))
    world.elapse(HOUR_MS)
    assert ledger.reap() == Reaped((Activation(LANE, 2),), (LANE,))
    with pytest.raises(Stale):
        ledger.ack(claim, 1)


def test_a_new_activation_starts_with_the_shortest_interval(world: World) -> None:
    ledger = world.ledger
    begin(ledger, batch(2, 0, 1))
    for _ in range(4):
        world.elapse(LONGEST_RESEND_MS)
        assert ledger.reap() == Reaped((Activation(LANE, 1),))
    ledger.release(ledger.claim(EPOCH, Activation(LANE, 1), "token").claim)
    for _ in range(2):
        world.elapse(FIRST_RESEND_MS)
        assert ledger.reap() == Reaped((Activation(LANE, 2),))


def test_a_lane_without_work_is_left_alone(world: World) -> None:
    ledger = world.ledger
    claim = hold(ledger, batch(2, 0, 1))
    ledger.ack(claim, 1)
    world.elapse(10 * LONGEST_RESEND_MS)
    assert ledger.reap() == Reaped((), (LANE,))
    world.elapse(10 * LONGEST_RESEND_MS)
    assert ledger.reap() == Reaped()


# -- the watermark


def test_the_watermark_stays_before_the_oldest_batch_in_flight(ledger: Ledger) -> None:
    claim = hold(ledger, batch(1, 3, 8), batch(2, 4, 5), batch(2, 8, 9))
    ledger.ack(claim, 1)
    ledger.ack(claim, 2)
    assert watermark(ledger) == 3


def test_the_watermark_never_passes_the_frontier(ledger: Ledger) -> None:
    # Lane 2's record at 5 is still buffered when lane 1's batch behind it is dispatched.
    begin(ledger, batch(1, 8, 9), frontier=4)
    assert watermark(ledger) == 4


def test_the_watermark_compares_positions_as_numbers(ledger: Ledger) -> None:
    begin(ledger, batch(1, 999, 1001), batch(2, 1000, 1002), frontier=1 << 62)
    assert watermark(ledger) == 999


def test_the_watermark_can_be_the_beginning(ledger: Ledger) -> None:
    begin(ledger, batch(1, 0, 1))
    assert watermark(ledger) == 0


def test_the_watermark_names_its_epoch_and_generation(ledger: Ledger) -> None:
    ledger.takeover(tenure(5, generation="g"), cursor(9), {})
    found = ledger.watermark()
    assert found is not None
    assert (found.epoch, found.generation, found.held) == (5, "g", 0)


# -- the end of an epoch


def test_a_quiesced_epoch_hands_out_nothing_and_takes_acknowledgements(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1), batch(2, 1, 2), batch(0, 2, 3))
    assert ledger.quiesce(EPOCH) == 1
    assert ledger.next(claim, 1, 5) == []
    with pytest.raises(Stale):
        ledger.claim(EPOCH, Activation(LaneNumber(0), 1), "other")
    with pytest.raises(Stale):
        ledger.dispatch(EPOCH, COUNTER, cursor(101), [])
    assert ledger.ack_and_next(claim, [1], 1, 5) == []
    assert ledger.release(claim) is None
    assert ledger.quiesce(EPOCH) == 0
    assert ledger.close(EPOCH) == Closed(cursor(1), {LANE: cursor(1)})


def test_a_quiesced_epoch_frees_silent_lanes_without_activating_them(world: World) -> None:
    ledger = world.ledger
    hold(ledger, batch(2, 0, 1))
    ledger.quiesce(EPOCH)
    world.elapse(LEASE_MS)
    assert ledger.reap() == Reaped((), (LANE,))
    assert ledger.quiesce(EPOCH) == 0


def test_a_closed_epoch_refuses_everybody_and_answers_the_same_again(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 3, 4), batch(0, 4, 5))
    closed = ledger.close(EPOCH)
    assert closed.watermark == cursor(3)
    for call in (
        lambda: ledger.dispatch(EPOCH, COUNTER, cursor(101), []),
        lambda: ledger.claim(EPOCH, Activation(LaneNumber(0), 1), "other"),
        lambda: ledger.next(claim, 0, 1),
        lambda: ledger.ack(claim, 1),
        lambda: ledger.release(claim),
    ):
        with pytest.raises(Stale):
            call()
    assert ledger.reap() == Reaped()
    assert ledger.close(EPOCH) == closed
    assert watermark(ledger) == 3


# -- a store that loses data (R1)


@pytest.mark.parametrize("key", KEYS)
def test_every_lost_key_is_noticed(world: World, key: str) -> None:
    ledger = world.ledger
    claim = hold(ledger, batch(2, 0, 1), batch(2, 1, 2), batch(0, 2, 3))
    ledger.ack(claim, 1)
    world.lose(key)
    assert ledger.watermark() is None
    for call in (
        lambda: ledger.dispatch(EPOCH, 1, cursor(200), [batch(1, 100, 200)]),
        lambda: ledger.advance(EPOCH, 1, cursor(200)),
        lambda: ledger.quiesce(EPOCH),
        lambda: ledger.close(EPOCH),
    ):
        with pytest.raises(Stale):
            call()


@pytest.mark.parametrize("key", ["state", "lanes", "batches", "payloads"])
def test_a_worker_is_not_handed_what_was_lost(world: World, key: str) -> None:
    claim = hold(world.ledger, batch(2, 0, 1), batch(2, 1, 2))
    world.lose(key)
    with pytest.raises(Stale):
        world.ledger.next(claim, 0, 1)


@pytest.mark.parametrize("key", ["batches", "payloads"])
def test_acks_that_cannot_hand_out_what_follows_change_nothing(world: World, key: str) -> None:
    ledger = world.ledger
    claim = hold(ledger, batch(2, 0, 1), batch(2, 1, 2))
    world.lose(key)
    with pytest.raises(Stale):
        ledger.ack_and_next(claim, [1], 1, 1)


@pytest.mark.parametrize("key", KEYS)
def test_a_takeover_mends_a_ledger_that_lost_a_key(world: World, key: str) -> None:
    ledger = world.ledger
    ledger.ack(hold(ledger, batch(2, 0, 1), batch(2, 1, 2)), 1)
    world.lose(key)
    taken = ledger.takeover(tenure(2), cursor(0), {})
    assert taken.progress == ({} if key in ("state", "progress") else {LANE: cursor(1)})
    ledger.dispatch(Epoch(2), taken.counter, cursor(9), [batch(3, 0, 9)])
    assert watermark(ledger) == 0


def test_a_store_that_was_rolled_back_refuses_the_scheduler(world: World) -> None:
    ledger = world.ledger
    survey = begin(ledger, batch(2, 0, 1))
    restore = world.snapshot()
    survey = ledger.dispatch(EPOCH, survey.counter, cursor(200), [batch(1, 100, 200)])
    restore()
    with pytest.raises(Stale):
        ledger.dispatch(EPOCH, survey.counter, cursor(300), [batch(0, 200, 300)])
    assert watermark(ledger) == 0


def test_a_store_that_was_rolled_back_refuses_the_claims_it_forgot(world: World) -> None:
    ledger = world.ledger
    begin(ledger, batch(2, 0, 1))
    restore = world.snapshot()
    forgotten = ledger.claim(EPOCH, Activation(LANE, 1), "forgotten").claim
    restore()
    # R2: epoch and activation are the same for both holders, only the token tells them apart.
    current = ledger.claim(EPOCH, Activation(LANE, 1), "current").claim
    with pytest.raises(Stale):
        ledger.ack(forgotten, 1)
    ledger.ack(current, 1)


def test_a_tenure_that_discards_is_newer_than_any_epoch_of_another_generation(ledger: Ledger) -> None:
    claim = hold(ledger, batch(2, 0, 1))
    ledger.ack(claim, 1)
    with pytest.raises(Stale):
        ledger.takeover(tenure(1, generation="other"), cursor(0), {})
    discarding = replace(tenure(1, generation="other"), discards=True)
    assert ledger.takeover(discarding, cursor(0), {}).progress == {}
    with pytest.raises(Stale):
        ledger.release(claim)


def test_a_tenure_that_discards_yields_to_a_newer_epoch_of_its_own_generation(ledger: Ledger) -> None:
    newer = replace(tenure(6, generation="g"), discards=True)
    ledger.takeover(newer, cursor(0), {})
    with pytest.raises(Stale):
        ledger.takeover(replace(newer, epoch=Epoch(5)), cursor(0), {})
