"""Apache Kafka itself for the tests: one node or three in KRaft mode, from its published jars, to stop and to kill.

The embedded broker keeps everything in memory, so only this one can be restarted with its data.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.ports import free_port
from tests.processes import HOME, eventually

POM = Path(__file__).with_name("pom.xml")
INSIST = "SINKWORKER_TEST_INSIST"
"""Set where a test may not be skipped for what the machine lacks."""
EXISTING = "SINKWORKER_TEST_KAFKA"
"""Bootstrap servers of somebody's cluster: it serves the tests that stop no broker, and keeps none of their topics."""

START_TIMEOUT_S = 60.0
JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""For nodes that are started often, and do little."""

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners={listeners},CONTROLLER://{controller}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
log.dirs={data}
auto.create.topics.enable=false
auto.leader.rebalance.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
producer.id.expiration.check.interval.ms=500
num.network.threads=1
num.io.threads=2
"""

LOGIN = """\
listener.name.{listener}.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.{listener}.{mechanism}.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
"""

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
"""A listener for each."""

SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
USER, PASSWORD = "loans", "Tr0ub4dor-and-3"
"""Who may come in over the SASL listeners, by any of the mechanisms."""

TLS = HOME / "tests" / "integration" / "kurrentdb" / "tls"
CA = TLS / "ca.pem"
"""Who signed the broker's certificate: nobody that a system trusts by itself."""


def missing() -> list[str]:
    """The commands that it needs and that are not here."""
    return [command for command in ("java", "mvn") if shutil.which(command) is None]


def insisted() -> bool:
    """Whether a test may do without it nowhere."""
    return bool(os.environ.get(INSIST))


def given() -> str:
    """Bootstrap servers of the cluster that the environment names; empty where it names none."""
    return os.environ.get(EXISTING, "")


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
    """One node over one data folder. It keeps its ports over restarts."""

    def __init__(
        self,
        folder: Path,
        jars: Path,
        number: int = 1,
        controllers: Mapping[int, str] | None = None,
        through: Callable[[str], str] = lambda address: address,
        properties: str = "",
    ) -> None:
        """`controllers`: of each node of its cluster the address for the others; without it the node is alone.

        `through` gives for each address the one that clients are to know, where something stands in between.
        `properties`: more lines of its configuration.
        """
        self.number = number
        self._listening = {protocol: f"127.0.0.1:{free_port()}" for protocol in PROTOCOLS}
        self._addresses = {protocol: through(address) for protocol, address in self._listening.items()}
        self._folder = folder
        self._java = ["java", *JVM, "-cp", f"{jars}/*"]
        self._properties = folder / "server.properties"
        configuration = self._configuration(controllers or {number: f"127.0.0.1:{free_port()}"})
        self._properties.write_text(configuration + properties, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def _configuration(self, controllers: Mapping[int, str]) -> str:
        keystore = self._folder / "keystore.pem"
        keystore.write_bytes((TLS / "server.key").read_bytes() + (TLS / "server.pem").read_bytes())
        listeners, advertised = (
            ",".join(f"{protocol}://{address}" for protocol, address in addresses.items())
            for addresses in (self._listening, self._addresses)
        )
        text = PROPERTIES.format(
            node=self.number,
            voters=",".join(f"{number}@{address}" for number, address in controllers.items()),
            controller=controllers[self.number],
            listeners=listeners,
            advertised=advertised,
            replicas=len(controllers),
            in_sync=(len(controllers) + 1) // 2,
            data=self._folder / "data",
            keystore=keystore,
        )
        for listener in ("sasl_plaintext", "sasl_ssl"):
            for mechanism in SCRAM:
                text += LOGIN.format(listener=listener, mechanism=mechanism.lower(), user=USER, password=PASSWORD)
        return text

    def format(self) -> None:
        """Make its data folder, once before its first start."""
        arguments = ["format", "-t", "sinkworkerTestsKafkaAA", "-c", str(self._properties)]
        for mechanism in SCRAM:
            arguments += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
        command = [*self._java, "kafka.tools.StorageTool", *arguments]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)

    @property
    def servers(self) -> str:
        return self.address("PLAINTEXT")

    def address(self, protocol: str) -> str:
        """Where clients reach it by that protocol, by librdkafka's name of it."""
        return self._addresses[protocol]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        assert self._process is not None
        return self._process.poll() is None

    def access(self, protocol: str, mechanism: str = "plain", password: str = PASSWORD) -> dict[str, str]:
        """What a connector needs to come in, protocol and mechanism named as in its settings."""
        name = {"ssl": "SSL", "saslPlaintext": "SASL_PLAINTEXT", "saslSsl": "SASL_SSL"}[protocol]
        return {
            "bootstrapServers": self.address(name),
            "authentication:securityProtocol": protocol,
            "authentication:saslMechanism": mechanism,
            "authentication:username": USER,
            "authentication:password": password,
            "authentication:sslCaLocation": str(CA),
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.await_answer()

    def launch(self) -> None:
        """Start it."""
        with (self._folder / "kafka.log").open("ab") as log:
            command = [*self._java, "kafka.Kafka", str(self._properties)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def await_answer(self) -> None:
        """Wait until it serves clients as a member of its cluster."""
        eventually(self._answers, within_s=START_TIMEOUT_S, every_s=0.1)

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

    @contextmanager
    def restored(self) -> Iterator[None]:
        """At the end, it is restarted with the data that it had at the beginning: what it confirmed inside is lost."""
        data, backup = self._folder / "data", self._folder / "backup"
        self.stop()
        shutil.copytree(data, backup)
        self.start()
        yield
        self.kill()
        shutil.rmtree(data)
        backup.rename(data)
        self.start()

    def produce(self, topic: str, keys: Sequence[str]) -> None:
        """A record under each key, by Java's own producer with its default partitioner."""
        tool = ["org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", self.servers, "--topic", topic]
        lines = "".join(f"{key}\tx\n" for key in keys)
        command = [*self._java, *tool, "--property", "parse.key=true"]
        subprocess.run(command, input=lines.encode(), check=True, capture_output=True)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "kafka.log").read_text()[-2000:]
        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        try:
            return self.number in admin.list_topics(timeout=1).brokers
        except KafkaException:
            return False


@contextmanager
def running(
    folder: Path, through: Callable[[str], str] = lambda address: address, properties: str = ""
) -> Iterator[ApacheKafka]:
    """A node that runs, with everything of its in that folder. Skips or fails the test as `jars` does."""
    broker = ApacheKafka(folder, jars(folder / "jars"), through=through, properties=properties)
    broker.format()
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@contextmanager
def running_unless_given(folder: Path) -> Iterator[ApacheKafka | None]:
    """A node that runs, unless the environment names a cluster."""
    if given():
        yield None
    else:
        with running(folder) as broker:
            yield broker


def ours(broker: ApacheKafka | None) -> ApacheKafka:
    """The node, for a test that stops it; skips the test where there is none, since a cluster was given."""
    if broker is None:
        pytest.skip(f"it stops brokers, and those of {EXISTING} are not ours to stop")
    return broker
