"""The worker as Celery runs it: what is no task, what dies beneath it, and that it ends when it is told to."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.processes import alive, clean_environment, eventually
from tests.system import BROKER, QUICK, REDIS, Flow, Role, System

ENDS_WITHIN_S = float(QUICK["SINKWORKER_DRAIN_TIMEOUT_S"]) + 2
BACK_WITHIN_S = 5.0
LONG = pytest.mark.long


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system whose parts may be killed."""
    with System(tmp_path_factory.mktemp("celery"), workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def load(own: System) -> Iterator[Flow]:
    """Records that keep coming."""
    flow, stop = own.flow(), threading.Event()

    def append() -> None:
        while not stop.is_set():
            flow.append(50)

    appending = threading.Thread(target=append)
    appending.start()
    try:
        eventually(lambda: flow.position > 0)
        yield flow
    finally:
        stop.set()
        appending.join()


def task(**changes: Any) -> str:
    """A message of the queue as Celery makes it, and with these changes to its headers or arguments."""
    known = str(uuid.uuid4())
    arguments = {"connector": "nobody", "epoch": 1, "lanes": [[0, 1]]} | changes.pop("arguments", {})
    headers = {"lang": "py", "task": "sinkworker.deliver", "id": known, "root_id": known, "retries": 0}
    delivery = {"exchange": "", "routing_key": "sinkworker"}
    message = {
        "body": base64.b64encode(json.dumps([[], arguments, {}]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers | changes.pop("headers", {}),
        "properties": {
            "correlation_id": known,
            "delivery_info": delivery,
            "delivery_tag": known,
            "body_encoding": "base64",
        }
        | changes.pop("properties", {}),
    }
    return json.dumps(message | changes)


def lines(system: System) -> list[str]:
    return [line for worker in system.workers for line in worker.log.read_text().splitlines()]


def new_lines(system: System, push: str | bytes, within_s: float = 10.0) -> list[str]:
    """What the workers log of an entry pushed to their queue. Fails unless that is one line and none of them ends."""
    before, pids = lines(system), [worker.pid for worker in system.workers]
    system.redis.lpush("sinkworker", push)
    eventually(lambda: len(lines(system)) > len(before), within_s=within_s)
    eventually(lambda: system.redis.hlen("unacked") == 0)
    time.sleep(0.2)
    assert all(alive(pid) for pid in pids)
    found = list(lines(system))
    for line in before:
        found.remove(line)
    return found


NO_MESSAGES: list[str | bytes] = [
    "garbage",
    b"\xff\xfe",
    "[]",
    "{}",
    "17",
    "null",
    "[" * 100_000,
    '{"properties": {"delivery_tag": "a"}}',
    task(body=5),
    task(properties={"body_encoding": "zip"}),
    task(properties={"delivery_tag": [1]}),
    task(properties={"delivery_info": []}),
]
NO_TASKS = [
    task(headers={"task": "another"}),
    task(headers={"task": ["sinkworker.deliver"]}),
    task(headers={"id": []}),
    task(headers={"timelimit": "zz"}),
    task(headers={"eta": "zz"}),
    task(headers={"compression": "zz"}),
    json.dumps(json.loads(task()) | {"headers": None}),
    task(body="%%%"),
    task(body=base64.b64encode(b"[1]").decode()),
    task(**{"content-type": "application/x-python-serialize"}),
    task(**{"content-type": "application/x-yaml"}),
    task(headers={"task": "x" * 1_000_000}),
]


@pytest.mark.parametrize("entry", NO_MESSAGES)
def test_what_is_no_message_costs_one_line_and_no_worker(system: System, entry: str | bytes) -> None:
    (line,) = new_lines(system, entry)
    assert "dropped an entry of the queue" in line


@pytest.mark.parametrize("entry", NO_TASKS)
def test_a_message_that_is_no_task_of_ours_costs_one_line_and_no_worker(system: System, entry: str) -> None:
    (line,) = new_lines(system, entry)
    assert "dropped a message of the queue" in line
    assert len(line) < 500


class Trap:
    """What a pickle of it does when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/json"])
def test_a_pickle_is_refused_unread_and_not_logged(system: System, tmp_path: Path, content_type: str) -> None:
    trap = tmp_path / "loaded"
    body = base64.b64encode(pickle.dumps([[], {"connector": Trap(trap)}, {}])).decode()
    encoding = "binary" if "python" in content_type else "utf-8"
    (line,) = new_lines(system, task(body=body, **{"content-type": content_type, "content-encoding": encoding}))
    assert not trap.exists()
    assert str(tmp_path) not in line


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": "x"},
        {"epoch": 10**400},
        {"lanes": [[0, "x"]]},
        {"lanes": [[0, 1]] * 100_000},
        {"connector": "x" * 1_000_000},
        {"more": "body " * 1000},
    ],
    ids=lambda each: str(each)[:30],
)
def test_a_task_with_wrong_arguments_costs_one_line_and_no_worker(system: System, wrong: dict[str, Any]) -> None:
    (line,) = new_lines(system, task(arguments=wrong))
    assert "needs exactly the keywords connector (a text), epoch" in line
    assert len(line) < 500


def test_a_worker_that_starts_says_only_what_matters(own: System) -> None:
    for worker in own.workers:
        _connected, purpose, ready = worker.log.read_text().splitlines()
        assert "delivering batches to Kafka" in purpose
        assert ready.endswith(" ready.")


def test_a_killed_child_is_one_line(own: System, load: Flow) -> None:
    worker = own.workers[0]
    size = worker.log.stat().st_size
    (child,) = worker.children()
    os.kill(child, signal.SIGKILL)
    eventually(lambda: b" died of " in worker.log.read_bytes()[size:])
    eventually(lambda: flows(load))
    told = worker.log.read_bytes()[size:].decode().splitlines()
    (line,) = (each for each in told if "connector=" not in each)  # a new process may have to wait for Kafka
    assert "died of signal 9 (SIGKILL); another one is started" in line


@LONG
def test_a_killed_redis_costs_no_traceback_and_the_workers_are_soon_back(own: System, load: Flow) -> None:
    connected = [worker.log.read_text().count("Connected to") for worker in own.workers]
    os.kill(own.local.pid, signal.SIGSTOP)  # which would start another one at once
    try:
        os.kill(own.part(REDIS), signal.SIGKILL)
        time.sleep(8)  # Celery's own pauses have grown to 6 s by then
    finally:
        os.kill(own.local.pid, signal.SIGCONT)
    eventually(lambda: answers(own))
    for worker, before in zip(own.workers, connected, strict=True):
        eventually(lambda: worker.log.read_text().count("Connected to") > before, within_s=BACK_WITHIN_S)  # noqa: B023
        assert not worker.said("Traceback")
    eventually(lambda: flows(load), within_s=30)


def answers(system: System) -> bool:
    try:
        return bool(system.redis.ping())
    except redis.RedisError:
        return False


def flows(flow: Flow) -> bool:
    before = flow.position
    time.sleep(0.5)
    return flow.position > before >= 0


def stopped(worker: Role, number: int = signal.SIGTERM) -> int:
    """Signal the worker as honcho does, its whole process group. The exit code; fails where that takes too long."""
    os.killpg(worker.pid, number)
    assert worker._process is not None
    return worker._process.wait(ENDS_WITHIN_S)


FORGOTTEN = """
import time

from kombu.asynchronous import Hub, set_event_loop

from tasks import app
from tasks.pool import Pool

hub = Hub()
set_event_loop(hub)
pool = Pool(1, initargs=(app, "worker"), app=app, threads=False)
pool.start()
pool.register_with_event_loop(hub)
loop = hub.create_loop()
while not pool._pool._fileno_to_inq:
    next(loop)
pool.apply_async(time.sleep, (0.1,))
(job,) = pool._pool._cache.values()
while job._write_to is None:
    next(loop)
assert not job._accepted
pool.close()
pool.flush()
pool.stop()
"""
"""What a worker does that is told to stop right after it has handed a task to its pool."""


def test_a_pool_process_does_not_wait_until_its_parent_knows_a_task_that_it_has_forgotten(tmp_path: Path) -> None:
    nowhere = {
        "KURRENTDB_URI": "kdb://127.0.0.1:1",
        "REDIS_URL": "redis://127.0.0.1:1",
        "KAFKA_BOOTSTRAP_SERVERS": "x:1",
    }
    environ = clean_environment(**nowhere)
    subprocess.run([sys.executable, "-c", FORGOTTEN], cwd=tmp_path, env=environ, check=True, timeout=10)


@LONG
@pytest.mark.parametrize(("number", "stops"), [(signal.SIGTERM, 3), (signal.SIGINT, 1)])
def test_a_worker_under_load_ends_in_time_and_with_0(own: System, load: Flow, number: int, stops: int) -> None:
    for _ in range(stops):
        eventually(lambda: flows(load), within_s=30)
        for worker in own.workers:
            assert stopped(worker, number) == 0
            worker.start()
        for worker in own.workers:
            eventually(worker.ready)


def pause(part: str) -> Callable[[System], Callable[[], None]]:
    """Let a part of the stack fall silent; gives what ends that."""

    def begin(system: System) -> Callable[[], None]:
        pid = system.part(part)
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)

    return begin


def kill(part: str) -> Callable[[System], Callable[[], None]]:
    """Take a part of the stack away; gives what lets it come back."""

    def begin(system: System) -> Callable[[], None]:
        os.kill(system.local.pid, signal.SIGSTOP)
        os.kill(system.part(part), signal.SIGKILL)
        return lambda: os.kill(system.local.pid, signal.SIGCONT)

    return begin


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(pause(BROKER), marks=LONG),
        pytest.param(pause(REDIS), marks=LONG),
        pytest.param(kill(REDIS), marks=LONG),
    ],
    ids=["silent-kafka", "silent-redis", "no-redis"],
)
def test_a_worker_ends_in_time_whatever_is_away(
    own: System, load: Flow, trouble: Callable[[System], Callable[[], None]]
) -> None:
    eventually(lambda: flows(load), within_s=30)
    end = trouble(own)
    try:
        time.sleep(1)  # so that it is in the middle of something that fails
        for worker in own.workers:
            stopped(worker)
    finally:
        end()
    eventually(lambda: answers(own))
    for worker in own.workers:
        assert not worker.said("Traceback")
        worker.start()
        eventually(worker.ready)
