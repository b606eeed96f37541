"""One way to connect to Redis, and how a process is woken by what happens in ledgers."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.cluster import PRIMARY, ClusterNode, RedisCluster
from redis.commands.core import Script
from redis.exceptions import LockError
from redis.lock import Lock
from redis.retry import Retry
from redis.sentinel import Sentinel

from sinkworker import logs, redis_address
from sinkworker.config import Secret
from sinkworker.errors import Misconfigured, SinkworkerError
from sinkworker.ledger.redis_errors import translated

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
LISTEN_S = 0.5
RECONNECT_S = 0.5

KEEPS_ALL = "noeviction"

WAKE_PATTERN = "sink:*:wake"
CHANGED_CHANNEL = "sinkworker:changed"


def connect(url: Secret) -> redis.Redis:
    """A client for ledgers: binary answers, bounded waits, no hidden repetition of a call. Connects when first used.

    Behind sentinels each new connection is made to whoever is the master then; in a cluster each call goes to the
    master of its keys. Raises Misconfigured for a URL that is none.
    """
    try:
        address = redis_address.parse(url.reveal())
    except ValueError as exc:
        raise Misconfigured(f"REDIS_URL {exc}.") from exc
    bounds: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": ANSWER_TIMEOUT_S,
        # A transition whose outcome is unknown is the caller's to decide about.
        "retry": Retry(NoBackoff(), 0),
    }
    options = {**address.options, **bounds, "health_check_interval": 30}
    if address.is_cluster:
        return cast(redis.Redis, Cluster(address.servers, options))
    if address.master_name is None:
        ((host, port),) = address.servers
        return redis.Redis(host=host, port=port, **options)
    access = {**address.sentinel_options, **bounds, "socket_timeout": CONNECT_TIMEOUT_S}
    sentinel = Sentinel(address.servers, sentinel_kwargs=access, **options)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinel.master_for(address.master_name)  # type: ignore[no-untyped-call]
    return client


class Cluster:
    """A Redis Cluster, for whoever knows `redis.Redis`: redis-py's own client, but made when it is first used.

    Made at once it would raise where no node answers, and roles begin before their servers do.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], options: Mapping[str, Any]) -> None:
        self._nodes = nodes
        self._options = {name: value for name, value in options.items() if name != "db"}
        self._making = threading.Lock()
        self._made: RedisCluster | None = None

    def __getattr__(self, name: str) -> Any:
        """All else is redis-py's. Raises RedisClusterException where no node answers."""
        with self._making:
            if self._made is None:
                nodes = [ClusterNode(host, port) for host, port in self._nodes]  # type: ignore[no-untyped-call]
                made = RedisCluster(startup_nodes=nodes, **self._options)
                _follow_to_new_nodes(made)
                self._made = made
        return getattr(self._made, name)

    def get_encoder(self) -> Any:
        """What scripts are hashed with."""
        return redis.Redis().get_encoder()

    def register_script(self, text: str) -> Script:
        return Script(cast(redis.Redis, self), text)

    def lock(self, name: str, **options: Any) -> Lock:
        return Lock(cast(redis.Redis, self), name, **options)

    def eviction_policies(self) -> set[str]:
        """Of all masters."""
        answers = self.info("memory", target_nodes=RedisCluster.PRIMARIES)
        return {policy_of(answer) for answer in answers.values()}

    def close(self) -> None:
        if self._made is not None:
            self._made.close()


def _follow_to_new_nodes(cluster: RedisCluster) -> None:
    """Have redirections followed to a node without slots, too.

    It has just joined, and its first slot is on its way to it. redis-py learns of nodes by their slots, and fails on
    the redirection with an AttributeError (redis-py#4015).
    """
    manager = cluster.nodes_manager
    find = manager.get_node

    def get_node(host: str | None = None, port: int | None = None, node_name: str | None = None) -> ClusterNode | None:
        node = find(host, port, node_name)
        if node is None and node_name is not None:
            its_host, _, its_port = node_name.rpartition(":")
            new = ClusterNode(its_host, int(its_port), PRIMARY)  # type: ignore[no-untyped-call]
            node = manager.nodes_cache.setdefault(node_name, new)
        return node

    manager.get_node = get_node  # type: ignore[method-assign]


