"""Task messages that come twice, late or never: the ledger decides who works on a lane (P1, P2, P7)."""

from __future__ import annotations

import base64
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from sinkworker.demo.judge import Differs, differs_in_content
from tests.celery_events import heard
from tests.oracle import consume, judge
from tests.processes import eventually
from tests.system import Flow, System

QUEUE = "sinkworker"
COPIES = 20
RECORDS = 1500
SLOW = b"function transform(record) { const end = Date.now() + 20; while (Date.now() < end); }"
"""So that a batch takes a second."""

REDELIVERED_TASKS = 3
LOSSES = 6
LONG_ACTIVATION_S = "3"
"""Longer than the visibility timeout."""

pytestmark = pytest.mark.long


class Receptions:
    """How often workers were handed each task, as Celery's events tell."""

    def __init__(self, redis_url: str) -> None:
        self.times: Counter[str] = Counter()
        self._redis_url = redis_url

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        with heard(self._redis_url, task_received=self._on_received):
            yield

    def _on_received(self, event: dict[str, Any]) -> None:
        self.times[event["uuid"]] += 1

    @property
    def redelivered(self) -> int:
        return sum(times > 1 for times in self.times.values())


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system whose workers are redelivered every task that runs for more than a second."""
    folder = tmp_path_factory.mktemp("impatient")
    with System(folder, workers=0, SINKWORKER_ACTIVATION_S=LONG_ACTIVATION_S, SINKWORKER_CLAIM_LEASE_S="6") as running:
        argv = ["celery", "-A", "tests.faults.impatient", "worker"]
        for number in range(2):
            running.roles[f"worker-{number}"] = worker = running.another(f"worker-{number}", argv)
            worker.start()
        for worker in running.workers:
            eventually(worker.ready, within_s=30)
        yield running


def test_tasks_that_are_redelivered_while_they_run(impatient: System) -> None:
    """Celery itself does it, as for every task that outlasts its visibility timeout."""
    flow = Flow(impatient, impatient.topic())
    flow.create(**{"transformer:enabled": "true", "transformer:function": base64.b64encode(SLOW).decode()})
    flow.append(RECORDS)
    receptions = Receptions(impatient.addresses["REDIS_URL"])
    with receptions.watched():
        flow.start()
        nothing_repeated(flow, lambda event, message: message.position != event.commit_position)
    assert receptions.redelivered >= REDELIVERED_TASKS


def test_every_task_twice_and_again_while_it_runs(system: System) -> None:
    """A copy of whatever is queued or at work, again and again."""
    flow = system.flow()
    copies = 0
    with flow.load():
        while copies < COPIES:
            for kept in system.redis.hvals("unacked"):
                message = orjson.loads(kept)[0]
                copies += system.redis.lpush(QUEUE, orjson.dumps(message)) > 0
    nothing_repeated(flow)


def nothing_repeated(flow: Flow, differs: Differs = differs_in_content) -> None:
    log = flow.log()
    eventually(lambda: flow.position >= log[-1].commit_position, within_s=90)
    verdict = judge(log, consume(flow.system.servers, flow.topic), differs)
    assert verdict.holds, verdict
    assert verdict.duplicates == 0  # P3: nobody has crashed
    flow.stop()


def test_task_messages_that_are_lost(system: System) -> None:
    """All that are queued: the coordinator sends them again."""
    flow = system.flow()
    with flow.load():
        for _ in range(LOSSES):
            eventually(lambda: system.redis.delete(QUEUE), within_s=30, every_s=0.0)
        before = flow.position
        eventually(lambda: flow.position > before, within_s=30)
    nothing_repeated(flow)
