"""How long a transaction is kept open, by an outlet whose messages take their time."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sinkworker.delivery import exact
from sinkworker.delivery.deliver import Bounds
from sinkworker.delivery.exact import LONGEST_S, ExactWork
from sinkworker.exactly_once.marks import Mark
from sinkworker.exactly_once.transactions import TRANSACTION_TIMEOUT_MS, Broken
from sinkworker.ledger.contract import Batch
from sinkworker.model import Cursor
from sinkworker.outgoing import Link, Origin
from tests.builders import batch, cursor


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Lane:
    """A transactional producer over brokers that abort what takes too long."""

    number = 0
    untried = False
    stuck = False
    refusal = None
    outstanding = 0
    confirmations = 0
    mark = Mark(Cursor.BEGINNING)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.link = Link()
        self.in_transaction = False
        self.begun = 0.0
        self.committed: list[int] = []
        """Up to which position, each time."""

    def begin(self) -> None:
        self.in_transaction, self.begun = True, self._clock.now

    def send(self, _: Any) -> bool:
        return True

    def primed(self, _: Any) -> bool:
        return True

    def abort(self, _timeout_s: float) -> bool:
        self.in_transaction = False
        return True

    def commit(self, mark: Mark) -> bool:
        if self._clock.now - self.begun > TRANSACTION_TIMEOUT_MS / 1000:
            raise Broken("The brokers have aborted it.")
        self.in_transaction = False
        self.mark = mark
        self.committed.append(mark.cursor.commit)
        return True


class Outlet:
    """Each record of the one batch takes so many seconds."""

    dead_letters = None

    def __init__(self, clock: Clock, takes_s: dict[int, float]) -> None:
        self._clock, self._takes_s = clock, takes_s
        self.opened = Lane(clock)

    def open_all(self, _: Any) -> None: ...

    def lane(self, _: Any) -> Lane:
        return self.opened

    def close_lane(self, _: Any) -> None:
        self.opened.in_transaction = False

    def check_topic(self, _: Any) -> None: ...

    def messages_after(self, _batch: Batch, _layout: Any, after: Cursor) -> Iterator[Any]:
        """Record 4 is one that the filter drops."""
        for position, takes_s in self._takes_s.items():
            if position <= after.commit:
                continue
            self._clock.now += takes_s
            if position != 4:
                origin = Origin(f"id-{position}", "loan-1", "Requested", position)
                yield SimpleNamespace(position=position, origin=origin, created_s=0.0)

    def cursor_of(self, _batch: Batch, origin: Origin) -> Cursor:
        return cursor(origin.position)


def delivered(takes_s: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A batch of these records, by how long each takes: up to where was committed, each time."""
    clock = Clock()
    monkeypatch.setattr(exact, "time", clock)
    outlet = Outlet(clock, takes_s)
    flights = [
        SimpleNamespace(batch=batch(0, 0, max(takes_s)), complete=False, first_position=None, produced=0, created_s=[])
    ]
    delivery = SimpleNamespace(
        bounds=Bounds(),
        fields={},
        silent_since=None,
        heard=lambda: None,
        keep_claims=lambda: None,
        back_off_ms=lambda: 0,
    )
    left = iter(flights)
    held: Any = SimpleNamespace(
        granted=SimpleNamespace(layout=None), contact=clock.now, window=SimpleNamespace(start=lambda: next(left, None))
    )
    work = ExactWork(delivery, outlet)  # type: ignore[arg-type]  # the parts that it uses
    monkeypatch.setattr(work, "_serve", lambda *_, **__: None)
    work.deliver(held)
    assert flights[0].complete
    assert flights[0].produced == len(set(takes_s) - {4})
    return outlet.opened.committed


def test_what_is_made_quickly_is_one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivered(dict.fromkeys(range(1, 10), 0.01), monkeypatch) == [9]


def test_what_takes_long_is_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the brokers would abort it, again and again."""
    committed = delivered(dict.fromkeys((1, 2, 3, 5, 6, 7), LONGEST_S * 0.75), monkeypatch)
    assert committed == [3, 7]


def test_a_record_that_is_dropped_after_long_keeps_none_from_being_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be committed meanwhile: what was sent before it goes alone, once that has been found out."""
    committed = delivered({1: 0.01, 2: 0.01, 4: TRANSACTION_TIMEOUT_MS / 1000 + 1, 5: 0.01}, monkeypatch)
    assert committed == [1, 2, 5]
