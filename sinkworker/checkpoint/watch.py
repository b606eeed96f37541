"""One connector as a coordinator looks after it: its watermark to a checkpoint, the lanes of dead workers to others."""

from __future__ import annotations

import logging

from sinkworker import logs
from sinkworker.checkpoint.cadence import Cadence
from sinkworker.checkpoint.store import Checkpoint, CheckpointStore
from sinkworker.connectors import settings as connector_settings
from sinkworker.connectors.lifecycle import Connector
from sinkworker.crashpoints import CrashPoint, reach
from sinkworker.errors import SinkworkerError, Transient, Unavailable
from sinkworker.ledger.contract import Enqueue, Ledger, Watermark
from sinkworker.metrics.series import COMMIT_S, REAPED
from sinkworker.metrics.stretches import Stretches
from sinkworker.metrics.tally import Tally

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""How long checkpoints of a connector in trouble are left alone before the next attempt."""


class Watch:
    """Keeps nothing that it could not read again. For one thread."""

    def __init__(
        self,
        connector: Connector,
        ledger: Ledger,
        store: CheckpointStore,
        enqueue: Enqueue,
        role: logs.Role,
        tally: Tally,
    ) -> None:
        """Raises InvalidSettings for a connector that another release wrote."""
        self.connector = connector
        """As the database knows it: to be replaced by what was read last."""
        self._ledger = ledger
        self._store = store
        self._enqueue = enqueue
        settings = connector_settings.parse(connector.active_settings)
        self._autocommit = settings.autocommit
        logs.heed(connector.id, settings.logging_enabled)
        self._cadence = Cadence()
        self._checkpoint: Checkpoint | None = None
        self._quiet_until_s = 0.0
        self._tally = tally
        self._dispatched = Stretches()
        """What no checkpoint covers yet, and when it was first seen dispatched."""
        self._troubles = logs.Troubles(log, role, connector=connector.id)

    def serves(self, connector: Connector) -> bool:
        """Whether it was made for this generation and these settings."""
        return (
            self.connector.generation == connector.generation
            and self.connector.active_settings_id == connector.active_settings_id
        )

    # Neither raises: trouble is said once, and the next call tries again. False when a server did not answer that other
    # connectors need as well.

    def reap(self) -> bool:
        """Revive lanes that no worker holds. Needs nothing of the database, which may be away."""
        try:
            if self._watermark() is not None:
                self._revive()
        except SinkworkerError as exc:
            return self._say(exc)
        return True

    def commit(self, now_s: float, *, last: bool = False) -> bool:
        """Write the checkpoint if it is due, or any that is ahead if this is the last time."""
        if now_s < self._quiet_until_s and not last:
            return True
        try:
            watermark = self._watermark()
            if watermark is not None:
                self._commit(watermark, now_s, last=last)
        except SinkworkerError as exc:
            self._quiet_until_s = now_s + PATIENCE_S
            self._checkpoint = None  # an append's outcome may be unknown: read again
            return self._say(exc)
        self._troubles.over("checkpoints go on")
        return True

    def _say(self, exc: SinkworkerError) -> bool:
        level = logging.WARNING if isinstance(exc, Transient) else logging.ERROR
        self._troubles.say(exc, "Checkpoints wait for it.", level=level)
        return not isinstance(exc, Unavailable)

    def _watermark(self) -> Watermark | None:
        """The ledger's, where the database vouches for it."""
        watermark = self._ledger.watermark()
        return watermark if watermark is not None and self._vouches_for(watermark) else None

    def _vouches_for(self, watermark: Watermark) -> bool:
        """Whether the database knows of the watermark's generation (R3) and of its epoch.

        One that it does not know is of a moment that was read too early, or of a database that was restored (R8). An
        older one may go on: a scheduler that took over in the database can have died before it came to the ledger.
        """
        assert self.connector.generation is not None
        return watermark.generation == self.connector.generation.id and watermark.epoch <= self.connector.epoch

    def _commit(self, watermark: Watermark, now_s: float, *, last: bool) -> None:
        if not self._autocommit.enabled:
            return
        self._dispatched.add(watermark.frontier, now_s)
        if self._checkpoint is None:
            self._checkpoint = self._store.load()
            self._dispatched.take(self._checkpoint.cursor)  # whoever wrote it has told how long that took
        due = self._cadence.due(watermark, self._checkpoint.cursor, self._autocommit, now_s)
        if due or (last and watermark.cursor > self._checkpoint.cursor):
            reach(CrashPoint.WATERMARK)
            self._checkpoint = self._store.advance(self._checkpoint, watermark.cursor, watermark.epoch)
            self._cadence.committed(watermark)
            for seen_s in self._dispatched.take(watermark.cursor):
                self._tally.observe(self.connector.id, COMMIT_S, now_s - seen_s)

    def _revive(self) -> None:
        reaped = self._ledger.reap()
        if reaped.expired:
            self._tally.count(self.connector.id, REAPED, len(reaped.expired))
            lanes = ",".join(map(str, sorted(reaped.expired)))
            fields = {"connector": self.connector.id, "lane": lanes}
            log.warning("a worker fell silent: its lanes go to others", extra=fields)
        if reaped.epoch is not None:
            for activation in reaped.activations:
                self._enqueue(self.connector.id, reaped.epoch, [activation])
