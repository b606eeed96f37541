"""A machine that has no more descriptors is waited for: no connector stops for it, and no record is blamed."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinkworker.connectors.lifecycle import State
from sinkworker.errors import LIMITS
from tests.processes import eventually
from tests.system import System
from tests.tls import Authority

TRANSFORMED = {
    "transformer:enabled": "true",
    "transformer:function": base64.b64encode(b"function transform(record) { record.headers.here = 'yes'; }").decode(),
}


@contextlib.contextmanager
def short_of_descriptors(pid: int, spare: int) -> Iterator[None]:
    """Inside, the process may have that many more than it has by now: so many numbers below the limit are free."""
    allowed = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, spare, None))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, allowed[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, allowed)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("short"), workers=1) as running:
        first = running.flow()
        first.append(20)
        assert first.delivered().holds  # the processes have what they keep open
        yield running


@pytest.mark.parametrize("spare", [0, pytest.param(6, marks=pytest.mark.long)])
def test_a_record_that_a_short_worker_cannot_transform_is_not_to_blame(system: System, spare: int) -> None:
    (child,) = system.workers[0].children()
    with short_of_descriptors(child, spare):
        flow = system.flow(**TRANSFORMED, **{"errors:policy": "deadLetter", "errors:deadLetterTopic": system.topic()})
        flow.append(20)
        eventually(lambda: flow.connector.error is not None)  # of what it is short first is named
        assert flow.connector.state is State.RUNNING
    verdict = flow.delivered()
    assert (verdict.missing, verdict.duplicates) == ([], 0)
    flow.stop()


@pytest.mark.parametrize("spare", [0, pytest.param(3, marks=pytest.mark.long)])
def test_a_short_scheduler_runs_what_it_runs_and_tries_the_rest_again(system: System, spare: int) -> None:
    before = len(system.logged(LIMITS))
    with short_of_descriptors(system.roles["scheduler"].pid, spare):
        flow = system.flow()
        flow.append(20)
        eventually(lambda: len(system.logged(LIMITS)) > before or flow.connector.error is not None)
        assert flow.connector.state is not State.STOPPED
    verdict = flow.delivered()
    assert verdict.holds, verdict
    flow.stop()


MAKE_CLIENTS = """
import resource
from pathlib import Path
from sinkworker.connectors.settings import SinkSettings
from sinkworker.delivery.producer import LaneProducer
from sinkworker.errors import Exhausted
from sinkworker.exactly_once.transactions import LaneTransactions
from sinkworker.topics import Brokers

options = SinkSettings(topic="t").producer_options("loans", "127.0.0.1:1")
has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (has + (5 << 20),) * 2)  # a thread takes eight
for make, arguments in (Brokers, [options]), (LaneProducer, [options, []]), (LaneTransactions, ["l", 0, "t", options]):
    try:
        make(*arguments)
    except Exhausted as exc:
        print(exc.code)
"""


WITHOUT_FILES = """
import os, resource, sys
from confluent_kafka import KafkaException
from sinkworker.delivery.producer import LaneProducer
from sinkworker.errors import SinkworkerError
from sinkworker.exactly_once.transactions import LaneTransactions
from sinkworker.topics import Brokers

options = {"bootstrap.servers": "127.0.0.1:1", "enable.idempotence": True}
options |= {"security.protocol": "ssl", "ssl.ca.location": sys.argv[1]}
if sys.argv[2]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
for make, arguments in (Brokers, [options]), (LaneProducer, [options, []]), (LaneTransactions, ["l", 0, "t", options]):
    try:
        make(*arguments)
    except SinkworkerError as exc:
        print(exc.code)
"""


def codes(script: str, *arguments: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_a_kafka_client_that_a_machine_has_no_room_for_is_no_fault_of_settings() -> None:
    assert codes(MAKE_CLIENTS) == ["machine-exhausted"] * 3


def test_a_file_of_certificates_that_no_descriptor_is_left_for_is_no_fault_of_settings(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    assert codes(WITHOUT_FILES, str(authority.file), "") == []
    assert codes(WITHOUT_FILES, str(authority.file), "short") == ["machine-exhausted"] * 3
    assert codes(WITHOUT_FILES, str(tmp_path / "missing.pem"), "") == ["kafka-settings"] * 3
