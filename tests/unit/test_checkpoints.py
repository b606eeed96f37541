"""Checkpoints that another release wrote."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from sinkworker.checkpoint import store
from sinkworker.checkpoint.store import CheckpointStore
from sinkworker.connectors import streams
from sinkworker.errors import OtherRelease
from sinkworker.model import Cursor, Epoch, Generation
from tests.builders import cursor
from tests.unit.simulation.database import Database, Store

ID = "loans-sink"


def checkpoints(written: Store, generation: str = "first") -> CheckpointStore:
    database: Any = Database(written, lambda: None, on_append=lambda _: None)
    return CheckpointStore(database, ID, Generation(generation), Cursor.BEGINNING)


def test_a_checkpoint_of_a_newer_release_is_neither_passed_over_nor_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Store()
    with monkeypatch.context() as newer:
        newer.setattr(store, "VERSION", 2)
        checkpoints(written).advance(checkpoints(written).load(), cursor(7), Epoch(1))
    with pytest.raises(OtherRelease, match="has version 2, this release knows 1"):
        checkpoints(written).load()
    assert checkpoints(written, "second").load().cursor == Cursor.BEGINNING


def test_a_checkpoint_of_the_first_releases_has_no_version_and_counts() -> None:
    written = Store()
    ours = {"generation": "first", "epoch": 1, "cursor": cursor(7).encode()}
    stream = streams.checkpoints(ID)
    written.append(stream, streams.CHECKPOINT_TYPE, b"{}", orjson.dumps({"sinkworker": ours}), "id")
    assert checkpoints(written).load().cursor == cursor(7)
