"""A connector whose Kafka is gone leaves the others as they were: their records arrive as soon as before."""

from __future__ import annotations

import contextlib
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # public, but not in an __all__
from kurrentdbclient import NewEvent, StreamState

from sinkworker.delivery.aside import PATIENCE_S
from sinkworker.local import kafka
from tests.chaos.witness import Arrivals
from tests.faults.midflow import lasts
from tests.ports import free_port
from tests.processes import eventually
from tests.system import PARTITIONS, Flow, System

MEASURED = 40
SLOWER_AT_MOST = 3.0
NEVER_LATER_THAN_S = 2 * PATIENCE_S
"""Each worker may find out once that a Kafka is silent, together."""

WAITS_S = 10.0


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """With the delivery timeout of real life, which a silent Kafka keeps a worker waiting for."""
    with System(tmp_path, workers=2, SINKWORKER_DELIVERY_TIMEOUT_S="30") as running:
        yield running


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A second Kafka, and its address."""
    (folder := tmp_path / "second").mkdir()
    part = kafka.part(folder)
    port = free_port()
    running = subprocess.Popen(part.argv(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: part.answers(part.address(port)))
        yield running, part.address(port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.send_signal(signal.SIGCONT)
        running.kill()
        running.wait()


def latencies(flow: Flow, arrivals: Arrivals) -> list[float]:
    """From append to seen, one record after the other."""
    measured = []
    for _ in range(MEASURED):
        event = NewEvent(type="LoanRequested", data=b"{}")
        began = time.monotonic()
        flow.system.client.append_to_stream(f"{flow.prefix}-1", current_version=StreamState.ANY, events=[event])
        eventually(lambda: arrivals.seen and arrivals.seen[-1].record_id == str(event.id), within_s=60, every_s=0.001)  # noqa: B023
        measured.append(time.monotonic() - began)
    return measured


@pytest.mark.long
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_kafka_of_one_leaves_another_s_latency(
    system: System, broker: tuple[subprocess.Popen[bytes], str], end: signal.Signals
) -> None:
    process, address = broker
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    for created in admin.create_topics([NewTopic("dead", PARTITIONS)]).values():
        created.result(10)
    flow, dead = system.flow(), Flow(system, "dead")
    arrivals = Arrivals(system.servers, flow.topic, PARTITIONS)
    arrivals.start()
    dead.create(bootstrapServers=address)
    dead.start()
    with dead.load(pause_s=0.1):
        before = latencies(flow, arrivals)
        process.send_signal(end)
        at_first = latencies(flow, arrivals)
        lasts(WAITS_S)
        later = latencies(flow, arrivals)
    arrivals.stop(0)
    told = [f"{statistics.median(each):.3f} s, at most {max(each):.3f} s" for each in (before, at_first, later)]
    print("latency before, at first and later:", told)
    assert max(*at_first, *later) < NEVER_LATER_THAN_S, told
    assert statistics.median(at_first) < SLOWER_AT_MOST * statistics.median(before), told
    assert statistics.median(later) < SLOWER_AT_MOST * statistics.median(before), told
