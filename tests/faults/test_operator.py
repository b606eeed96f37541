"""What an operator sees of a fault: a line in each role that it touches, and a connector that tells the truth."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from sinkworker.connectors.lifecycle import State
from tests.ports import free_port
from tests.processes import eventually
from tests.system import BROKER, DATABASE, REDIS, Flow, Role, System

SILENT_WORKER = "a worker fell silent: its lanes go to others"
BAD = ("WARNING", "ERROR", "CRITICAL")


@dataclass
class Logs:
    """The logs of every role, from now on."""

    roles: dict[str, Role]

    def __post_init__(self) -> None:
        self._starts = {name: role.log.stat().st_size for name, role in self.roles.items()}

    def lines(self, name: str) -> list[str]:
        return self.roles[name].log.read_bytes()[self._starts[name] :].decode().splitlines()

    def said(self, text: str, *names: str) -> bool:
        """Whether each of these roles has."""
        return all(any(text in line for line in self.lines(name)) for name in names)

    def troubles(self, name: str) -> list[str]:
        return [line for line in self.lines(name) if any(f" {level} " in line for level in BAD)]


@pytest.fixture(scope="module")
def roles(system: System) -> Iterator[dict[str, Role]]:
    """Every role, the API too."""
    api = system.another("api", ["sinkworker", "api"], SINKWORKER_API_PORT=str(free_port()))
    api.start()
    try:
        eventually(lambda: api.said("listening on"))
        yield {**system.roles, "api": api}
    finally:
        api.destroy()


@pytest.fixture(scope="module")
def flow(system: System) -> Iterator[Flow]:
    """A connector whose records keep coming. In the end, all that happened to it is judged."""
    flow = system.flow()
    with flow.load(pause_s=0.02):
        yield flow
    verdict = flow.delivered()
    assert verdict.holds, verdict


@pytest.fixture
def logs(roles: dict[str, Role], flow: Flow) -> Iterator[Logs]:
    """The logs of one fault. After it, records flow again and nobody has left a traceback or a riddle."""
    eventually(lambda: flows(flow), within_s=30)
    logs = Logs(roles)
    yield logs
    eventually(lambda: flows(flow), within_s=30)
    eventually(lambda: flow.connector.error is None)
    for name in roles:
        troubles = logs.troubles(name)
        assert "Traceback" not in "\n".join(logs.lines(name)), name
        assert len(set(map(subject, troubles))) == len(troubles), f"{name} repeats itself: {troubles}"
        allowed = 2 if name.startswith("worker") else 1  # a worker is the process that takes tasks, and its child
        others = Counter(subject(line)[1] for line in troubles if SILENT_WORKER not in line)
        assert max(others.values(), default=0) <= allowed, f"{name} says too much: {troubles}"


def flows(flow: Flow) -> bool:
    before = flow.position
    return before >= 0 and bool(eventually(lambda: flow.position > before, within_s=30))


def subject(line: str) -> tuple[str, str]:
    """What a line is about, to see repetitions: the beginning of its sentence, and the connector; of a worker that fell
    silent the lanes, too, since not all claims of one end at the same moment.
    """
    sentence, _, fields = line.partition(" connector=")
    return sentence.split(maxsplit=3)[3][:20], fields if SILENT_WORKER in line else fields.split(" ")[0]


@contextlib.contextmanager
def away(system: System, part: str) -> Iterator[None]:
    """Inside, a part of the stack is gone, and whoever would start it again waits."""
    os.kill(system.local.pid, signal.SIGSTOP)
    try:
        os.kill(system.part(part), signal.SIGKILL)
        yield
    finally:
        os.kill(system.local.pid, signal.SIGCONT)


@contextlib.contextmanager
def silent(system: System, part: str) -> Iterator[None]:
    """Inside, a part of the stack accepts connections and answers nothing."""
    pid = system.part(part)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_silent_kafka(system: System, flow: Flow, logs: Logs) -> None:
    with silent(system, BROKER):
        eventually(lambda: logs.said("Its lanes are tried again until it works.", "worker-0", "worker-1"), within_s=20)
        eventually(lambda: logs.said("Its records wait.", "scheduler"))
        error = eventually(lambda: flow.connector.error)
        assert flow.connector.state is State.RUNNING
    eventually(lambda: logs.said("records are delivered again", "scheduler", "worker-0", "worker-1"), within_s=20)
    assert error is not None
    assert error.code == "kafka-unavailable"
    assert len(logs.troubles("scheduler")) == len(logs.troubles("worker-0")) == len(logs.troubles("worker-1")) == 1
    assert all(f"connector={flow.id} epoch=" in line for line in logs.troubles("scheduler"))
    assert all(" lane=" in line for line in logs.troubles("worker-0"))
    assert not logs.troubles("api")


@pytest.mark.parametrize("fault", [away, pytest.param(silent, marks=pytest.mark.long)])
def test_redis(
    system: System, flow: Flow, logs: Logs, fault: Callable[[System, str], contextlib.AbstractContextManager[None]]
) -> None:
    with fault(system, REDIS):
        eventually(lambda: logs.said("Redis", "scheduler"))
        eventually(lambda: logs.said("Checkpoints wait for it.", "coordinator"))
        eventually(lambda: logs.said("Requests are answered 503 until it does.", "api"))
        if fault is away:
            eventually(lambda: logs.said("Tasks wait until it answers.", "worker-0", "worker-1"))
        error = eventually(lambda: flow.connector.error)
    eventually(lambda: logs.said("running from position", "scheduler"))
    eventually(lambda: logs.said("checkpoints go on", "coordinator"))
    eventually(lambda: logs.said("Redis answers again", "api"))
    assert error is not None
    assert error.code == "redis-unavailable"
    others = [line for name in logs.roles for line in logs.troubles(name) if "Redis" not in line]
    assert all(SILENT_WORKER in line for line in others), others  # whose claim could not be renewed
    assert any(f"connector={flow.id}" in line for line in logs.troubles("scheduler"))
    assert any(f"connector={flow.id}" in line for line in logs.troubles("coordinator"))


def test_a_redis_that_is_full(system: System, flow: Flow, logs: Logs) -> None:
    system.redis.config_set("maxmemory", "1mb")
    try:
        error = eventually(lambda: flow.connector.error)
    finally:
        system.redis.config_set("maxmemory", "0")
    eventually(lambda: logs.said("records are delivered again", "scheduler"))
    assert error is not None
    assert error.code == "redis-full"
    (line,) = logs.troubles("scheduler")
    assert "Redis is full" in line
    assert all(worker.alive for worker in system.workers)
    assert f"Its records wait. connector={flow.id}" in line


def test_a_redis_that_lost_everything(system: System, logs: Logs) -> None:
    system.redis.flushall()
    eventually(lambda: logs.said("running from position", "scheduler"))
    for name in logs.roles:
        assert not logs.troubles(name)
    assert logs.said("The epoch is over: taking over again.", "scheduler")


@pytest.mark.parametrize("fault", [away, pytest.param(silent, marks=pytest.mark.long)])
def test_kurrentdb(
    system: System, flow: Flow, logs: Logs, fault: Callable[[System, str], contextlib.AbstractContextManager[None]]
) -> None:
    with fault(system, DATABASE):
        eventually(lambda: logs.troubles("scheduler"))
        eventually(lambda: logs.said("Checkpoints wait for it.", "coordinator"))
        eventually(lambda: logs.said("Requests are answered 503 until it does.", "api"))
    eventually(lambda: logs.said("KurrentDB answers again", "scheduler", "api"), within_s=20)
    for name in ("scheduler", "coordinator"):
        assert f"connector={flow.id}" in logs.troubles(name)[0]
    others = [line for name in logs.roles for line in logs.troubles(name) if "KurrentDB" not in line]
    assert not others
    assert not logs.troubles("worker-0")
    assert not logs.troubles("worker-1")


def test_killed_processes(system: System, logs: Logs) -> None:
    (child,) = eventually(system.roles["worker-0"].children)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: logs.said("another one is started", "worker-0"))
    for name in ("scheduler", "coordinator", "worker-1"):
        system.roles[name].kill()
        system.roles[name].start()
    eventually(system.roles["worker-1"].ready, within_s=30)
    eventually(lambda: logs.said("running from position", "scheduler"), within_s=20)
    assert len(logs.troubles("worker-0")) == 1
    for name in ("scheduler", "worker-1", "api"):
        assert not logs.troubles(name)
    assert all(SILENT_WORKER in line for line in logs.troubles("coordinator"))


def test_what_is_wrong_with_a_connector_or_a_task(system: System, logs: Logs) -> None:
    """A topic that does not exist, a Kafka that was never there, and an entry of the queue that is no task."""
    missing = Flow(system, "no-such-topic")
    missing.create()
    missing.start()
    nowhere = Flow(system, system.topic())
    nowhere.create(bootstrapServers="127.0.0.1:1")
    nowhere.start()
    system.redis.lpush("sinkworker", "garbage")
    stopped = eventually(lambda: missing.connector.error)
    waits = eventually(lambda: nowhere.connector.error)
    assert stopped is not None
    assert waits is not None
    assert (missing.connector.state, stopped.code) == (State.STOPPED, "topic-missing")
    assert (nowhere.connector.state, waits.code) == (State.ACTIVATING, "kafka-unavailable")
    nowhere.stop()
    assert nowhere.connector.error is None
    stops, tries = sorted(logs.troubles("scheduler"), key=lambda line: nowhere.id in line)
    assert "the connector stops: The topic 'no-such-topic' does not exist" in stops
    assert f"connector={missing.id}" in stops
    assert "Kafka at 127.0.0.1:1 does not answer" in tries
    assert f"Trying again until it works. connector={nowhere.id}" in tries
    eventually(lambda: len(logs.troubles("worker-0") + logs.troubles("worker-1")) == 1)
    (dropped,) = logs.troubles("worker-0") + logs.troubles("worker-1")
    assert "dropped an entry of the queue" in dropped
