"""The coordinator role: sees which connectors run, and keeps a watch over each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sinkworker import logs
from sinkworker.checkpoint.store import CheckpointStore
from sinkworker.checkpoint.watch import Watch
from sinkworker.config import Config
from sinkworker.connectors import settings as connector_settings
from sinkworker.connectors.errors import InvalidSettings
from sinkworker.connectors.lifecycle import Connector, State
from sinkworker.connectors.registry import Registry
from sinkworker.database import Database
from sinkworker.errors import SinkworkerError
from sinkworker.ledger import redis_client
from sinkworker.ledger.contract import Enqueue
from sinkworker.ledger.redis_ledger import RedisLedger
from sinkworker.metrics.recorder import Recorder

log = logging.getLogger(__name__)

TICK_S = 0.2
REAP_S = 1.0
REGISTRY_S = 1.0


class Coordinator:
    """Writes checkpoints and hands on the lanes of dead workers. Any number of coordinators may run."""

    name = "coordinator"
    purpose = "writing checkpoints and reviving lanes that no worker holds"

    def __init__(self, config: Config, enqueue: Enqueue) -> None:
        assert config.redis_url is not None
        assert config.kurrentdb_uri is not None
        self._lease_ms = int(config.claim_lease_s * 1000)
        self._redis = redis_client.connect(config.redis_url)
        self._database = Database(config.kurrentdb_uri)
        self._registry = Registry(self._database)
        self._enqueue = enqueue
        self._recorder = Recorder(self._redis)
        self._watches: dict[str, Watch] = {}
        self._unwatched: dict[str, logs.Troubles] = {}
        self._role = logs.Role()
        self._troubles = logs.Troubles(log, self._role)

    def run(self, stop: threading.Event) -> None:
        self._recorder.start()
        refreshed = reaped = float("-inf")
        answers = False
        while not stop.is_set():
            now = time.monotonic()
            if now - refreshed >= REGISTRY_S:
                refreshed = now
                answers = self._refresh()
            if now - reaped >= REAP_S:
                reaped = now
                self._for_each(Watch.reap)
            if answers:
                self._for_each(lambda watch: watch.commit(time.monotonic()))
            stop.wait(TICK_S)
        self._for_each(lambda watch: watch.commit(time.monotonic(), last=True))
        self._recorder.close()
        self._database.close()
        self._redis.close()

    def _for_each(self, step: Callable[[Watch], bool]) -> None:
        """Until one meets a server that does not answer: a silent one takes seconds to be taken for one, and the next
        connector may need the same. If not, it comes first the next time.
        """
        for connector_id, watch in list(self._watches.items()):
            if not step(watch):
                self._watches[connector_id] = self._watches.pop(connector_id)
                return

    def _refresh(self) -> bool:
        """Which connectors to look after now; says once when they cannot be read, and once when they can again.

        Whether the database answers.
        """
        try:
            live = {each.id: each for each in self._registry.all() if _is_live(each)}
            for connector_id in self._watches.keys() - live.keys():
                del self._watches[connector_id]
            for connector_id, connector in live.items():
                watch = self._watches.get(connector_id)
                if watch is not None and watch.serves(connector):
                    watch.connector = connector
                    continue
                try:
                    self._watches[connector_id] = self._watch(connector)
                except InvalidSettings as exc:  # another release took them
                    said = self._unwatched.setdefault(connector_id, logs.Troubles(log, connector=connector_id))
                    said.say(exc, "No checkpoint is written for it.", level=logging.ERROR)
        except SinkworkerError as exc:
            self._troubles.say(exc, "Checkpoints wait for it.")
            return False
        self._troubles.over("KurrentDB answers again")
        return True

    def _watch(self, connector: Connector) -> Watch:
        assert connector.generation is not None
        generation = connector.generation
        stream_id = connector_settings.parse(connector.active_settings).filter.stream_id
        store = CheckpointStore(self._database, connector.id, generation.id, generation.start, stream_id)
        ledger = RedisLedger(self._redis, connector.id, self._lease_ms)
        return Watch(connector, ledger, store, self._enqueue, self._role, self._recorder.tally)


def _is_live(connector: Connector) -> bool:
    return not connector.deleted and connector.generation is not None and connector.state is not State.STOPPED
