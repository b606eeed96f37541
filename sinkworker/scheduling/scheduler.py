"""The scheduler role: sees which connectors shall run, and keeps a runner for each."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Collection, Iterable

from sinkworker import logs, process
from sinkworker.config import Config
from sinkworker.connectors.lifecycle import Connector, State
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.settings import SinkSettings
from sinkworker.connectors.vault import Protection
from sinkworker.database import Database
from sinkworker.errors import OtherRelease, SinkworkerError, exhausted
from sinkworker.ledger import redis_client
from sinkworker.ledger.contract import Enqueue, EnqueueAt
from sinkworker.ledger.homes import Homes, Homing
from sinkworker.ledger.redis_ledger import RedisLedger
from sinkworker.metrics.recorder import Recorder
from sinkworker.model import Revision
from sinkworker.scheduling.calm import Calm
from sinkworker.scheduling.lanes import Limits
from sinkworker.scheduling.means import Means
from sinkworker.scheduling.runner import Runner
from sinkworker.source import readers
from sinkworker.topics import Brokers

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the registry is read where nobody says that a connector was changed."""

LEASE_S = 8.0
"""A scheduler that dies without a word is replaced after this long."""


class Scheduler:
    """Reads connectors' records and dispatches them. One scheduler is active for each connector, others stand by."""

    name = "scheduler"
    purpose = "reading KurrentDB and dispatching records to the workers"

    def __init__(self, config: Config, enqueue: Enqueue, enqueue_at: EnqueueAt) -> None:
        assert config.redis_url is not None
        assert config.kurrentdb_uri is not None
        assert config.kafka_bootstrap_servers is not None
        self._config = config
        self._enqueue = enqueue
        self._default_servers = config.kafka_bootstrap_servers
        self._redis = redis_client.connect(config.redis_url)
        self._homes = Homes(self._redis)
        self._enqueue_home = Homing(self._homes, enqueue, enqueue_at)
        self._database = Database(config.kurrentdb_uri)
        self._registry = Registry(self._database, Protection.of(config))
        self._reader = readers.usable(readers.Reader(config.reader))
        self._recorder = Recorder(self._redis)
        self._instance = f"{socket.gethostname()}-{os.getpid()}"
        self._runners: dict[str, Runner] = {}
        self._given_up: dict[str, Revision | None] = {}
        """Activations that failed before or under this scheduler's eyes: only a new start tries them again here. It
        stands by where another scheduler has tried one with success.
        """
        self._calm = Calm()
        self._look = threading.Event()
        self._looked = False
        self._role = logs.Role()
        self._troubles = logs.Troubles(log, self._role)
        self._lease_troubles = logs.Troubles(log, self._role)
        self._shortages = logs.Troubles(log, self._role)

    def run(self, stop: threading.Event) -> None:
        listener = redis_client.Listener(self._redis, self._wake, self._look.set, stop, self._role)
        listener.start()
        self._recorder.start()
        process.spare_the_collector()
        while not stop.is_set():
            self._look.clear()
            self._supervise()
            self._wait(stop)
        runners = list(self._runners.values())
        for runner in runners:
            runner.stop()
        for runner in runners:
            runner.join()
        listener.join()
        self._recorder.close()
        self._database.close()
        self._redis.close()

    def _wait(self, stop: threading.Event) -> None:
        deadline = time.monotonic() + LOOK_S
        while not stop.is_set() and time.monotonic() < deadline:
            if self._look.wait(0.1):
                return

    def _wake(self, connector_id: str) -> None:
        runner = self._runners.get(connector_id)
        if runner is not None:
            runner.bell.set()

    def _supervise(self) -> None:
        try:
            connectors = self._read_all()
        except SinkworkerError as exc:
            self._calm.failed()
            self._troubles.say(exc, "Connectors are looked at again when it is back.")
            return
        self._troubles.over("KurrentDB answers again")
        self._keep_leases()
        self._attend_to_all(connectors)
        self._leave_to_newer({connector.id for connector in connectors})
        self._looked = True

    def _read_all(self) -> list[Connector]:
        """Every connector. Reading many takes longer than a lease lasts."""
        found, kept_at = [], time.monotonic()
        self._calm.asks()
        for connector in self._registry.each():
            self._calm.answered()
            found.append(connector)
            if time.monotonic() - kept_at >= LOOK_S:
                self._keep_leases()
                kept_at = time.monotonic()
            self._calm.asks()
        self._calm.answered()
        return found

    def _keep_leases(self) -> None:
        """Those of a scheduler that does not reach the database go to one that does. A lost lease needs no care: the
        epoch fences (P7).
        """
        for connector_id, runner in list(self._runners.items()):
            try:
                runner.keep_lease()
            except SinkworkerError as exc:  # a silent Redis is waited for once, not for each connector
                self._lease_troubles.say(exc, "Connectors wait for it.")
                self._runners[connector_id] = self._runners.pop(connector_id)  # last, from now on
                return
        self._lease_troubles.forget()

    def _attend_to_all(self, connectors: Iterable[Connector]) -> None:
        """Where this machine has no room for one more connector, those that run go on."""
        enough = True
        for connector in connectors:
            try:
                self._attend(connector)
            except Exception as exc:
                if (shortage := exhausted(exc)) is None:
                    raise
                self._shortages.say(shortage, "What runs goes on; what does not is tried again.")
                enough = False
        if enough:
            self._shortages.forget()

    def _attend(self, connector: Connector) -> None:
        runner = self._runners.get(connector.id)
        if runner is not None and not runner.is_alive():
            del self._runners[connector.id]
            if runner.failed:
                self._given_up[connector.id] = runner.activation
                return  # it was perhaps read before it failed
            runner = None
        if runner is not None:
            if not connector.should_run or connector.activation != runner.activation:
                runner.stop()
        elif self._needs_runner(connector):
            runner = self._runner(connector)
            runner.start()
            self._runners[connector.id] = runner

    def _needs_runner(self, connector: Connector) -> bool:
        if connector.deleted:
            return False
        if not connector.should_run:
            return connector.state is State.DEACTIVATING
        if connector.state is not State.STOPPED:
            return True
        if self._looked:
            # It failed under another scheduler. A scheduler that starts tries it once more (contract §1.8).
            self._given_up[connector.id] = connector.activation
        return not self._is_given_up(connector)

    def _is_given_up(self, connector: Connector) -> bool:
        return self._given_up.get(connector.id, Revision(-1)) == connector.activation

    def _leave_to_newer(self, readable: Collection[str]) -> None:
        """End in order what only a newer release understands by now: a scheduler of that release goes on."""
        for connector_id, runner in list(self._runners.items()):
            if connector_id in readable:
                continue
            try:
                self._registry.get(connector_id)
            except OtherRelease:
                runner.stop()
                if not runner.is_alive():
                    del self._runners[connector_id]
            except SinkworkerError:
                pass  # said by whoever listed them

    def _runner(self, connector: Connector) -> Runner:
        config = self._config
        means = Means(
            registry=self._registry,
            database=self._database,
            ledger=RedisLedger(self._redis, connector.id, int(config.claim_lease_s * 1000)),
            enqueue=self._enqueue,
            enqueue_home=self._enqueue_home,
            forget_homes=self._homes.forget,
            subscribe=lambda wanted, after, bell: readers.subscribe(self._database, self._reader, wanted, after, bell),
            partitions=self._partitions,
            limits=Limits(
                batch_records=config.batch_records,
                batch_bytes=config.batch_bytes,
                lane_depth=config.lane_depth,
                undelivered_bytes=config.in_flight_bytes,
            ),
            default_servers=self._default_servers,
            drain_timeout_s=config.drain_timeout_s,
            instance=self._instance,
            tally=self._recorder.tally,
        )
        lease = redis_client.Lease(self._redis, connector.id, LEASE_S)
        runner = Runner(means, lease, self._calm, connector.id, connector.activation, self._role)
        runner.seen_to_fail = self._is_given_up(connector)
        return runner

    def _partitions(self, settings: SinkSettings, connector_id: str) -> int:
        brokers = Brokers(settings.producer_options(connector_id, self._default_servers))
        if settings.topic_is_template:
            brokers.check()
            return 0
        return brokers.topic(settings.topic).partitions
