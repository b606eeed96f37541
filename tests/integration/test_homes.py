"""Lanes' activations go to the worker that has their producers open, and to everybody else where that does not help."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from sinkworker.ledger.contract import Activation
from sinkworker.ledger.homes import Homes, Homing, Presence
from sinkworker.model import Epoch, LaneNumber
from tests.integration.test_celery import task
from tests.processes import clean_environment, eventually
from tests.redis_server import RedisServer
from tests.system import Role, System

HERE, THERE = "sinkworker.here", "sinkworker.there"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no")
    yield running
    running.kill()


def lanes(*numbers: int) -> list[LaneNumber]:
    return [LaneNumber(number) for number in numbers]


class Neighbourhood:
    """A connector, two places that may be home, and the tasks that were sent."""

    def __init__(self, server: RedisServer) -> None:
        self.connector = uuid4().hex
        self.homes = Homes(server.client())
        self.leaving: set[str] = set()
        self.occupied: set[str] = set()
        self.sent: list[tuple[str, list[int]]] = []
        """Where to, empty for everybody, and the lanes."""
        self.present = {
            home: Presence(server.client(), home, lambda home=home: home in self.leaving)  # type: ignore[misc]
            for home in (HERE, THERE)
        }

    def known(self) -> dict[LaneNumber, str]:
        return self.homes.of(self.connector, lanes(0, 1, 2))

    def send(self, *numbers: int) -> None:
        send = Homing(self.homes, self._enqueue, self._enqueue_at)
        send(self.connector, Epoch(1), [Activation(lane, 1) for lane in lanes(*numbers)])

    def _enqueue(self, _connector: str, _epoch: Epoch, activations: Sequence[Activation]) -> None:
        self.sent.append(("", [each.lane for each in activations]))

    def _enqueue_at(self, home: str, _connector: str, _epoch: Epoch, activations: Sequence[Activation]) -> bool:
        if home in self.occupied:
            return False
        self.sent.append((home, [each.lane for each in activations]))
        return True


@pytest.fixture
def neighbourhood(server: RedisServer) -> Iterator[Neighbourhood]:
    made = Neighbourhood(server)
    made.homes.settle(made.connector, LaneNumber(0), HERE)
    made.homes.settle(made.connector, LaneNumber(1), THERE)
    for presence in made.present.values():
        presence.begin()
    eventually(lambda: made.known() == {0: HERE, 1: THERE})
    yield made
    for presence in made.present.values():
        presence.close()


def test_a_lane_is_sent_home_and_one_without_a_home_to_everybody(neighbourhood: Neighbourhood) -> None:
    neighbourhood.send(0, 1, 2)
    assert neighbourhood.sent == [(HERE, [0]), (THERE, [1]), ("", [2])]


def test_a_lane_is_sent_to_everybody_while_another_task_waits_at_its_home(neighbourhood: Neighbourhood) -> None:
    neighbourhood.occupied.add(THERE)
    neighbourhood.send(0, 1, 2)
    assert neighbourhood.sent == [(HERE, [0]), ("", [2, 1])]


def test_a_worker_that_has_been_told_to_stop_is_at_home_no_more(neighbourhood: Neighbourhood) -> None:
    neighbourhood.leaving.add(HERE)
    eventually(lambda: neighbourhood.known() == {1: THERE})
    left = neighbourhood.present[HERE]
    left.join()
    left.begin()  # it opens another lane of what it holds
    assert not left.is_alive()


def test_lanes_of_a_new_generation_are_at_home_nowhere(neighbourhood: Neighbourhood) -> None:
    neighbourhood.homes.forget(neighbourhood.connector)
    neighbourhood.send(0, 1, 2)
    assert neighbourhood.sent == [("", [0, 1, 2])]


def test_a_worker_of_which_nothing_is_heard_is_at_home_no_more(server: RedisServer) -> None:
    neighbourhood = Neighbourhood(server)
    neighbourhood.homes.settle(neighbourhood.connector, LaneNumber(0), "sinkworker.nowhere")
    assert neighbourhood.known() == {}


ENQUEUE_AT = f"""
from sinkworker.ledger.contract import Activation
from tasks.produce import enqueue_at

print([enqueue_at("{HERE}", "loans", 1, [Activation(lane, 1)]) for lane in range(2)])
"""


def test_one_task_waits_at_a_home_and_nothing_of_it_lasts(server: RedisServer, tmp_path: Path) -> None:
    nowhere = {"KURRENTDB_URI": "kdb://127.0.0.1:1", "KAFKA_BOOTSTRAP_SERVERS": "x:1", "REDIS_URL": server.url}
    command, environ = [sys.executable, "-c", ENQUEUE_AT], clean_environment(**nowhere)
    said = subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True).stdout
    assert said == "[True, False]\n"
    client = server.client()
    assert client.llen(HERE) == 1
    assert 0 < client.ttl(HERE) <= 60  # the worker may have died since
    assert not [key for key in client.keys("_kombu.*") if HERE.encode() in (client.dump(key) or b"")]


def own_queue(worker: Role) -> str:
    return f"sinkworker.worker-{worker.pid}@{socket.gethostname()}"


def test_a_worker_takes_what_is_meant_for_it(system: System) -> None:
    for worker in system.workers:
        system.redis.lpush(own_queue(worker), task())
        eventually(lambda: system.redis.llen(own_queue(worker)) == 0)  # noqa: B023
    eventually(lambda: system.redis.hlen("unacked") == 0)


@pytest.mark.long
def test_what_waits_for_a_worker_that_stops_is_left_to_the_others(tmp_path: Path) -> None:
    with System(tmp_path, workers=2) as system:
        leaving = system.workers[0]
        own = own_queue(leaving)
        leaving.signal(signal.SIGSTOP)
        for _ in range(5):  # more than it is sent before it is told
            system.redis.lpush(own, task())
        leaving.signal(signal.SIGTERM)
        leaving.signal(signal.SIGCONT)
        assert leaving.wait(20) == 0
        assert system.redis.llen(own) == 0
        eventually(lambda: system.redis.llen("sinkworker") == 0)  # the other has them