def eviction_policies(client: redis.Redis | Cluster) -> set[str]:
    """What the servers do when they are full. One that does not tell is given the benefit of the doubt."""
    return client.eviction_policies() if isinstance(client, Cluster) else {policy_of(client.info("memory"))}


def policy_of(memory: Mapping[str, Any]) -> str:
    return str(memory.get("maxmemory_policy", KEEPS_ALL))


def check(client: redis.Redis) -> None:
    """Raises Unavailable or Misconfigured unless Redis answers."""
    with translated():
        client.ping()


def poke(client: redis.Redis, connector_id: str) -> None:
    """Tell the schedulers that a connector was changed. Best effort: they also look by themselves now and then."""
    with translated():
        client.publish(CHANGED_CHANNEL, connector_id)


class Lease:
    """The right to be the one scheduler of a connector, as a Redis lock that runs out by itself.

    Politeness only: two schedulers at once are kept apart by their epochs (P7).
    """

    def __init__(self, client: redis.Redis, connector_id: str, lasts_s: float) -> None:
        self._redis = client
        self._lasts_ms = int(lasts_s * 1000)
        self._lock = client.lock(f"sink:{{{connector_id}}}:scheduler", timeout=lasts_s, thread_local=False)
        self._turn = threading.Lock()
        """One thread uses the lock, another keeps it: what is released must not be taken again."""

    @property
    def held(self) -> bool:
        return self._lock.local.token is not None

    def acquire(self) -> bool:
        with self._turn, translated():
            return self._acquired()

    def keep(self) -> None:
        with self._turn, translated():
            if self.held:
                self._acquired()

    def release(self) -> None:
        with self._turn, contextlib.suppress(SinkworkerError), translated():
            if self.held:
                self._lock.release()

    def _acquired(self) -> bool:
        if (self.held and self._renewed()) or self._lock.acquire(blocking=False):
            return True
        self._lock.local.token = None  # another one has it
        # One that lasts longer than any is of a clock that has been put back since, and its holder may be dead.
        if self._redis.pttl(self._lock.name) > self._lasts_ms:
            self._redis.pexpire(self._lock.name, self._lasts_ms)
        return False

    def _renewed(self) -> bool:
        try:
            return bool(self._lock.reacquire())
        except LockError:
            return False


class Listener(threading.Thread):
    """Calls `wake(connector_id)` when a ledger has news, and `changed()` when the API changed a connector.

    A lost message costs only time: whoever listens also looks by himself. Ends soon after `stop` is set.
    """

    def __init__(
        self,
        client: redis.Redis,
        wake: Callable[[str], None],
        changed: Callable[[], None],
        stop: threading.Event,
        role: logs.Role,
    ) -> None:
        super().__init__(name="redis-listener", daemon=True)
        self._client = client
        self._wake = wake
        self._changed = changed
        self._told_to_stop = stop
        self._troubles = logs.Troubles(log, role)

    def run(self) -> None:
        while not self._told_to_stop.is_set():
            try:
                with translated():
                    self._listen()
            except SinkworkerError as exc:
                self._troubles.say(exc, "Connectors wait for it.")
                self._told_to_stop.wait(RECONNECT_S)

    def _listen(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
            subscription.psubscribe(WAKE_PATTERN, CHANGED_CHANNEL)
            self._troubles.over("Redis answers again")
            while not self._told_to_stop.is_set():
                message = subscription.get_message(timeout=LISTEN_S)
                if message is None:
                    continue
                channel: str = message["channel"].decode()
                if channel == CHANGED_CHANNEL:
                    self._changed()
                else:
                    self._wake(channel.removeprefix("sink:{").removesuffix("}:wake"))
