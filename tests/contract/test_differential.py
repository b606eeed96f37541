"""Random sequences of transitions, right and wrong ones, applied to both ledgers: every answer must be the same.

Seeds and weights rather than Hypothesis's state machine: that one spends its steps on calls that are stale in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from sinkworker.errors import Stale
from sinkworker.ledger.contract import Activation, Batch, Claim, Closed, Ledger, Survey, Taken
from sinkworker.ledger.redis_ledger import KEYS
from sinkworker.model import Cursor, Epoch, LaneNumber
from tests.builders import batch, cursor, tenure
from tests.contract.worlds import MemoryWorld, RedisWorld, Restore, World

RUNS = 60
STEPS = 120
LANES = 3
POSITIONS = [0, 1, 9, 10, 11, 99, 1000, 1 << 53, (1 << 53) + 1, (1 << 62) + 1]

WEIGHTS = {
    "dispatch": 8,
    "advance": 2,
    "claim": 10,
    "next": 6,
    "ack": 14,
    "ack_and_next": 8,
    "release": 4,
    "fail": 3,
    "complain": 2,
    "reap": 6,
    "time_passes": 8,
    "trespass": 6,
    "back_up": 2,
    "roll_back": 0.5,
    "lose": 0.3,
    "condemn": 1.5,
    "quiesce": 0.4,
    "close": 0.4,
    "takeover": 4,
}


class BothLedgers:
    """Calls both and compares. It remembers just enough to make most calls right and some wrong."""

    def __init__(self, random: Random, worlds: tuple[World, World]) -> None:
        self.random = random
        self.worlds = worlds
        self.epoch = 0
        self.counter = 0
        self.activations: dict[LaneNumber, int] = {}
        self.claims: dict[LaneNumber, Claim] = {}
        self.backup: Sequence[Restore] = ()
        self.worked: Counter[str] = Counter()
        """How often each transition did not answer Stale: proof that the sequences are worth something."""

    def run(self) -> None:
        self.takeover()
        for step in self.random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=STEPS):
            getattr(self, step)()
            self.both("watermark")

    def both(self, transition: str, *args: Any) -> Any:
        """The answer that both gave."""
        memory, redis = (self._answer(getattr(world.ledger, transition), args) for world in self.worlds)
        assert exact(memory) == exact(redis), (transition, args)
        self.worked[transition] += memory is not Stale
        return memory

    def _answer(self, call: Callable[..., Any], args: Sequence[Any]) -> Any:
        try:
            return call(*args)
        except Stale:
            return Stale

    # -- the life of a connector

    def takeover(self) -> None:
        epoch = self.epoch + self.random.choice([0, 1, 1, 2])
        progress = {lane: self.cursor() for lane in self.lanes() if self.random.random() < 0.3}
        new = tenure(epoch, generation=self.random.choice("aab"), lanes=LANES)
        new = replace(new, discards=self.random.random() < 0.03)
        answer = self.both("takeover", new, self.cursor(), progress)
        if isinstance(answer, Taken):
            self.epoch, self.counter = epoch, answer.counter

    def dispatch(self) -> None:
        answer = self.both("dispatch", Epoch(self.epoch), self.counter, self.cursor(), self.batches())
        self.surveyed(answer)

    def advance(self) -> None:
        self.surveyed(self.both("advance", Epoch(self.epoch), self.counter, self.cursor()))

    def surveyed(self, answer: Any) -> None:
        if isinstance(answer, Survey):
            self.counter = answer.counter
            self.activated(answer.activations)

    def activated(self, activations: Sequence[Activation]) -> None:
        self.activations.update({each.lane: each.number for each in activations})

    def claim(self) -> None:
        lane, token = self.lane(), self.random.choice("ab")
        granted = self.both("claim", Epoch(self.epoch), Activation(lane, self.activations.get(lane, 0)), token)
        if granted is not Stale:
            self.claims[lane] = granted.claim

    def next(self) -> None:
        self.both("next", self.held(), self.random.randrange(6), self.random.randrange(4))

    def ack(self) -> None:
        """Of the head mostly, of the batch behind it now and then."""
        claim, skipped = self.held(), self.random.random() < 0.1
        batches = self.both("next", claim, 0, 2)
        if batches is not Stale and len(batches) > skipped:
            self.both("ack", claim, batches[skipped].number)

    def ack_and_next(self) -> None:
        claim = self.held()
        batches = self.both("next", claim, 0, self.random.randrange(4))
        if batches is not Stale:
            numbers = [each.number for each in batches]
            self.random.choice([lambda: None] * 5 + [numbers.reverse])()
            self.both("ack_and_next", claim, numbers, self.random.randrange(6), self.random.randrange(4))

    def release(self) -> None:
        answer = self.both("release", self.held())
        if isinstance(answer, Activation):
            self.activated([answer])

    def fail(self) -> None:
        self.both("fail", self.held(), self.random.choice([0, 1_000_000]), self.random.choice(["", "1 silence"]))

    def complain(self) -> None:
        claim = self.held()
        self.both("complain", claim, f"trouble of lane {claim.lane}")

    def condemn(self) -> None:
        claim = self.held()
        done = self.random.choice([None, self.cursor()])
        at = self.random.choice([None, *[self.cursor().commit for _ in range(4)]])
        self.both("condemn", claim, f"reason {self.random.random()} of lane {claim.lane}", done, at)

    def reap(self) -> None:
        self.activated(self.both("reap").activations)

    def quiesce(self) -> None:
        self.both("quiesce", Epoch(self.epoch))

    def close(self) -> None:
        self.both("close", Epoch(self.epoch))

    # -- what somebody does who has no right to

    def trespass(self) -> None:
        epoch, lane = Epoch(self.epoch - self.random.randrange(2)), LaneNumber(self.random.randrange(LANES + 1))
        off = self.random.choice([-1, 1])
        claim = Claim(epoch, lane, self.random.choice(["a", "b", "c", ""]))
        activation = Activation(lane, max(0, self.activations.get(lane, 0) + off))
        self.both("dispatch", epoch, self.counter + off, self.cursor(), self.batches())
        self.surveyed(self.both("dispatch", epoch, self.counter, self.cursor(), [*self.batches(), batch(LANES, 1, 2)]))
        self.both("claim", epoch, activation, "trespasser")
        self.both("next", claim, self.random.randrange(6), 2)
        self.both("ack", claim, self.random.randrange(6))
        if epoch < self.epoch:
            for transition in ("release", "fail", "complain", "condemn"):
                self.both(
                    transition, claim, *{"fail": (0,), "complain": ("no",), "condemn": ("no",)}.get(transition, ())
                )
            self.both("quiesce", epoch)
            self.both("close", epoch)

    # -- what happens to the store

    def time_passes(self) -> None:
        # No sum of these comes near a lease or an interval, so the real milliseconds between calls do not matter.
        for world in self.worlds:
            world.elapse(3_700)

    def lose(self) -> None:
        key = self.random.choice([key for key in KEYS if key != "payloads"])
        for world in self.worlds:
            world.lose(key)
        if key == "batches":
            # They are one in memory: what follows the loss of payloads alone has tests of its own.
            self.worlds[1].lose("payloads")

    def back_up(self) -> None:
        self.backup = [world.snapshot() for world in self.worlds]

    def roll_back(self) -> None:
        for restore in self.backup:
            restore()

    # -- what is drawn

    def cursor(self) -> Cursor:
        return cursor(self.random.choice(POSITIONS))

    def lanes(self) -> list[LaneNumber]:
        return [LaneNumber(number) for number in range(LANES)]

    def lane(self) -> LaneNumber:
        return self.random.choice(self.lanes())

    def held(self) -> Claim:
        """A claim that was granted once, and may be over."""
        lane = self.lane()
        return self.claims.get(lane, Claim(Epoch(self.epoch), lane, "a"))

    def batches(self) -> list[Batch]:
        return [
            batch(
                self.lane(),
                self.random.choice(POSITIONS),
                self.random.choice(POSITIONS),
                count=self.random.randrange(1, 4),
                payload=self.random.randbytes(self.random.randrange(9)),
            )
            for _ in range(self.random.randrange(5))
        ]


def exact(answer: Any) -> Any:
    """An answer with its cursors in full: two cursors are equal already when their positions are."""
    if isinstance(answer, (Taken, Closed)):
        return answer, sorted(map(repr, answer.progress.items()))
    return repr(answer)


@pytest.fixture(scope="module")
def worked() -> Counter[str]:
    return Counter()


@pytest.mark.parametrize("seed", range(RUNS))
def test_both_ledgers_give_every_answer_alike(seed: int, redis_world: RedisWorld, worked: Counter[str]) -> None:
    both = BothLedgers(Random(seed), (MemoryWorld(), redis_world))
    both.run()
    worked.update(both.worked)


def test_most_transitions_did_something(worked: Counter[str]) -> None:
    assert all(worked[transition] >= 10 for transition in WEIGHTS if hasattr(Ledger, transition)), worked
