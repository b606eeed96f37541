"""A worker's window: batches start in order, and are acknowledged in order and only when confirmed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sinkworker.delivery.window import Window
from tests.builders import batch


@given(st.integers(1, 4), st.integers(1, 12), st.data())
def test_batches_are_acknowledged_in_order_and_only_when_every_record_is_confirmed(
    limit: int, count: int, data: st.DataObject
) -> None:
    window = Window(limit)
    window.hand([replace(batch(0, number - 1, number, count=2), number=number) for number in range(1, count + 1)])
    acked: list[int] = []
    while not window.idle:
        while (flight := window.start()) is not None:
            flight.outstanding = flight.batch.count
            flight.complete = True
        assert len(window.in_flight) <= limit
        confirmed = data.draw(st.sampled_from([each for each in window.in_flight if each.outstanding]))
        confirmed.outstanding -= 1
        for ready in window.ackable():
            assert ready.outstanding == 0
            acked.append(window.acked().batch.number)
    assert acked == list(range(1, count + 1))


def test_a_batch_that_is_still_being_produced_is_not_confirmed() -> None:
    window = Window(2)
    window.hand([replace(batch(0, 0, 1), number=1)])
    flight = window.start()
    assert flight is not None
    assert window.ackable() == []
    flight.complete = True
    assert window.ackable() == [flight]


def test_there_is_room_for_what_may_be_in_flight() -> None:
    window = Window(3)
    assert window.room == 3
    window.hand([replace(batch(0, 0, 1), number=1)])
    assert window.room == 2
    window.start()
    assert window.room == 2
    assert window.after == 1
