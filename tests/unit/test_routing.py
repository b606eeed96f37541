"""Which lane a record goes to: that of its partition, whatever decides the partition (P2)."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import pytest

from sinkworker.connectors.settings import KeySettings, KeySource, Partitioner
from sinkworker.keys import java_partition_of, partition_of
from sinkworker.model import Cursor, Layout, Position, Record, Revision
from sinkworker.scheduling.routing import Router


@pytest.mark.parametrize(
    ("partitioner", "decides"),
    [(Partitioner.CONSISTENT_RANDOM, partition_of), (Partitioner.MURMUR2_RANDOM, java_partition_of)],
)
def test_a_record_goes_to_the_lane_of_the_partition_that_its_key_decides(
    partitioner: Partitioner, decides: Callable[[bytes, str, int], int]
) -> None:
    router = Router(KeySettings(KeySource.STREAM, "", partitioner), Layout(12, 5, "k"), Cursor.BEGINNING)
    lanes = {}
    for number in range(200):
        name = f"loan-{number}"
        lanes[name] = router.lane_of(Record(Position(1), Position(1), Revision(0), "id", name, "Requested", b"", b""))
    assert lanes == {name: decides(name.encode(), "id", 12) % 5 for name in lanes}


@pytest.mark.parametrize("partitioner", Partitioner)
def test_where_the_topic_is_a_template_the_key_decides_the_lane_or_the_stream_where_there_is_none(
    partitioner: Partitioner,
) -> None:
    layout, metadata = Layout(0, 32, "k"), b'{"esdb.partition-key": "mine"}'
    router = Router(KeySettings(partitioner=partitioner), layout, Cursor.BEGINNING)

    def lane(record_id: str, metadata: bytes) -> int | None:
        return router.lane_of(Record(Position(1), Position(1), Revision(0), record_id, "loan-7", "T", metadata, b""))

    assert lane("id-1", metadata) == crc32(b"mine") % 32
    assert lane("id-1", b"") == lane("id-2", b"") == crc32(b"loan-7") % 32
