"""Turns of fate that random schedules meet too seldom, or not at all, over the same doubles."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from sinkworker.bell import SocketBell
from sinkworker.checkpoint.watch import Watch
from sinkworker.connectors import lifecycle
from sinkworker.exactly_once import marks
from sinkworker.ledger.memory import State
from sinkworker.logs import Troubles
from sinkworker.model import Cursor, LaneNumber
from sinkworker.scheduling.tenure import ActiveTenure
from tests.builders import tenure as tenure_of
from tests.unit.simulation.database import Database
from tests.unit.simulation.transactions import RETENTION_S
from tests.unit.simulation.world import (
    ID,
    NO_FAULTS,
    PREFIX,
    Coordinator,
    Faults,
    Rules,
    Scheduler,
    Violation,
    Worker,
    World,
)


def test_a_redis_that_is_rolled_back_hands_out_no_epoch_twice() -> None:
    roll_redis_back(ActiveTenure)


def roll_redis_back(tenure: type[ActiveTenure]) -> None:
    world = World(0, NO_FAULTS)
    with world.at_work():
        before = world.ledger.snapshot()
        first = begun(world, tenure)
        world.ledger.restore(before)
        second = begun(world, tenure)
    assert second.epoch > first.epoch  # R4


def begun(world: World, tenure: type[ActiveTenure]) -> ActiveTenure:
    database = Database(world.store, lambda: None, on_append=lambda _: None)
    made = tenure(world.means(database, world.ledger), ID, SocketBell(), Troubles(logging.getLogger("test")))
    made.prepare(world.connector)
    made.take_over()
    world.ledger.takeover(tenure_of(made.epoch), Cursor.BEGINNING, {})
    return made


def test_a_restored_database_stops_the_connector_with_that_reason() -> None:
    restore_database(ActiveTenure)


def restore_database(tenure: type[ActiveTenure]) -> None:
    world = World(0, NO_FAULTS, Rules(tenure=tenure))
    with world.at_work():
        until(world, lambda: world.connector.state is lifecycle.State.RUNNING)
        backup = copy.deepcopy(world.store)
        last = append(world, "lost", 20)
        until(world, lambda: world.checkpoint().commit >= last)
        world.store.log, world.store.streams = backup.log, backup.streams
        append(world, "other", 5)
        world.faults = Faults(lost_connection=0.5)
        with pytest.raises(Violation, match="database-restored"):  # R8
            until(world, lambda: False)


def test_a_node_that_leads_no_more_and_does_not_know_it_stops_no_connector() -> None:
    world = World(0, NO_FAULTS)
    with world.at_work():
        last = append(world, "loan", 20)
        until(world, lambda: world.checkpoint().commit >= last)
        answers = [Cursor.BEGINNING.commit]
        with mock.patch.object(Database, "head", lambda node: answers.pop() if answers else node.head_cursor().commit):
            world.faults = Faults(lost_connection=0.5)
            until(world, lambda: not answers)
        world.faults = NO_FAULTS
        last = append(world, "loan", 5)
        until(world, lambda: world.checkpoint().commit >= last)


def test_a_record_stops_the_connector_though_redis_has_room_for_nothing_more() -> None:
    """Whose mailboxes fill it, it may be: nobody would make room (P5)."""
    world = World(0, Faults(poison=1e-9))
    with world.at_work():
        append(world, "loan", 60)
        until(world, lambda: world.ledger.state.batch_total > 2)
        world.faults = Faults(full=1.0)
        until(world, lambda: world.connector.state is lifecycle.State.STOPPED)


def test_progress_that_kafka_has_forgotten_stops_the_connector() -> None:
    with pytest.raises(Violation, match="progress-lost"):  # X5
        forget_progress(marks.to_restore)


def forget_progress(to_restore: Callable[..., dict[LaneNumber, Cursor]]) -> None:
    """Kafka has more than the checkpoint says; everything dies, and Kafka forgets how far its lanes are."""
    world = World(0, Faults(exactly_once=True), Rules(watch=NeverWrites))
    with mock.patch.object(marks, "to_restore", to_restore), world.at_work():
        world.broker.loses_answers = False
        last = append(world, "loan", 20)
        until(world, lambda: last in {landed.position for landed in world.broker.landed})
        world.committed.marks.clear()
        world.rules = Rules()
        die_with_redis(world)
        until(world, lambda: world.checkpoint().commit >= last)
        world._judge()


@pytest.mark.parametrize("busy", [0.1, 0.0])
def test_a_lane_that_has_been_idle_for_long_is_still_known_after_a_crash(busy: float) -> None:
    let_idle_lanes_wait(ActiveTenure, busy)


def let_idle_lanes_wait(tenure: type[ActiveTenure], busy: float) -> None:
    """For much longer than Kafka keeps a mark one lane at most has records; then everything dies, and every lane has.

    `busy`: how likely that one has a record at each step.
    """
    world = World(0, Faults(exactly_once=True), Rules(tenure=tenure), lease_ms=60_000)
    with world.at_work():
        world.broker.loses_answers = False
        append(world, "loan", 20)
        ends_s = world.now_s + 4 * RETENTION_S
        while world.now_s < ends_s:
            if world.chance() < busy:
                world.store.append(f"{PREFIX}0", "Requested", b"{}", b"", f"busy-{len(world.store.log)}")
            world.step()
            world.elapse(0.1)
            world.committed.expire()
        die_with_redis(world)
        last = append(world, "late", 20)
        until(world, lambda: world.checkpoint().commit >= last)
        world._judge()


def die_with_redis(world: World) -> None:
    """Every process is killed and started again, and Redis has lost everything."""
    for actor in world._actors():
        actor.kill()
    world.ledger.restore(State())
    world.schedulers, world.workers, world.coordinators = [Scheduler(world)], [Worker(world)], [Coordinator(world)]


def test_a_stop_that_could_not_wait_knows_what_was_committed_and_not_acknowledged() -> None:
    with pytest.raises(Violation, match="progress-lost"):  # X5
        forget_after_a_hasty_stop(Rules())


def forget_after_a_hasty_stop(rules: Rules) -> None:
    """The last worker dies between commit and acknowledgement; the connector stops; Kafka forgets its lanes."""
    world = World(0, Faults(exactly_once=True, hasty=True), rules)
    with world.at_work():
        world.broker.loses_answers = False
        last = append(world, "loan", 20)
        until(world, lambda: len(world.broker.landed) > world.ledger.state.acked_records)
        for worker in world.workers:
            worker.die()
        world.workers.clear()
        world._person.stop(ID)
        until(world, lambda: world.connector.state is lifecycle.State.STOPPED)
        world.committed.marks.clear()
        world.workers = [Worker(world)]
        world._person.start(ID)
        until(world, lambda: world.checkpoint().commit >= last)
        world._judge()


def test_nothing_is_committed_behind_what_a_stop_has_recorded() -> None:
    wake_after_a_stop(Rules())


def wake_after_a_stop(rules: Rules) -> None:
    """A worker sleeps in a transaction while the connector is stopped, and wakes; then Kafka forgets its lanes."""
    world = World(3, Faults(exactly_once=True, hasty=True), rules, lease_ms=60_000)
    with world.at_work():
        last = fall_asleep_in_a_transaction(world)
        world._person.stop(ID)
        until(world, lambda: world.connector.state is lifecycle.State.STOPPED)
        world.paused.clear()
        for _ in range(300):
            world.step()
        world.committed.marks.clear()
        world._person.start(ID)
        until(world, lambda: world.checkpoint().commit >= last)
        world._judge()


def test_a_stop_soon_after_a_crash_knows_what_the_last_epoch_committed() -> None:
    with pytest.raises(Violation, match="progress-lost"):  # X5
        commit_behind_a_takeover(Rules())


def commit_behind_a_takeover(rules: Rules) -> None:
    """A worker commits when the next epoch has read the marks; that one stops before it dispatches anything."""
    world = World(3, Faults(exactly_once=True, hasty=True), rules, lease_ms=60_000)
    with world.at_work():
        last = fall_asleep_in_a_transaction(world)
        first = world.ledger.state.tenure
        renew_scheduler(world)
        until(world, lambda: world.ledger.state.tenure != first)
        world.paused = {world.schedulers[0].actor: 1_000_000}
        for _ in range(300):
            world.step()
        assert world.broker.landed
        world._person.stop(ID)
        renew_scheduler(world)
        until(world, lambda: world.connector.state is lifecycle.State.STOPPED)
        world.committed.marks.clear()
        world._person.start(ID)
        until(world, lambda: world.checkpoint().commit >= last)
        world._judge()


def fall_asleep_in_a_transaction(world: World) -> int:
    """Records are appended, and all workers sleep when one is about to commit some. The position of the last."""
    world.broker.loses_answers = False
    last = append(world, "loan", 20)
    until(world, lambda: any(in_transaction(worker) for worker in world.workers))
    world.paused = {worker.actor: 1_000_000 for worker in world.workers}
    return last


def renew_scheduler(world: World) -> None:
    """The scheduler is killed, and another one started."""
    world.schedulers[0].actor.kill()
    world.schedulers = [Scheduler(world)]


def in_transaction(worker: Worker) -> bool:
    """Whether it has sent records of a transaction that is not committed."""
    outlet: Any = worker.outlet
    return outlet is not None and any(lane.in_transaction and lane.outstanding == 0 for lane in outlet._lanes.values())


class NeverWrites(Watch):
    """A coordinator that is too slow."""

    def commit(self, now_s: float, *, last: bool = False) -> bool:
        return True


def append(world: World, kind: str, count: int) -> int:
    """Append so many records; the position of the last."""
    for number in range(count):
        event = world.store.append(f"{PREFIX}{number % 3}", "Requested", b"{}", b"", f"{kind}-{number}")
    return event.commit


def until(world: World, condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        world.step()
    raise AssertionError("it did not come true")
