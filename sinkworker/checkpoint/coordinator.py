"""The coordinator role: watermark to checkpoint, and the reaper. Keeps nothing that it could not read again."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from sinkworker.checkpoint.cadence import Cadence
from sinkworker.checkpoint.store import Checkpoint, CheckpointStore
from sinkworker.config import Config
from sinkworker.connectors import settings as connector_settings
from sinkworker.connectors.lifecycle import Connector, State
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.settings import Autocommit
from sinkworker.database import Database
from sinkworker.errors import SinkworkerError, Transient
from sinkworker.ledger import redis_client
from sinkworker.ledger.contract import Enqueue, Ledger, Watermark
from sinkworker.ledger.redis_ledger import RedisLedger

log = logging.getLogger(__name__)

TICK_S = 0.2
REAP_S = 1.0
REGISTRY_S = 1.0
PATIENCE_S = 1.0
"""How long a connector in trouble is left alone before the next attempt."""


@dataclass
class _Watched:
    """A connector as the coordinator last saw it. All of it can be read again."""

    connector: Connector
    ledger: Ledger
    store: CheckpointStore
    autocommit: Autocommit
    cadence: Cadence = field(default_factory=Cadence)
    checkpoint: Checkpoint | None = None
    quiet_until_s: float = 0.0
    trouble: str = ""

    def serves(self, connector: Connector) -> bool:
        """Whether it was made for this generation and these settings."""
        return (
            self.connector.generation == connector.generation
            and self.connector.active_settings_id == connector.active_settings_id
        )

    def vouches_for(self, watermark: Watermark) -> bool:
        """Whether the database knows of the watermark's generation (R3) and of its epoch.

        One that it does not know is of a moment that was read too early, or of a database that was restored (R8).
        """
        assert self.connector.generation is not None
        return watermark.generation == self.connector.generation.id and watermark.epoch == self.connector.epoch


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
        self._watched: dict[str, _Watched] = {}
        self._said = ""

    def run(self, stop: threading.Event) -> None:
        refreshed = reaped = float("-inf")
        while not stop.is_set():
            now = time.monotonic()
            if now - refreshed >= REGISTRY_S:
                refreshed = now
                self._refresh()
            reap = now - reaped >= REAP_S
            if reap:
                reaped = now
            for connector_id, watched in self._watched.items():
                if now >= watched.quiet_until_s:
                    self._look_after(connector_id, watched, reap=reap)
            stop.wait(TICK_S)
        for connector_id, watched in self._watched.items():
            self._look_after(connector_id, watched, last=True)
        self._database.close()
        self._redis.close()

    def _refresh(self) -> None:
        """Which connectors to look after now; says once when the database is away, and once when it is back."""
        try:
            connectors = self._registry.all()
        except SinkworkerError as exc:
            self._say(f"{exc} Checkpoints wait for it.")
            return
        self._say("")
        current = {each.id: each for each in connectors if _is_live(each)}
        for connector_id in self._watched.keys() - current.keys():
            del self._watched[connector_id]
        for connector_id, connector in current.items():
            watched = self._watched.get(connector_id)
            if watched is None or not watched.serves(connector):
                self._watched[connector_id] = self._watch(connector)
            else:
                watched.connector = connector

    def _say(self, trouble: str) -> None:
        if trouble and not self._said:
            log.warning("%s", trouble)
        elif self._said and not trouble:
            log.info("KurrentDB answers again")
        self._said = trouble

    def _watch(self, connector: Connector) -> _Watched:
        assert connector.generation is not None
        generation = connector.generation
        return _Watched(
            connector=connector,
            ledger=RedisLedger(self._redis, connector.id, self._lease_ms),
            store=CheckpointStore(self._database, connector.id, generation.id, generation.start),
            autocommit=connector_settings.parse(connector.active_settings).autocommit,
        )

    def _look_after(self, connector_id: str, watched: _Watched, *, reap: bool = False, last: bool = False) -> None:
        try:
            watermark = watched.ledger.watermark()
            if watermark is not None and watched.vouches_for(watermark):
                self._commit(watched, watermark, last=last)
                if reap:
                    self._reap(connector_id, watched.ledger)
        except SinkworkerError as exc:
            watched.quiet_until_s = time.monotonic() + PATIENCE_S
            watched.checkpoint = None  # an append's outcome may be unknown: read again
            if watched.trouble != exc.code:
                watched.trouble = exc.code
                level = logging.WARNING if isinstance(exc, Transient) else logging.ERROR
                log.log(level, "%s Trying again until it works.", exc, extra={"connector": connector_id})
        else:
            if watched.trouble:
                log.info("all is well again", extra={"connector": connector_id})
            watched.trouble = ""

    def _commit(self, watched: _Watched, watermark: Watermark, *, last: bool) -> None:
        if not watched.autocommit.enabled:
            return
        if watched.checkpoint is None:
            watched.checkpoint = watched.store.load()
        due = watched.cadence.due(watermark, watched.checkpoint.cursor, watched.autocommit, time.monotonic())
        if due or (last and watermark.cursor > watched.checkpoint.cursor):
            watched.checkpoint = watched.store.advance(watched.checkpoint, watermark.cursor, watermark.epoch)
            watched.cadence.committed(watermark)

    def _reap(self, connector_id: str, ledger: Ledger) -> None:
        reaped = ledger.reap()
        for lane in reaped.expired:
            log.warning(
                "a worker fell silent: its lane goes to another", extra={"connector": connector_id, "lane": lane}
            )
        if reaped.epoch is not None:
            for activation in reaped.activations:
                self._enqueue(connector_id, reaped.epoch, [activation])


def _is_live(connector: Connector) -> bool:
    return not connector.deleted and connector.generation is not None and connector.state is not State.STOPPED
