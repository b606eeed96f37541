"""A Redis Cluster for the tests: three masters, a replica of each where asked for, and a user with the least rights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import redis

from tests.ports import free_port
from tests.processes import HOME, eventually
from tests.redis_server import RedisServer, least_rights
from tests.system import System
from tests.tls import Authority, Identity, TlsProxy

PASSWORD = "the-password-of-the-cluster"
SLOTS = 16384
MASTERS = 3
CARRY_TIMEOUT_MS = 5000


def rights_in_a_cluster(password: str) -> list[str]:
    """The rules of the user that the README names, with those that it needs in a cluster as well."""
    _, _, rest = (HOME / "README.md").read_text().partition("in a cluster\n`")
    return [*least_rights(password), *rest.partition("`")[0].split()]


class Node(RedisServer):
    """One node. It notices within a second that another is gone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.bus_port = free_port()
        config = {"cluster-enabled": "yes", "cluster-port": str(self.bus_port), "cluster-node-timeout": "1000"}
        super().__init__(folder, appendfsync="everysec", **config, **{"repl-diskless-sync-delay": "0"})
        self.client_port = self.port
        """Where it has clients connect: another than its own where something stands in between."""
        with self.client() as client:
            client.execute_command("ACL", "SETUSER", "sinkworker", *rights_in_a_cluster(PASSWORD))

    def announce(self, port: int) -> None:
        """Have clients connect there."""
        with self.client() as client:
            client.config_set("cluster-announce-port", port)
        self.client_port = port

    def ask(self, *words: str | int) -> str:
        with self.client() as client:
            answer = client.execute_command("CLUSTER", *words)
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    def serves(self, nodes: int) -> bool:
        with self.client() as client:
            info = client.cluster("INFO")
        return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", str(nodes))

    @property
    def redirected(self) -> int:
        """How many calls have come for slots that are on their way to it."""
        with self.client() as client:
            stats = client.info("commandstats").get("cmdstat_asking", {})
        return int(stats.get("calls", 0) + stats.get("rejected_calls", 0))

    def has(self, key: str) -> bool:
        """Whether the key is its own, be it there or not."""
        with self.client() as client:
            try:
                client.type(key)
            except redis.exceptions.MovedError:
                return False
        return True


class RedisCluster:
    """Serves once it is made."""

    def __init__(self, folder: Path, *, replicas: bool = False, authority: Authority | None = None) -> None:
        """With `authority` clients are spoken to over TLS alone, and need a certificate of it as the nodes do.

        Replicas would be clients, too, so there are none.
        """
        assert not (replicas and authority)
        self._folder = folder
        self._authority = authority
        self._proxies: list[TlsProxy] = []
        self._query = ""
        if authority is not None:
            self._shown = authority.issue("node")
            client = authority.issue("client")
            self._query = f"?ssl_ca_certs={authority.file}&ssl_certfile={client.certificate}&ssl_keyfile={client.key}"
        self.nodes: list[Node] = []
        self.masters = [self._add() for _ in range(MASTERS)]
        for number, node in enumerate(self.masters):
            node.ask("ADDSLOTSRANGE", number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1)
            node.ask("SET-CONFIG-EPOCH", number + 1)
        others = [self._add() for _ in self.masters] if replicas else []
        self._meet(self.nodes[1:])
        for master, replica in zip(self.masters, others, strict=False):
            replica.ask("REPLICATE", master.ask("MYID"))
            eventually(lambda replica=replica: _follows(replica), within_s=30)  # type: ignore[misc]

    def _add(self) -> Node:
        node = Node(self._folder / f"node-{len(self.nodes)}")
        self.nodes.append(node)
        if self._authority is not None:
            proxy = TlsProxy(node.port, self._shown, clients_of=self._authority)
            self._proxies.append(proxy.__enter__())
            node.announce(proxy.port)
        return node

    def _meet(self, nodes: Sequence[Node]) -> None:
        first = self.nodes[0]
        for node in nodes:
            node.ask("MEET", "127.0.0.1", first.port, first.bus_port)
        eventually(lambda: all(node.serves(len(self.nodes)) for node in self.nodes), within_s=30)

    def join(self) -> Node:
        """One more master, which has no slots."""
        node = self._add()
        self._meet([node])
        self.masters.append(node)
        return node

    @property
    def url(self) -> str:
        return self.url_as(f"sinkworker:{PASSWORD}@")

    def url_as(self, access: str) -> str:
        """For another user and password; for one who may do everything where there is none."""
        scheme = "redis+cluster" if self._authority is None else "rediss+cluster"
        servers = ",".join(f"127.0.0.1:{node.client_port}" for node in self.nodes)
        return f"{scheme}://{access}{servers}{self._query}"

    def show(self, identity: Identity) -> None:
        """From now on every node has this certificate, for connections that are made again."""
        self._shown = identity
        for proxy in self._proxies:
            proxy.show(identity)
            proxy.drop()

    def master_of(self, key: str) -> Node:
        """Who has the key."""
        return next(node for node in self.masters if node.has(key))

    def destroy(self) -> None:
        for proxy in self._proxies:
            proxy.__exit__()
        for node in self.nodes:
            node.kill()


class Move:
    """A slot on its way from the master that has it to another, in the steps of `redis-cli --cluster reshard`."""

    def __init__(self, cluster: RedisCluster, key: str, target: Node) -> None:
        """`key` names the slot."""
        self._cluster = cluster
        self._source = cluster.master_of(key)
        self._target = target
        self._slot = int(target.ask("KEYSLOT", key))

    def begin(self) -> None:
        """From now on the target takes what the source no longer has."""
        self._target.ask("SETSLOT", self._slot, "IMPORTING", self._source.ask("MYID"))
        self._source.ask("SETSLOT", self._slot, "MIGRATING", self._target.ask("MYID"))

    def keys(self) -> list[str]:
        """What the source still has."""
        with self._source.client() as client:
            return [key.decode() for key in client.execute_command("CLUSTER", "GETKEYSINSLOT", self._slot, 100)]

    def carry(self, keys: Sequence[str]) -> None:
        """Take these keys to the target."""
        with self._source.client() as client:
            client.execute_command("MIGRATE", "127.0.0.1", self._target.port, "", 0, CARRY_TIMEOUT_MS, "KEYS", *keys)

    def end(self) -> None:
        """The slot is the target's, and all masters know it. Every key has been carried."""
        owner = self._target.ask("MYID")
        for node in (self._target, *self._cluster.masters):
            node.ask("SETSLOT", self._slot, "NODE", owner)

    def at_once(self) -> None:
        """The whole move as one of the server's own, where it knows such."""
        self._source.ask("MIGRATESLOTS", "SLOTSRANGE", self._slot, self._slot, "NODE", self._target.ask("MYID"))


@contextlib.contextmanager
def system_over(folder: Path, cluster: RedisCluster) -> Iterator[System]:
    """A system whose ledgers are in the cluster, and whose queue of tasks is in a Redis of its own."""
    (folder / "broker").mkdir()
    broker = RedisServer(folder / "broker")
    try:
        with System(folder, REDIS_URL=cluster.url, SINKWORKER_BROKER_URL=broker.url) as running:
            yield running
    finally:
        broker.kill()


def _follows(replica: Node) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")
