"""A runner and its lease: whom it leaves it to, and when it takes one."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from sinkworker import logs
from sinkworker.errors import OtherRelease, SinkworkerError, Unavailable
from sinkworker.scheduling.runner import Runner


class Lease:
    """Counts; the runner is told to stop after some attempts."""

    def __init__(self, attempts: int) -> None:
        self.runner: Runner | None = None
        self.held = False
        self.held_at_attempts: list[bool] = []
        self._attempts = attempts

    def acquire(self) -> bool:
        assert self.runner is not None
        self.held_at_attempts.append(self.held)
        if len(self.held_at_attempts) == self._attempts:
            self.runner.stop()
        self.held = True
        return True

    def keep(self) -> None:
        pass

    def release(self) -> None:
        self.held = False


class Impatient(threading.Event):
    """Nobody waits for it."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


def attempts_that_meet(error: SinkworkerError) -> list[bool]:
    """Whether the lease was still held at each of two attempts that the error ended."""

    def get(_: str) -> Any:
        raise error

    means: Any = SimpleNamespace(registry=SimpleNamespace(get=get), tally=SimpleNamespace(count=lambda *_: None))
    lease = Lease(attempts=2)
    lease.runner = Runner(means, lease, lambda: True, "loans-sink", None, logs.Role())
    lease.runner.run()
    assert not lease.held
    return lease.held_at_attempts


def test_the_lease_is_left_to_a_scheduler_of_the_release_that_can_go_on() -> None:
    assert attempts_that_meet(OtherRelease("The ledger has format 2.")) == [False, False]


def test_trouble_that_every_scheduler_has_costs_nobody_the_lease() -> None:
    assert attempts_that_meet(Unavailable("The database does not answer.")) == [False, True]


def test_a_lease_is_taken_once_that_does_no_harm_and_then_kept_in_any_case() -> None:
    """An outage that comes later is no reason to let go of it: it runs out where it has to."""
    asked: list[bool] = []

    def may_take_over() -> bool:
        asked.append(len(lease.held_at_attempts) == 0 and len(asked) == 2)
        return asked[-1]

    def get(_: str) -> Any:
        raise Unavailable("The database does not answer.")

    means: Any = SimpleNamespace(registry=SimpleNamespace(get=get), tally=SimpleNamespace(count=lambda *_: None))
    lease = Lease(attempts=2)
    runner = lease.runner = Runner(means, lease, may_take_over, "loans-sink", None, logs.Role())
    runner._told_to_stop = Impatient()
    runner.run()
    assert asked == [False, False, True]
    assert lease.held_at_attempts == [False, True]
