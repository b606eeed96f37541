"""When a watermark is worth a checkpoint (contract §7.2)."""

from __future__ import annotations

from dataclasses import replace

from sinkworker.checkpoint.cadence import Cadence
from sinkworker.connectors.settings import Autocommit
from sinkworker.ledger.contract import Watermark
from sinkworker.model import Cursor, Epoch, Generation, Position

COMMITTED = Cursor(Position(100), Position(100))
AUTOCOMMIT = Autocommit(enabled=True, interval_ms=5000, records_threshold=10)


def watermark(position: int = 200, acked: int = 1) -> Watermark:
    cursor = Cursor(Position(position), Position(position))
    return Watermark(Epoch(1), Generation("g"), cursor, cursor, acked, in_flight_batches=0, in_flight_bytes=0, held=0)


def test_a_watermark_is_written_once_it_has_waited_for_the_interval() -> None:
    cadence = Cadence()
    assert not cadence.due(watermark(), COMMITTED, AUTOCOMMIT, 10.0)
    assert not cadence.due(watermark(), COMMITTED, AUTOCOMMIT, 14.9)
    assert cadence.due(watermark(), COMMITTED, AUTOCOMMIT, 15.0)


def test_enough_records_do_not_wait_for_the_interval() -> None:
    assert not Cadence().due(watermark(acked=9), COMMITTED, AUTOCOMMIT, 0.0)
    assert Cadence().due(watermark(acked=10), COMMITTED, AUTOCOMMIT, 0.0)


def test_records_are_counted_from_the_last_checkpoint() -> None:
    cadence = Cadence()
    assert cadence.due(watermark(acked=10), COMMITTED, AUTOCOMMIT, 0.0)
    cadence.committed(watermark(acked=10))
    assert not cadence.due(watermark(300, acked=19), watermark().cursor, AUTOCOMMIT, 0.1)
    assert cadence.due(watermark(300, acked=20), watermark().cursor, AUTOCOMMIT, 0.2)


def test_a_new_epoch_counts_from_nothing() -> None:
    cadence = Cadence()
    cadence.committed(watermark(acked=1000))
    assert cadence.due(replace(watermark(acked=10), epoch=Epoch(2)), COMMITTED, AUTOCOMMIT, 0.0)


def test_nothing_is_written_where_nothing_moved() -> None:
    assert not Cadence().due(watermark(100, acked=5000), COMMITTED, AUTOCOMMIT, 1e9)


def test_autocommit_that_is_off_writes_nothing() -> None:
    assert not Cadence().due(watermark(acked=5000), COMMITTED, replace(AUTOCOMMIT, enabled=False), 1e9)
