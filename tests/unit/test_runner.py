"""A runner that meets what only another release can go on with."""

from __future__ import annotations

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

    def renew(self) -> None:
        pass

    def release(self) -> None:
        self.held = False


def attempts_that_meet(error: SinkworkerError) -> list[bool]:
    """Whether the lease was still held at each of two attempts that the error ended."""

    def get(_: str) -> Any:
        raise error

    means: Any = SimpleNamespace(registry=SimpleNamespace(get=get), tally=SimpleNamespace(count=lambda *_: None))
    lease = Lease(attempts=2)
    lease.runner = Runner(means, lease, "loans-sink", None, logs.Role())
    lease.runner.run()
    assert not lease.held
    return lease.held_at_attempts


def test_the_lease_is_left_to_a_scheduler_of_the_release_that_can_go_on() -> None:
    assert attempts_that_meet(OtherRelease("The ledger has format 2.")) == [False, False]


def test_trouble_that_every_scheduler_has_costs_nobody_the_lease() -> None:
    assert attempts_that_meet(Unavailable("The database does not answer.")) == [False, True]
