"""Thousands of random schedules of the whole protocol: whatever happens, P1, P2, P3 and P7 hold."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.unit.simulation.world import CLEAN, EVERYTHING, NO_FAULTS, PARTITIONS, Faults, World

SCHEDULES = int(os.environ.get("SINKWORKER_TEST_SCHEDULES", "10"))
"""For each kind of faults. More find more: 1,000 take some minutes."""

KINDS = {
    "all at once": EVERYTHING,
    "processes die": Faults(kill=0.03),
    "processes sleep and wake": Faults(pause=0.03),
    "Redis loses data": Faults(rollback=0.02, empty=0.004, evict=0.01),
    "Redis is full": Faults(full=0.6, hand_over=0.02, restart=0.02, pause=0.005),
    "calls and tasks get lost": Faults(lost_call=0.02, lost_task=0.1),
    "Kafka refuses": Faults(refusal=True, pause=0.005),
    "records are undeliverable": Faults(undeliverable=True, kill=0.01, pause=0.01, lost_call=0.005),
    "records stop the connector": Faults(poison=0.2, kill=0.01, pause=0.01, lost_call=0.005, rollback=0.005),
    "two of each, and resets": Faults(second=0.02, reset=0.03, restart=0.02, hand_over=0.01, pause=0.01),
}


EXPIRY = {
    "all at once": replace(EVERYTHING, reset=0.0),
    "stops and crashes": Faults(restart=0.03, kill=0.03, pause=0.02, lost_call=0.01),
    "stops in haste": Faults(hasty=True, restart=0.03, kill=0.03, pause=0.02),
}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_and_order_is_kept(kind: str) -> None:
    for seed in range(SCHEDULES):
        try:
            World(seed, KINDS[kind]).run()
        except AssertionError as exc:
            raise AssertionError(f"seed {seed}: {exc}") from exc


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_once_whatever_happens(kind: str) -> None:
    for seed in range(SCHEDULES // 2):
        try:
            World(seed, replace(KINDS[kind], exactly_once=True)).run()
        except AssertionError as exc:
            raise AssertionError(f"seed {seed}: {exc}") from exc


@pytest.mark.parametrize("kind", EXPIRY)
def test_progress_that_kafka_forgets_costs_no_repetition(kind: str) -> None:
    for seed in range(SCHEDULES // 2):
        try:
            World(seed, replace(EXPIRY[kind], expiry=0.05, exactly_once=True)).run()
        except AssertionError as exc:
            raise AssertionError(f"seed {seed}: {exc}") from exc


@pytest.mark.parametrize("faults", [NO_FAULTS, CLEAN, replace(CLEAN, lost_task=0.1)])
def test_clean_stops_and_lost_tasks_repeat_nothing(faults: Faults) -> None:
    for seed in range(SCHEDULES // 2):
        world = World(seed, faults, lease_ms=60_000)
        world.run()
        assert world.duplicates == 0, f"seed {seed}"  # P3


def test_a_stop_for_a_record_is_behind_everything_before_it() -> None:
    for seed in range(SCHEDULES):
        world = World(seed, Faults(poison=0.3, lost_task=0.05, lost_call=0.002, kill=0.005, full=0.1))
        assert world.halts_undisturbed
        world.run()


def test_a_stop_for_a_record_repeats_nothing() -> None:
    """Where a lane is a partition, as by default: else records of the lane's others may be ahead of the one."""
    for seed in range(SCHEDULES):
        world = World(seed, replace(CLEAN, poison=0.3), lease_ms=60_000, lanes=PARTITIONS)
        world.run()
        assert world.duplicates == 0, f"seed {seed}"  # P3
