"""A Redis Cluster for the tests: three masters, a replica of each where asked for, and a user with the least rights."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.processes import eventually
from tests.redis_server import RedisServer, free_port, least_rights

PASSWORD = "the-password-of-the-cluster"
OF_A_CLUSTER = ("+cluster|slots", "+command")
"""What the README says that the user of a cluster needs as well."""

SLOTS = 16384
MASTERS = 3


class Node(RedisServer):
    """One node. It notices within a second that another is gone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.bus_port = free_port()
        config = {"cluster-enabled": "yes", "cluster-port": str(self.bus_port), "cluster-node-timeout": "1000"}
        super().__init__(folder, appendfsync="everysec", **config, **{"repl-diskless-sync-delay": "0"})

    def ask(self, *words: str | int) -> str:
        with self.client() as client:
            answer = client.execute_command("CLUSTER", *words)
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    def serves(self, nodes: int) -> bool:
        with self.client() as client:
            info = client.cluster("INFO")
        return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", str(nodes))


class RedisCluster:
    """Serves once it is made."""

    def __init__(self, folder: Path, *, replicas: bool = False) -> None:
        self.nodes = [Node(folder / f"node-{number}") for number in range(2 * MASTERS if replicas else MASTERS)]
        first, masters = self.nodes[0], self.nodes[:MASTERS]
        for number, node in enumerate(masters):
            node.ask("ADDSLOTSRANGE", number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1)
            node.ask("SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.ask("MEET", "127.0.0.1", first.port, first.bus_port)
        eventually(lambda: all(node.serves(len(self.nodes)) for node in self.nodes), within_s=30)
        for master, replica in zip(masters, self.nodes[MASTERS:], strict=False):
            replica.ask("REPLICATE", master.ask("MYID"))
            eventually(lambda replica=replica: _follows(replica), within_s=30)  # type: ignore[misc]

        for node in self.nodes:
            with node.client() as client:
                rules = [*least_rights(PASSWORD), *OF_A_CLUSTER]
                client.execute_command("ACL", "SETUSER", "sinkworker", *rules)

    @property
    def url(self) -> str:
        return self.url_as(f"sinkworker:{PASSWORD}@")

    def url_as(self, access: str) -> str:
        """For another user and password; for one who may do everything where there is none."""
        return f"redis+cluster://{access}" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def master_of(self, key: str) -> Node:
        """Who has the key."""
        for node in self.nodes[:MASTERS]:
            with node.client() as client:
                try:
                    client.type(key)
                except redis.exceptions.MovedError:
                    continue
            return node
        raise AssertionError(f"no master has {key}")

    def destroy(self) -> None:
        for node in self.nodes:
            node.kill()


def _follows(replica: Node) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")
