"""Three nodes of Apache Kafka in one cluster, each a broker and a controller, to be stopped and killed one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient, PartitionMetadata  # type: ignore[attr-defined]  # public, not in __all__

from tests.apache_kafka import START_TIMEOUT_S, ApacheKafka, jars
from tests.ports import free_port
from tests.processes import eventually

NODES = 3
"""Two of them are a majority, and enough for `min.insync.replicas`."""


class Cluster:
    """Nodes whose topics, transaction log included, are on all of them."""

    def __init__(self, folder: Path, jars: Path) -> None:
        controllers = {number: f"127.0.0.1:{free_port()}" for number in range(1, NODES + 1)}
        self.nodes: list[ApacheKafka] = []
        for number in controllers:
            own = folder / f"node-{number}"
            own.mkdir()
            self.nodes.append(ApacheKafka(own, jars, number, controllers))

    @property
    def servers(self) -> str:
        return ",".join(node.servers for node in self.nodes)

    def start(self) -> None:
        """Start all nodes for the first time, and wait until they answer."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(ApacheKafka.format, self.nodes))
        self.launch(self.nodes)
        self._admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def launch(self, nodes: Sequence[ApacheKafka]) -> None:
        """Start these nodes at once, and wait until they answer."""
        for node in nodes:
            node.launch()
        for node in nodes:
            node.await_answer()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def leader(self, topic: str, partition: int = 0) -> ApacheKafka:
        """The node that leads the partition."""
        led = self._partitions(topic)[partition].leader
        return next(node for node in self.nodes if node.number == led)

    def leaders(self, topic: str) -> list[int]:
        """The number of the node that leads each partition."""
        return [partition.leader for partition in self._partitions(topic).values()]

    def await_in_sync(self, topic: str) -> None:
        """Wait until every replica of the topic is in sync, as before the next step of a rolling restart."""
        eventually(lambda: self._in_sync(topic), within_s=START_TIMEOUT_S, every_s=0.1)

    def _in_sync(self, topic: str) -> bool:
        return all(len(each.isrs) == len(each.replicas) for each in self._partitions(topic).values())

    def restore_leaders(self, topic: str) -> None:
        """Have every partition led again by the node that it was created to be led by."""
        wanted = [TopicPartition(topic, number) for number in self._partitions(topic)]
        self._admin.elect_leaders(ElectionType.PREFERRED, wanted).result(10)

    def _partitions(self, topic: str) -> dict[int, PartitionMetadata]:
        return self._admin.list_topics(topic, timeout=10).topics[topic].partitions


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that runs, with everything of its in that folder. Skips or fails the test as `jars` does."""
    cluster = Cluster(folder, jars(folder / "jars"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
