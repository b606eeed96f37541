"""Pure: which faults a seed stands for, when each strikes and how long it lasts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sinkworker.config import Config
from sinkworker.scheduling.scheduler import LEASE_S

WORKERS = 3


class Kind(StrEnum):
    KILL = "kill"
    """SIGKILL, and started again when the fault ends."""
    KILL_CHILD = "kill child"
    """SIGKILL to a worker's pool process, which its parent replaces."""
    STOP = "stop"
    """SIGTERM, and started again when the fault ends."""
    PAUSE = "pause"
    """SIGSTOP, and SIGCONT when the fault ends; of a worker its pool process alone."""
    RUN = "run"
    """One more process of a role, killed when the fault ends."""
    FLUSH = "flush"
    """Redis forgets everything, and runs on."""
    LOSE = "lose"
    """Redis is killed, and comes back empty."""
    TAKE_BACK = "take back"
    """Redis comes back with what it held when the fault began, and every connection is lost."""
    STALL = "stall"
    """Nothing passes between a role and a server, over connections that stay open."""


@dataclass(frozen=True, slots=True)
class Fault:
    at_s: float
    """After the load began."""
    kind: Kind
    target: str
    lasts_s: float

    @property
    def ends_s(self) -> float:
        return self.at_s + self.lasts_s

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.kind} {self.target} for {self.lasts_s:.1f} s"


@dataclass(frozen=True, slots=True)
class _Choice:
    kind: Kind
    target: str
    shortest_s: float
    longest_s: float
    group: str
    """Of the faults of one group only one lasts at a time."""
    rest_s: float = 0.0
    """From the end of a fault of the group to its next: a crash has to be over before it is repeated."""


SERVER, SCHEDULER = "server", "scheduler"
SERVERS = ("redis", "database", "broker")
LINKED = ("scheduler", "coordinator", "worker-0")
"""Roles that reach Redis and the database over a network that may stall; the others see a port that is closed."""
SCHEDULER_REST_S = 15.0
SERVER_REST_S = 5.0
WORKERS_OUT = WORKERS - 1
"""One worker is left in any case: with none, standing still says nothing."""
PAUSES_S = (1.0, 4.0)
"""From one fault to the next."""


def link(role: str, server: str) -> str:
    """What a fault between the two is aimed at."""
    return f"{server} of {role}"


def _choices(broker_keeps_data: bool) -> Iterator[_Choice]:
    claim_s = Config().claim_lease_s
    for kind in (Kind.KILL, Kind.STOP):
        yield _Choice(kind, "scheduler", 0, 2, SCHEDULER, SCHEDULER_REST_S)
        yield _Choice(kind, "coordinator", 0, 5, "coordinator")
    yield _Choice(Kind.PAUSE, "scheduler", LEASE_S + 0.5, LEASE_S + 2, SCHEDULER, SCHEDULER_REST_S)
    yield _Choice(Kind.PAUSE, "coordinator", 1, 10, "coordinator")
    yield _Choice(Kind.RUN, "second scheduler", 5, 15, "second scheduler")
    yield _Choice(Kind.RUN, "second coordinator", 5, 15, "second coordinator")
    for server in ("redis", "database"):
        yield _Choice(Kind.STALL, link("scheduler", server), 1, LEASE_S + 2, SCHEDULER, SCHEDULER_REST_S)
        yield _Choice(Kind.STALL, link("coordinator", server), 1, 10, "coordinator")
    yield _Choice(Kind.STALL, link("worker-0", "redis"), 1, claim_s + 3, "worker-0")
    for number in range(WORKERS):
        worker = f"worker-{number}"
        yield _Choice(Kind.KILL, worker, 0, 3, worker)
        yield _Choice(Kind.KILL_CHILD, worker, 3, 3, worker)
        yield _Choice(Kind.STOP, worker, 0, 3, worker)
        yield _Choice(Kind.PAUSE, worker, claim_s + 0.5, claim_s + 3, worker)
    yield _Choice(Kind.FLUSH, "redis", 0, 0, SERVER, SERVER_REST_S)
    yield _Choice(Kind.LOSE, "redis", 0, 5, SERVER, SERVER_REST_S)
    yield _Choice(Kind.TAKE_BACK, "redis", 2, 10, SERVER, SERVER_REST_S)
    yield _Choice(Kind.KILL, "redis", 0, 5, SERVER, SERVER_REST_S)
    yield _Choice(Kind.PAUSE, "redis", 1, 8, SERVER, SERVER_REST_S)
    yield _Choice(Kind.KILL, "database", 0, 5, SERVER, SERVER_REST_S)
    yield _Choice(Kind.PAUSE, "broker", 1, 10, SERVER, SERVER_REST_S)
    if broker_keeps_data:
        yield _Choice(Kind.KILL, "broker", 0, 5, SERVER, SERVER_REST_S)
        yield _Choice(Kind.STOP, "broker", 0, 5, SERVER, SERVER_REST_S)


def plan(seed: int, seconds: float, *, broker_keeps_data: bool, only: Kind | None = None) -> list[Fault]:
    """The faults of a run, by time; `only` those of a kind. The same seed, broker and kind give the same, and a longer
    run begins as a shorter one.
    """
    chance = random.Random(seed)
    choices = [each for each in _choices(broker_keeps_data) if only in (None, each.kind)]
    faults: list[Fault] = []
    free_at: dict[str, float] = {}
    at_s = chance.uniform(*PAUSES_S)
    while at_s < seconds:
        if not (possible := _possible(choices, free_at, at_s)):
            at_s += chance.uniform(*PAUSES_S)
            continue
        choice = chance.choice(possible)
        fault = Fault(at_s, choice.kind, choice.target, chance.uniform(choice.shortest_s, choice.longest_s))
        free_at[choice.group] = fault.ends_s + choice.rest_s
        faults.append(fault)
        at_s += chance.uniform(*PAUSES_S)
    return faults


def _possible(choices: Sequence[_Choice], free_at: dict[str, float], at_s: float) -> list[_Choice]:
    free = [choice for choice in choices if free_at.get(choice.group, 0.0) <= at_s]
    out = sum(group.startswith("worker") and until > at_s for group, until in free_at.items())
    return [choice for choice in free if out < WORKERS_OUT or not choice.group.startswith("worker")]
