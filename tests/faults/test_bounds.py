"""P6: what every process and Redis take stays within what the README says, whatever the backlog, Kafka there or not."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition
from kurrentdbclient import NewEvent, StreamState

from sinkworker.config import Config
from sinkworker.demo.topic import consumed
from tests.faults.midflow import GOES_ON_WITHIN_S, lasts
from tests.processes import eventually
from tests.system import BROKER, PARTITIONS, QUICK, Flow, System

SAMPLE_S = 0.2
MIB = 1 << 20
IN_FLIGHT_BYTES = 16 * MIB
EVENT_BYTES = 2000
EVENTS_PER_APPEND = 200
BOUNDS = {
    "scheduler": 150 * MIB + 2 * IN_FLIGHT_BYTES,
    "coordinator": 150 * MIB,
    "worker": 150 * MIB + 2 * IN_FLIGHT_BYTES,
    "redis": 50 * MIB + 2 * IN_FLIGHT_BYTES,
}
"""By role, as in the README: a process by itself, and what is undelivered, once as it came and once as it goes."""

DISK_BYTES_PER_MINUTE = 4_000_000_000
"""The most that full input writes into the database. Kafka keeps its records in memory here, compressed."""

MILLION = 1_000_000
GROWTH_BYTES = 32 * MIB
"""What a process may take beyond its most of the first fifth."""

FUNCTION = base64.b64encode(b"function transform(record) { record.value.seen = true }").decode()
READ_WITHIN_S = 300.0
pytestmark = pytest.mark.long


class Memory(threading.Thread):
    """The most that each process took, since the last `forget` too."""

    def __init__(self, system: System) -> None:
        super().__init__(name="memory", daemon=True)
        self.peak: dict[str, int] = {}
        self.most_in_flight = 0
        self._system = system
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            for name, pid in self._processes().items():
                try:
                    taken = psutil.Process(pid).memory_info().rss
                except psutil.Error:
                    continue
                self.peak[name] = max(self.peak.get(name, 0), taken)
            self.peak["redis"] = max(self.peak.get("redis", 0), self._system.redis.info("memory")["used_memory"])
            for key in self._system.redis.keys("sink:*:state"):
                self.most_in_flight = max(self.most_in_flight, int(self._system.redis.hget(key, "bytes") or 0))

    def _processes(self) -> dict[str, int]:
        found = {name: role.pid for name, role in self._system.roles.items()}
        for worker in self._system.workers:
            found |= {f"{worker.name}'s child": child for child in worker.children()}
        return found

    def forget(self) -> dict[str, int]:
        """What it was so far."""
        peak, self.peak = self.peak, {}
        return peak

    def stop(self) -> None:
        self._done.set()
        self.join()

    def __str__(self) -> str:
        return ", ".join(f"{name} {taken / MIB:.0f} MiB" for name, taken in sorted(self.peak.items()))


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """As it comes, but for the bound, which is to be reached within seconds."""
    as_it_comes = dict.fromkeys(QUICK, "")
    with System(tmp_path, workers=2, SINKWORKER_IN_FLIGHT_BYTES=str(IN_FLIGHT_BYTES), **as_it_comes) as running:
        yield running


@pytest.fixture
def memory(system: System) -> Iterator[Memory]:
    memory = Memory(system)
    memory.start()
    yield memory
    memory.stop()


def within_bounds(memory: Memory) -> None:
    print("memory:", memory, f"in flight {memory.most_in_flight / MIB:.1f} MiB")
    for name, peak in memory.peak.items():
        assert peak <= BOUNDS[name.split("-")[0]], f"{name}: {memory}"


def test_a_silent_kafka_at_full_input(
    system: System, memory: Memory, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    minutes = request.config.getoption("--outage")
    has_room(tmp_path, minutes)
    flow = system.flow()
    with full_input(flow):
        eventually(lambda: flow.position > 0, within_s=60)
        os.kill(broker := system.part(BROKER), signal.SIGSTOP)
        try:
            lasts(minutes * 60)
            assert memory.most_in_flight > IN_FLIGHT_BYTES / 2  # else it was not near its bound
        finally:
            os.kill(broker, signal.SIGCONT)
        before = flow.position
        eventually(lambda: flow.position > before, within_s=60)
    end = system.client.get_commit_position()
    drained(flow, end * 0.99)
    within_bounds(memory)
    assert memory.most_in_flight <= IN_FLIGHT_BYTES + Config().batch_bytes * PARTITIONS
    eventually(lambda: everything_is_there(flow), within_s=READ_WITHIN_S, every_s=2)


def has_room(folder: Path, minutes: float) -> None:
    needed, free = minutes * DISK_BYTES_PER_MINUTE, shutil.disk_usage(folder).free
    assert free >= needed, (
        f"{minutes:g} minutes of full input may need {needed / 1e9:.0f} GB in {folder}, which has {free / 1e9:.0f} GB: "
        "set TMPDIR to a larger disk, or make --outage shorter"
    )


def drained(flow: Flow, position: float) -> None:
    """Wait until the checkpoint is there. How long that takes is the machine's; but it never stands still."""
    while (reached := flow.position) < position:
        eventually(lambda reached=reached: flow.position > reached, within_s=GOES_ON_WITHIN_S)  # type: ignore[misc]


