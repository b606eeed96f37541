"""Tests of the tests: a ledger with one rule broken must fail the contract suite."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sinkworker.ledger.contract import Activation, Batch, Claim, Closed, Granted, Survey, Taken, Tenure
from sinkworker.ledger.memory import Lane, MemoryLedger, State
from sinkworker.model import Cursor, Epoch, LaneNumber
from tests.contract import test_ledger
from tests.contract.worlds import LEASE_MS, MemoryWorld


class NoToken(MemoryLedger):
    """Any worker that knows a lane is held may speak for its holder (R2)."""

    def _is_holder(self, lane: Lane, claim: Claim) -> bool:
        return bool(lane.token)


class HeldLanesGranted(MemoryLedger):
    """A lane that somebody holds is handed to the next as well."""

    def claim(self, epoch: Epoch, activation: Activation, token: str) -> Granted:
        if (lane := self.state.lanes.get(activation.lane)) is not None:
            lane.token = ""
        return super().claim(epoch, activation, token)


class AnyActivation(MemoryLedger):
    """An old activation claims as well as the current one."""

    def claim(self, epoch: Epoch, activation: Activation, token: str) -> Granted:
        lane = self.state.lanes.get(activation.lane)
        return super().claim(epoch, replace(activation, number=lane.activation if lane else 0), token)


class AnyBatchAcked(MemoryLedger):
    def _are_heads(self, lane: Lane, numbers: Sequence[int]) -> bool:
        return True


class NoCounter(MemoryLedger):
    def _check_unchanged(self, state: State, counter: int) -> None:
        if not self._whole(state):
            super()._check_unchanged(state, counter)


class NoIntegrity(MemoryLedger):
    def _whole(self, state: State) -> bool:
        return True


class ProgressKept(MemoryLedger):
    def _keeps_progress(self, old: State, tenure: Tenure) -> bool:
        return old.tenure is not None


class OlderEpochsTakeOver(MemoryLedger):
    def takeover(self, tenure: Tenure, checkpoint: Cursor, progress: Mapping[LaneNumber, Cursor]) -> Taken:
        if self.state.tenure is not None:
            self.state.tenure = replace(self.state.tenure, epoch=Epoch(0))
        return super().takeover(tenure, checkpoint, progress)


class MailboxesKept(MemoryLedger):
    def takeover(self, tenure: Tenure, checkpoint: Cursor, progress: Mapping[LaneNumber, Cursor]) -> Taken:
        old = self.state
        taken = super().takeover(tenure, checkpoint, progress)
        if old.lanes.keys() == self.state.lanes.keys():
            self.state.lanes, self.state.batches, self.state.batch_total = old.lanes, old.batches, old.batch_total
        return taken


class WatermarkAtTheFrontier(MemoryLedger):
    def _low(self) -> Cursor:
        return self.state.frontier


class ClosedEpochsGoOn(MemoryLedger):
    def close(self, epoch: Epoch) -> Closed:
        closed = super().close(epoch)
        self.state.closed = False
        return closed


class DispatchesWhileEnding(MemoryLedger):
    def dispatch(self, epoch: Epoch, counter: int, frontier: Cursor, batches: Sequence[Batch]) -> Survey:
        was, self.state.quiesced = self.state.quiesced, False
        survey = super().dispatch(epoch, counter, frontier, batches)
        self.state.quiesced = was
        return survey


class HandsOutBeyondTheRecord(MemoryLedger):
    def _is_before_limit(self, state: State, batch: Batch | None) -> bool:
        return True


class CondemnedLanesGoOn(MemoryLedger):
    def _waits(self, number: LaneNumber) -> bool:
        self.state.lanes[number].condemned = False
        return super()._waits(number)


class LanesStopAtAFailure(MemoryLedger):
    def _waits(self, number: LaneNumber) -> bool:
        return not self.state.failure and super()._waits(number)


BROKEN = [
    NoToken,
    HeldLanesGranted,
    AnyActivation,
    AnyBatchAcked,
    NoCounter,
    NoIntegrity,
    ProgressKept,
    OlderEpochsTakeOver,
    MailboxesKept,
    WatermarkAtTheFrontier,
    ClosedEpochsGoOn,
    DispatchesWhileEnding,
    HandsOutBeyondTheRecord,
    CondemnedLanesGoOn,
    LanesStopAtAFailure,
]


def world_of(kind: type[MemoryLedger]) -> MemoryWorld:
    world = MemoryWorld()
    world._memory = kind(lambda: world._now_ms, LEASE_MS)
    world.ledger = world._memory
    return world


def contract() -> list[tuple[str, Callable[..., None], dict[str, Any]]]:
    """Every test of the suite with each of its parameters, but for the ledger."""
    found: list[tuple[str, Callable[..., None], dict[str, Any]]] = []
    for name, test in inspect.getmembers(test_ledger, inspect.isfunction):
        if not name.startswith("test_"):
            continue
        cases: list[dict[str, Any]] = [{}]
        for mark in getattr(test, "pytestmark", []):
            names, values = mark.args
            cases = [{**case, names: value} for case in cases for value in values]
        found += [(name, test, case) for case in cases]
    return found


def failures(kind: type[MemoryLedger]) -> list[str]:
    failed = []
    for name, test, case in contract():
        world = world_of(kind)
        given = {"ledger": world.ledger, "world": world} | case
        try:
            test(**{name: given[name] for name in inspect.signature(test).parameters})
        except (Exception, pytest.fail.Exception):
            failed.append(name)
    return failed


def test_the_whole_ledger_passes() -> None:
    assert failures(MemoryLedger) == []


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_ledger_fails_the_contract(kind: type[MemoryLedger]) -> None:
    assert failures(kind)
