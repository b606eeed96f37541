"""Whether a start goes on with a connector's generation or opens a new one, without I/O (R3)."""

from __future__ import annotations

from dataclasses import dataclass

from sinkworker.connectors.lifecycle import Connector
from sinkworker.connectors.settings import InitialPosition, SinkSettings, generation_changes
from sinkworker.exactly_once.marks import undrained
from sinkworker.model import Cursor, Layout, Position

MOST_LANES = 64
"""Lanes where no setting says otherwise: one for each partition, at most so many."""

TEMPLATE_LANES = 32
"""Lanes where no setting says otherwise and the topic is a template."""


@dataclass(frozen=True, slots=True)
class FromBeginning:
    """Everything in the log."""


@dataclass(frozen=True, slots=True)
class FromNow:
    """Only what is appended after the start was accepted."""


@dataclass(frozen=True, slots=True)
class FromPosition:
    """What comes after a position that a person named; it need not be a record's."""

    position: Position


@dataclass(frozen=True, slots=True)
class FromCheckpoint:
    """Where the last generation stood."""

    cursor: Cursor


Start = FromBeginning | FromNow | FromPosition | FromCheckpoint


@dataclass(frozen=True, slots=True)
class Opening:
    """A generation to open."""

    start: Start
    reason: str


def opening(
    connector: Connector, settings: SinkSettings, fingerprint: str, checkpoint: Cursor | None, partitions: int | None
) -> Opening | None:
    """What to open, None to go on. `partitions` is the topic's count now, 0 of a template, None if Kafka was not asked.

    Another partition count opens a generation only where nothing is ahead of the checkpoint: else the records ahead
    would be delivered again, and the old count stays. Raises Misconfigured where other settings would deliver them
    again to a consumer who was promised each once (X4).
    """
    if connector.start_request is not None:
        if connector.start_request == 0:
            return Opening(FromBeginning(), "started from the beginning")
        return Opening(FromPosition(connector.start_request), f"started at position {connector.start_request}")
    generation = connector.generation
    if generation is None or checkpoint is None:
        earliest = settings.initial_position is InitialPosition.EARLIEST
        return Opening(FromBeginning() if earliest else FromNow(), f"first start, from {settings.initial_position}")
    changes = generation_changes(generation.fingerprint, fingerprint)
    if changes:
        exact = settings.exactly_once or generation.progress is not None
        if exact and not drained_to(connector, checkpoint):
            raise undrained()
        return Opening(FromCheckpoint(checkpoint), f"settings changed: {', '.join(changes)}")
    if partitions is not None and partitions != generation.layout.partitions and drained_to(connector, checkpoint):
        return Opening(FromCheckpoint(checkpoint), f"the topic has {partitions} partitions now")
    return None


def drained_to(connector: Connector, checkpoint: Cursor) -> bool:
    """Whether the last tenure ended in order (R9) with no lane ahead of the checkpoint."""
    return connector.ended_in_order and all(cursor <= checkpoint for cursor in connector.drained.values())


def layout(settings: SinkSettings, partitions: int) -> Layout:
    """The layout of a new generation over so many partitions, which count for nothing where the topic is a template."""
    if settings.topic_is_template:
        return Layout(0, settings.lanes or TEMPLATE_LANES, settings.key_fingerprint())
    return Layout(partitions, settings.lanes or min(partitions, MOST_LANES), settings.key_fingerprint())
