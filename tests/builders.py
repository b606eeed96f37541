"""Values for tests, with everything that does not matter filled in."""

from __future__ import annotations

from datetime import UTC, datetime

from sinkworker.connectors.lifecycle import Connector, State
from sinkworker.ledger.contract import Batch, Tenure
from sinkworker.model import Cursor, Epoch, Generation, LaneNumber, Layout, Position, Record, Revision, SettingsId


def cursor(position: int) -> Cursor:
    """The cursor just after the record at `position`; 0 is the beginning."""
    if position == 0:
        return Cursor.BEGINNING
    return Cursor(Position(position), Position(position), Revision(position), f"id-{position}")


def record(position: int, raw: bytes = b"raw", stream: str = "loan-1") -> Record:
    """The record at `position`."""
    place = Position(position)
    return Record(place, place, Revision(position), f"id-{position}", stream, "Requested", b"", raw)


def tenure(epoch: int = 1, *, generation: str = "generation-0", lanes: int = 4, keys: str = "k") -> Tenure:
    return Tenure(Epoch(epoch), Generation(generation), Layout(lanes, lanes, keys), SettingsId("settings-7"))


def batch(lane: int, before: int, last: int, *, count: int = 1, payload: bytes = b"payload") -> Batch:
    return Batch(LaneNumber(lane), cursor(before), cursor(last), count, payload)


def stopped_connector() -> Connector:
    """One that has been created, and nothing else."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Connector(
        id="loans-sink",
        name="loans-sink",
        settings={},
        settings_id=SettingsId("settings-0"),
        state=State.STOPPED,
        should_run=False,
        created_at=at,
        updated_at=at,
        state_at=at,
        settings_at=at,
        revision=Revision(9),
        created_revision=Revision(0),
        epoch=Epoch(5),
    )
