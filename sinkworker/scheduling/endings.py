"""How an epoch ends in order, by whoever ends it: claims released, checkpoint and lane progress recorded (R9)."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping

from sinkworker.bell import pause
from sinkworker.checkpoint.store import Checkpoint, CheckpointStore
from sinkworker.connectors import settings as connector_settings
from sinkworker.connectors.deployment import deployment_name
from sinkworker.connectors.lifecycle import Connector, GenerationInfo, ProgressPlace
from sinkworker.connectors.settings import SinkSettings
from sinkworker.errors import SinkworkerError, Stale
from sinkworker.exactly_once.guard import Guard
from sinkworker.exactly_once.marks import Lineage
from sinkworker.ledger.contract import Closed, Ledger, OlderFormat
from sinkworker.model import Cursor, Epoch, LaneNumber
from sinkworker.scheduling.means import Means

log = logging.getLogger(__name__)

DRAIN_POLL_S = 0.05


def check_release(ledger: Ledger) -> None:
    """Raises OtherRelease where a newer release's scheduler has left the ledger in a format of its own."""
    with contextlib.suppress(OlderFormat):
        ledger.watermark()


def close(ledger: Ledger, epoch: Epoch, deadline: float) -> Closed:
    """End the epoch once no lane is held any more, or at the deadline (monotonic).

    Raises Stale where the ledger is not of this epoch, or has lost a key.
    """
    while ledger.quiesce(epoch) and time.monotonic() < deadline:
        pause(DRAIN_POLL_S)
    return ledger.close(epoch)


def settle(means: Means, connector: Connector, epoch: Epoch, closed: Closed, settings: SinkSettings) -> None:
    """Make durable how an epoch ended: the checkpoint, then the progress of lanes that are ahead of it (R9).

    `connector`: as it was when the epoch began, or later where nobody knows how it ended.
    """
    assert connector.generation is not None
    generation = connector.generation
    store = CheckpointStore(means.database, connector.id, generation.id, generation.start, settings.filter.stream_id)
    checkpoint: Checkpoint = store.load()
    if settings.autocommit.enabled:
        checkpoint = store.advance(checkpoint, closed.watermark, epoch)
    progress = closed.progress
    if generation.progress is not None and not (connector.ended_in_order and _is_finished(means.ledger)):
        # A worker, of the last epoch too, may have committed what it did not acknowledge, or be about to.
        try:
            progress = farther(progress, _fenced(means, connector, generation, generation.progress))
        except SinkworkerError as exc:
            log.warning("%s How far the lanes are is not recorded.", exc, extra={"connector": connector.id})
            return
    ahead = {lane: cursor for lane, cursor in progress.items() if cursor > checkpoint.cursor}
    means.registry.report_drained(connector.id, epoch, generation.id, ahead)


def _is_finished(ledger: Ledger) -> bool:
    """Whether everything that was dispatched is acknowledged."""
    watermark = ledger.watermark()
    return watermark is not None and watermark.in_flight_batches == 0


def _fenced(
    means: Means, connector: Connector, generation: GenerationInfo, place: ProgressPlace
) -> Mapping[LaneNumber, Cursor]:
    """How far Kafka has the connector's lanes delivered, nobody delivering any more.

    Raises what `Guard.fence` does, and what the database does.
    """
    kafka = means.kafka_of(connector.id, means.registry.active_settings(connector))
    lineage = Lineage(deployment_name(means.database), connector.id, generation.id)
    return Guard(kafka, lineage, generation.layout.lanes, place).fence(means.drain_timeout_s)


def finish_stop(means: Means, connector_id: str) -> None:
    """Complete a stop that nobody completed: the scheduler that ran the connector is gone.

    Raises Stale and Unavailable as `ActiveTenure.end`, and OtherRelease where only a newer release can.
    """
    check_release(means.ledger)
    before = means.registry.get(connector_id)
    connector = means.registry.take_over(connector_id, means.instance)
    if before is not None:
        end_former(means, before, connector)
    means.registry.report_stopped(connector_id, connector.epoch)


def end_former(means: Means, before: Connector, connector: Connector) -> None:
    """End the epoch that the ledger is still of, if any: nobody delivers any more from then on (R9).

    `before`, `connector`: as it was until another epoch began, which alone may end older ones (R4), and as it is since.
    The ledger may be of one before those: a scheduler can have begun one in the database and not come to the ledger.
    How that one ends is not recorded, since nothing tells it from one that a restored database has lost (R8), nor is
    the end of another generation (R3).

    Raises as `ActiveTenure.end`, and OtherRelease where only a newer release can.
    """
    with contextlib.suppress(OlderFormat, Stale):  # of that there is nothing to end, or somebody else has
        watermark = means.ledger.watermark()
        if watermark is None or watermark.epoch >= connector.epoch:
            return
        closed = close(means.ledger, watermark.epoch, time.monotonic() + means.drain_timeout_s)
        same = connector.generation is not None and watermark.generation == connector.generation.id
        if same and watermark.epoch == before.epoch:
            settings = connector_settings.parse(connector.active_settings)
            settle(means, connector, connector.epoch, closed, settings)


def farther(one: Mapping[LaneNumber, Cursor], other: Mapping[LaneNumber, Cursor]) -> Mapping[LaneNumber, Cursor]:
    """Of each lane the farther cursor."""
    return {lane: max(one.get(lane, Cursor.BEGINNING), other.get(lane, Cursor.BEGINNING)) for lane in {**one, **other}}
