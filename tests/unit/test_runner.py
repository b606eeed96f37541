"""A runner and its lease: whom it leaves it to, when it takes one, and what it says meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sinkworker import logs
from sinkworker.errors import (
    Exhausted,
    KafkaUnavailable,
    KurrentDBUnavailable,
    OtherRelease,
    RedisUnavailable,
    SinkworkerError,
)
from sinkworker.scheduling.runner import Runner
from tests.builders import stopped_connector


class Lease:
    """Free, unless it is told otherwise."""

    def __init__(self) -> None:
        self.held = False
        self.acquired = 0
        self.answers: list[bool | SinkworkerError] = []
        """Of the first attempts to acquire it."""

    def acquire(self) -> bool:
        self.acquired += 1
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, SinkworkerError):
            raise answer
        self.held = answer
        return answer

    def keep(self) -> None:
        raise AssertionError("nobody keeps it here")

    def release(self) -> None:
        self.held = False


class Impatient(threading.Event):
    """Set once it has been waited for so often, which takes no time."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self._waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        self._waits -= 1
        if self._waits == 0:
            self.set()
        return self.is_set()


class Registry:
    """Of one connector. `get` raises what it is told to."""

    def __init__(self, error: SinkworkerError | None = None) -> None:
        self._error = error
        self.said: list[str] = []

    def get(self, _: str) -> Any:
        if self._error is not None:
            raise self._error
        return stopped_connector()

    def report_waiting(self, _id: str, _epoch: int, code: str, _message: str) -> None:
        self.said.append(code)


def run(registry: Registry, lease: Lease, attempts: int, may_take_over: Callable[[], bool] = lambda: True) -> None:
    """So many attempts of a runner."""
    means: Any = SimpleNamespace(registry=registry, tally=SimpleNamespace(count=lambda *_: None))
    runner = Runner(means, lease, may_take_over, "loans-sink", None, logs.Role())
    runner._told_to_stop = Impatient(attempts)
    runner.run()
    assert not lease.held


@pytest.mark.parametrize(
    "error",
    [OtherRelease("The ledger has format 2."), Exhausted("No descriptors."), KafkaUnavailable("It does not answer.")],
)
def test_the_lease_is_left_to_a_scheduler_that_can_go_on(error: SinkworkerError) -> None:
    lease = Lease()
    left: list[bool] = []

    def may_take_over() -> bool:  # it is asked where it has none
        left.append(lease.held)
        return True

    run(Registry(error), lease, 3, may_take_over)
    assert left == [False] * 3
    assert lease.acquired == 3


def test_a_scheduler_that_does_not_reach_the_database_does_not_keep_the_lease() -> None:
    """And lets it run out: where nobody reaches it, that is no reason to change hands."""
    lease = Lease()
    run(Registry(KurrentDBUnavailable("It does not answer.")), lease, 5)
    assert lease.acquired == 1


def test_a_lease_is_taken_once_that_does_no_harm_and_then_kept_in_any_case() -> None:
    asked: list[bool] = []

    def may_take_over() -> bool:
        asked.append(len(asked) == 2)
        return asked[-1]

    lease = Lease()
    lease.answers = [True, RedisUnavailable("It does not answer."), True]
    lease_ended: list[SinkworkerError] = []

    class Ends(Registry):
        def get(self, _: str) -> Any:
            if lease_ended:
                return super().get("")
            lease_ended.append(RedisUnavailable("An epoch ends."))
            raise lease_ended[0]

    run(Ends(), lease, 6, may_take_over)
    assert asked == [False, False, True]
    assert lease.acquired == 3


def test_what_one_that_stands_by_has_trouble_with_is_not_said_of_the_connector() -> None:
    registry, lease = Registry(), Lease()
    lease.answers = [False, RedisUnavailable("It does not answer."), False]
    run(registry, lease, 3)
    assert registry.said == []


def test_what_the_one_has_trouble_with_that_runs_it_is_said() -> None:
    registry, lease = Registry(), Lease()
    lease.answers = [RedisUnavailable("It does not answer.")]
    run(registry, lease, 2)
    assert registry.said == ["redis-unavailable"]