@contextlib.contextmanager
def full_input(flow: Flow) -> Iterator[None]:
    """Inside, records arrive as fast as the database takes them."""
    stop = threading.Event()
    data = json.dumps({"applicant": "x" * EVENT_BYTES}).encode()

    def append() -> None:
        number = 0
        while not stop.is_set():
            events = [NewEvent(type="LoanRequested", data=data) for _ in range(EVENTS_PER_APPEND)]
            number += 1
            stream = f"{flow.prefix}-{number % 100}"
            flow.system.client.append_to_stream(stream, current_version=StreamState.ANY, events=events)
            flow.appended += EVENTS_PER_APPEND

    appending = threading.Thread(target=append, daemon=True)
    appending.start()
    try:
        yield
    finally:
        stop.set()
        appending.join()


def test_a_backlog_of_a_million_events(system: System, memory: Memory) -> None:
    flow = Flow(system, system.topic())
    flow.create()
    flow.append(MILLION, streams=1000, per_append=2000)
    end = system.client.get_commit_position()
    flow.start()
    drained(flow, end / 5)
    at_first = memory.forget()
    drained(flow, end * 0.99)
    within_bounds(memory)
    for name, peak in memory.peak.items():
        assert peak <= at_first[name] + GROWTH_BYTES, f"{name}: {at_first[name] / MIB:.0f} MiB at first; {memory}"
    eventually(lambda: everything_is_there(flow), within_s=READ_WITHIN_S, every_s=2)


def everything_is_there(flow: Flow) -> bool:
    """Whether the topic has every record, each after those before it; counted, since so many fit in no list."""
    consumer = Consumer({"bootstrap.servers": flow.system.servers, "group.id": "counts", "enable.partition.eof": True})
    consumer.assign([TopicPartition(flow.topic, number, 0) for number in range(PARTITIONS)])
    furthest: dict[int, int] = {}
    count, ended = 0, 0
    while ended < PARTITIONS:
        for message in consumer.consume(1000, timeout=1):
            if message.error() is not None:
                ended += 1
                continue
            found = consumed(message)
            if found.position > furthest.get(found.partition, -1):  # else a duplicate
                count += 1
                furthest[found.partition] = found.position
    consumer.close()
    return count == flow.appended


def of_producers(process: psutil.Process) -> int:
    """How many threads librdkafka has there."""
    names = (task.read_text() for task in Path(f"/proc/{process.pid}/task").glob("*/comm"))
    return sum(name.startswith("rdk:") for name in names)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_worker_keeps_nothing_of_a_connector_that_no_longer_runs(tmp_path: Path, deleted: bool) -> None:
    """No producer, and no process for its JavaScript: connectors come and go, and the worker stays."""
    with System(tmp_path, workers=0) as system:
        system.roles["worker"] = worker = system.another("worker", ["celery", "-A", "tests.faults.forgetful", "worker"])
        worker.start()
        eventually(worker.ready, within_s=30)
        stays = system.flow()
        stays.append(10)
        assert stays.delivered().holds
        process = psutil.Process(*worker.children())
        threads = of_producers(process)
        goes = system.flow(**{"transformer:enabled": "true", "transformer:function": FUNCTION})
        goes.append(10)
        eventually(lambda: goes.position >= goes.log()[-1].commit_position)
        assert len(process.children()) == 1
        assert of_producers(process) > threads
        goes.stop()
        if deleted:
            system.registry.delete(goes.id)

        def let_go() -> bool:
            stays.append(1)  # it asks when it has worked
            return not process.children() and of_producers(process) == threads

        eventually(let_go, every_s=0.1)
        assert stays.delivered().holds
        if not deleted:
            goes.append(10)
            goes.start()
            eventually(lambda: goes.position >= goes.log()[-1].commit_position)
