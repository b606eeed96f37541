"""A connector that cannot go on: up to where it is delivered nevertheless, and when that is over."""

from __future__ import annotations

import json

from sinkworker.errors import Undeliverable
from sinkworker.ledger.contract import Survey
from sinkworker.model import Cursor, LaneNumber, Position
from sinkworker.scheduling.halt import STANDSTILL_S, Condemned, Halt
from tests.builders import cursor

FAILURE = json.dumps({"code": "transform-failed", "message": "The record at position 20 fails."})


def survey(going_on: int, *, limit: Cursor | None = None, waiting: int = 0) -> Survey:
    mailboxes = {LaneNumber(0): waiting} if waiting else {}
    failure = "" if limit is None else FAILURE
    return Survey(1, mailboxes, 10 * waiting, failure=failure, limit=limit, going_on=going_on)


def is_over(halt: Halt, seen: Survey, now_s: float = 0.0, *, holds_some: bool = False) -> bool:
    halt.observe(seen, now_s)
    return halt.is_over(seen, now_s, holds_some=holds_some)


def test_without_a_reason_it_goes_on() -> None:
    halt = Halt()
    assert not is_over(halt, survey(0))
    assert halt.limit is None


def test_what_a_worker_found_is_over_when_no_lane_has_anything_before_it() -> None:
    halt = Halt()
    assert not is_over(halt, survey(1, limit=cursor(20)))
    assert isinstance(halt.reason, Condemned)
    assert halt.reason.code == "transform-failed"
    assert not is_over(halt, survey(0, limit=cursor(20)), holds_some=True)
    assert is_over(halt, survey(0, limit=cursor(20), waiting=3))


def test_what_the_scheduler_has_read_is_over_when_all_mailboxes_are_empty_unless_a_worker_finds_more() -> None:
    halt = Halt()
    own = Undeliverable("no key", position=Position(30))
    halt.meet(own)
    assert halt.limit == cursor(30)
    assert not is_over(halt, survey(1, waiting=1))
    assert is_over(halt, survey(0))
    assert halt.reason is own
    assert is_over(halt, survey(0, limit=cursor(20)))
    assert halt.reason is not own


def test_a_reason_about_no_record_is_over_at_once() -> None:
    assert is_over(Halt(), survey(3, limit=Cursor.BEGINNING, waiting=3))


def test_what_does_not_move_is_not_waited_for_for_ever() -> None:
    halt = Halt()
    assert not is_over(halt, survey(1, limit=cursor(20), waiting=3), 0.0)
    assert not is_over(halt, survey(1, limit=cursor(20), waiting=2), STANDSTILL_S)
    assert not is_over(halt, survey(1, limit=cursor(20), waiting=2), 2 * STANDSTILL_S)
    assert is_over(halt, survey(1, limit=cursor(20), waiting=2), 2 * STANDSTILL_S + 1)
