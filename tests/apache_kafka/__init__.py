"""Apache Kafka itself for the tests: one node in KRaft mode from its published jars, which can be stopped and killed.

The embedded broker keeps everything in memory, so only this one can be restarted with its data.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.processes import eventually
from tests.redis_server import free_port

POM = Path(__file__).with_name("pom.xml")
INSIST = "SINKWORKER_TEST_INSIST"
"""Set where a test may not be skipped for what the machine lacks."""

START_TIMEOUT_S = 60.0
HEAP = "-Xmx384m"

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
num.network.threads=1
num.io.threads=2
"""


def missing() -> list[str]:
    """The commands that it needs and that are not here."""
    return [command for command in ("java", "mvn") if shutil.which(command) is None]


def insisted() -> bool:
    """Whether a test may do without it nowhere."""
    return bool(os.environ.get(INSIST))


def jars(folder: Path) -> Path:
    """A folder with Kafka and all it needs. Skips the test where Java or Maven is missing, or fails it if told to."""
    if lacking := missing():
        reason = f"Apache Kafka needs {' and '.join(lacking)}, not found here"
        if insisted():
            pytest.fail(reason)
        pytest.skip(reason)
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    subprocess.run([*command, f"-DoutputDirectory={folder}"], check=True, stdin=subprocess.DEVNULL)
    return folder


class ApacheKafka:
    """One node over one data folder. It keeps its port over restarts."""

    def __init__(self, folder: Path, jars: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._java = ["java", HEAP, "-cp", f"{jars}/*"]
        self._properties = folder / "server.properties"
        text = PROPERTIES.format(port=self.port, controller=free_port(), data=folder / "data")
        self._properties.write_text(text, encoding="utf-8")
        arguments = ["format", "--standalone", "-t", "sinkworkerTestsKafkaAA", "-c", str(self._properties)]
        self._run("kafka.tools.StorageTool", *arguments).check_returncode()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._folder / "kafka.log").open("ab") as log:
            command = [*self._java, "kafka.Kafka", str(self._properties)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(self._answers, within_s=START_TIMEOUT_S, every_s=0.2)

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "kafka.log").read_text()[-2000:]
        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        try:
            return bool(admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self._java, *arguments], check=False, stdin=subprocess.DEVNULL, capture_output=True)


@contextmanager
def running(folder: Path) -> Iterator[ApacheKafka]:
    """A node that runs, with everything of its in that folder. Skips or fails the test as `jars` does."""
    broker = ApacheKafka(folder, jars(folder / "jars"))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
