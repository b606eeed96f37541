"""Pure: what Kafka remembers of a lane, and by which names (X1, X4).

A mark is a committed offset of the lane's own consumer group on partition 0 of the progress topic. The offset is the
log's position, for people; the metadata is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sinkworker.connectors.lifecycle import Connector
from sinkworker.errors import Misconfigured
from sinkworker.model import Cursor, Generation, LaneNumber

VERSION = "1"
_OPEN, _CLOSED = "open", "closed"


@dataclass(frozen=True, slots=True)
class Lineage:
    """One generation of one connector of one deployment: what no two lanes that must not meet have in common (X1)."""

    deployment: str
    connector: str
    generation: Generation

    def name(self, lane: LaneNumber) -> str:
        """The lane's transactional id, and the name of its consumer group."""
        return f"sinkworker-{self.deployment}-{self.connector}-{self.generation}-{lane}"


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a lane's records are in Kafka. A closed one takes no more: a newer generation has begun (X4)."""

    cursor: Cursor
    closed: bool = False

    @property
    def offset(self) -> int:
        return max(0, self.cursor.commit)

    def encode(self) -> str:
        return f"{VERSION} {_CLOSED if self.closed else _OPEN} {self.cursor.encode()}"

    @classmethod
    def decode(cls, text: str) -> Mark:
        """The mark of `encode`'s text. Raises Misconfigured for one that this release did not write."""
        if not text:
            raise Misconfigured(
                "These brokers keep no metadata with an offset that a transaction commits.",
                hint="Exactly once needs Apache Kafka 2.5 or later; the embedded broker is none.",
                code="transactions-unsupported",
            )
        try:
            version, state, cursor = text.split(" ", 2)
            if version != VERSION or state not in (_OPEN, _CLOSED):
                raise ValueError(text)
            return cls(Cursor.decode(cursor), state == _CLOSED)
        except ValueError as exc:
            raise Misconfigured(
                f"The progress that Kafka has of a lane cannot be read: {text!r}.",
                hint="Every process must run the same release of sinkworker, and nothing else may write to its groups.",
                code="progress-unreadable",
            ) from exc


def to_restore(
    found: Mapping[LaneNumber, Mark | None], connector: Connector, checkpoint: Cursor
) -> dict[LaneNumber, Cursor]:
    """Marks of the connector's generation that have to be written anew, at the beginning of an epoch.

    A closed one is of a start that was never completed. A missing one has expired; that it was at or before the
    checkpoint is certain only where the last epoch ended in order (R9). Raises Misconfigured where it is not (X5).
    """
    wanting: dict[LaneNumber, Cursor] = {}
    for lane, mark in found.items():
        if mark is None:
            if not connector.ended_in_order or connector.drained.get(lane, checkpoint) > checkpoint:
                raise lost(lane)
            wanting[lane] = checkpoint
        elif mark.closed:
            wanting[lane] = mark.cursor
    return wanting


def behind(
    remembered: Mapping[LaneNumber, Cursor], delivered: Mapping[LaneNumber, Cursor], checkpoint: Cursor
) -> LaneNumber | None:
    """A lane that Kafka has less far than it was known to be, ahead of the checkpoint (X5); None where none is."""
    for lane, cursor in remembered.items():
        if cursor > checkpoint and cursor > delivered.get(lane, Cursor.BEGINNING):
            return lane
    return None


def undrained() -> Misconfigured:
    """That a new generation would deliver again what is in Kafka already (X4)."""
    return Misconfigured(
        "Some lanes may be ahead of the checkpoint, so that other settings would deliver records twice.",
        hint="Start it once with the settings it had and stop it when it has caught up, or start it at a position.",
        code="undrained",
    )


def lost(lane: LaneNumber) -> Misconfigured:
    """That nobody knows any more which records of a lane Kafka has."""
    return Misconfigured(
        f"Kafka has forgotten how far lane {lane} was delivered.",
        hint="Its consumer group expired or was deleted, or its topic was restored. Start the connector at a position, "
        "or reset it.",
        code="progress-lost",
    )
