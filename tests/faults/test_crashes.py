"""Real processes killed, stopped and restarted in mid-flow. Whatever dies: nothing lost, order kept (P1, P2)."""

from __future__ import annotations

import os
import signal

import pytest

from sinkworker.crashpoints import CrashPoint
from tests.faults.midflow import asleep, expired_lanes, outcome
from tests.processes import eventually
from tests.system import BROKER, DATABASE, REDIS, Flow, System


@pytest.mark.parametrize("name", ["scheduler", "coordinator", "worker-0"])
def test_a_killed_role_that_is_started_again_loses_nothing(system: System, flow: Flow, name: str) -> None:
    system.roles[name].kill()
    system.roles[name].start()
    outcome(flow)


@pytest.mark.parametrize("point", CrashPoint)
def test_a_role_that_dies_between_two_steps_loses_nothing(system: System, flow: Flow, point: CrashPoint) -> None:
    armed = system.arm(point)

    def is_met() -> bool:
        flow.append(20)  # what has been appended may be delivered by now
        return not armed.exists()

    eventually(is_met)
    role = system.roles.get(point.partition("-")[0])
    if role is not None:  # of a worker the pool process died, which its parent replaces
        eventually(lambda: not role.alive)
        system.redis.delete(f"sink:{{{flow.id}}}:scheduler")  # the dead one's lease, which only costs time
        role.start()
    outcome(flow)


def test_a_killed_worker_is_replaced_by_the_others(system: System, flow: Flow) -> None:
    system.roles["worker-0"].kill()
    outcome(flow)
    system.roles["worker-0"].start()


def test_a_killed_pool_child_is_replaced_by_its_parent(system: System, flow: Flow) -> None:
    for worker in system.workers:
        eventually(worker.ready, within_s=30)  # Celery gives up where its first child dies before that
        for child in worker.children():
            os.kill(child, signal.SIGKILL)
    outcome(flow)


def test_a_pool_child_that_is_told_to_stop_goes_on_as_long_as_its_parent(system: System, flow: Flow) -> None:
    for worker in system.workers:
        for child in worker.children():
            os.kill(child, signal.SIGTERM)
    assert outcome(flow).duplicates == 0  # P3


def test_a_worker_that_sleeps_past_its_lease_does_no_harm_when_it_wakes(system: System, flow: Flow) -> None:
    expired = expired_lanes(system)
    with asleep(flow):
        eventually(lambda: expired_lanes(system) > expired)
    outcome(flow)


def test_a_redis_that_lost_everything_costs_no_record_and_no_connector(system: System, flow: Flow) -> None:
    system.redis.flushall()
    outcome(flow)


@pytest.mark.parametrize("part", [REDIS, DATABASE])
def test_a_killed_server_that_comes_back_with_its_data_loses_nothing(system: System, flow: Flow, part: str) -> None:
    os.kill(system.part(part), signal.SIGKILL)
    outcome(flow)


@pytest.mark.long
def test_a_scheduler_that_starts_while_the_broker_is_silent_goes_on_with_the_layout(system: System, flow: Flow) -> None:
    scheduler, broker = system.roles["scheduler"], system.part(BROKER)
    scheduler.kill()
    os.kill(broker, signal.SIGSTOP)
    try:
        scheduler.start()
        eventually(lambda: scheduler.said("goes on with the layout it has"), within_s=30)
    finally:
        os.kill(broker, signal.SIGCONT)
    outcome(flow)


def test_two_schedulers_at_once_do_no_harm(system: System, flow: Flow) -> None:
    second = system.another("scheduler", ["sinkworker", "scheduler"])
    second.start()

    def both_run() -> bool:
        system.redis.delete(f"sink:{{{flow.id}}}:scheduler")  # the lease is politeness: take it away
        return second.said("running from position")

    eventually(both_run)
    outcome(flow)
    assert second.stop() == 0


def test_a_copy_of_every_task_does_no_harm(system: System, flow: Flow) -> None:
    for message in system.redis.lrange("sinkworker", 0, -1):
        system.redis.lpush("sinkworker", message)
    outcome(flow)
