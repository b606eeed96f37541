"""Whether a scheduler that stands by may take over, by what its looks at the database tell."""

from __future__ import annotations

from sinkworker.database import TIMEOUT_S
from sinkworker.scheduling.calm import SETTLED_S, Calm


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_scheduler_that_starts_takes_over_at_once() -> None:
    assert Calm(Clock())()


def test_after_an_outage_whoever_ran_the_connector_has_time_to_come_back() -> None:
    clock = Clock()
    calm = Calm(clock)
    calm.asks()
    calm.failed()
    clock.now += 3600
    assert not calm()
    for _ in range(2):  # each further answer changes nothing
        calm.asks()
        calm.answered()
        clock.now += SETTLED_S / 2
        assert calm() == (clock.now >= 1000 + 3600 + SETTLED_S)


def test_an_answer_that_is_overdue_may_be_an_outage() -> None:
    clock = Clock()
    calm = Calm(clock)
    calm.asks()
    clock.now += TIMEOUT_S
    assert calm()
    clock.now += 0.1
    assert not calm()
    calm.answered()  # it was only slow
    assert calm()
