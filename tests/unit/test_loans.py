"""The demo's events: exactly as many as asked for, each stream in an order that a database accepts."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from sinkworker.demo.loans import CATEGORY, LARGEST_APPEND, LoanBook


@pytest.mark.parametrize(("events", "loans"), [(1, 1), (1, 50), (49, 50), (50, 50), (1000, 1), (5000, 70)])
def test_there_are_exactly_as_many_events_as_asked_for(events: int, loans: int) -> None:
    appends = list(LoanBook(loans).appends(events))
    assert sum(len(append.events) for append in appends) == events
    assert len({append.stream for append in appends}) == min(events, loans)
    assert all(len(append.events) <= LARGEST_APPEND for append in appends)


def test_each_append_expects_what_the_one_before_it_left() -> None:
    revisions: dict[str, int] = {}
    for append in LoanBook(20).appends(2000):
        assert append.stream.startswith(f"{CATEGORY}-")
        assert append.after == revisions.get(append.stream)
        revisions[append.stream] = (append.after if append.after is not None else -1) + len(append.events)


def test_every_loan_is_requested_before_anything_else_and_all_kinds_of_event_occur() -> None:
    seen: Counter[str] = Counter()
    first: dict[str, str] = {}
    for append in LoanBook(50).appends(2000):
        seen.update(event.type for event in append.events)
        first.setdefault(append.stream, append.events[0].type)
    assert set(first.values()) == {"LoanRequested"}
    assert len(seen) == 6
    assert seen["LoanAutomaticallyApproved"] + seen["LoanManuallyApproved"] <= 50


def test_bodies_and_metadata_are_json_and_ids_are_unique() -> None:
    events = [event for append in LoanBook(10).appends(300) for event in append.events]
    assert len({event.id for event in events}) == len(events)
    for event in events:
        assert orjson.loads(event.data)["loanRequestId"]
        assert all(isinstance(value, str) for value in orjson.loads(event.metadata).values())


def test_the_same_seed_tells_the_same_story() -> None:
    def told(seed: int) -> list[tuple[str, list[bytes]]]:
        return [
            (append.stream, [event.data for event in append.events]) for append in LoanBook(10, seed=seed).appends(200)
        ]

    assert told(1) == told(1)
    assert told(1) != told(2)
