"""How the adapter says what the database refuses."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

from sinkworker.config import Secret
from sinkworker.database import Database
from sinkworker.errors import Invalid, KurrentDBUnavailable, Misconfigured, SinkworkerError
from tests.integration.kurrentdb.events import event, events, new_stream
from tests.integration.kurrentdb.standin import StandIn

MIB = 1024 * 1024


@pytest.fixture
def database(shared: StandIn) -> Iterator[Database]:
    opened = Database(Secret(shared.uri))
    yield opened
    opened.close()


def sized(size: int) -> NewEvent:
    return NewEvent(type="Large", data=b"x" * size)


@pytest.mark.parametrize("size_and_count", [(2 * MIB, 1), (MIB * 3 // 4, 2)])
def test_more_than_the_database_takes_at_once_is_the_callers_fault(
    database: Database, size_and_count: tuple[int, int]
) -> None:
    size, count = size_and_count
    with pytest.raises(Invalid, match=r"larger than KurrentDB .* takes at once"):
        database.append(new_stream(), None, [sized(size) for _ in range(count)])


def test_a_fault_of_this_machine_is_waited_for(database: Database) -> None:
    """A connector whose scheduler has no descriptors left, say, must not stop for a bug (R10)."""
    with (
        pytest.raises(KurrentDBUnavailable, match=r"could not be asked to read it: .*Too many open files"),
        database.translated("read it"),
    ):
        raise OSError(errno.EMFILE, "Too many open files")


def test_a_refusal_that_the_client_does_not_know_is_told_without_the_calls_dump(database: Database) -> None:
    with pytest.raises(SinkworkerError, match="exceeds the maximum configured message size") as raised:
        database.append(new_stream(), None, [sized(17 * MIB)])
    assert "RpcError" not in str(raised.value)


def test_a_tombstoned_stream_is_said_to_be_one(database: Database, client: KurrentDBClient) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=StreamState.ANY, events=events(2))
    client.tombstone_stream(stream, current_version=1)
    with pytest.raises(Misconfigured, match=r"tombstoned.*where a filter names it.*another connector id"):
        list(database.read_stream(stream))
    for batch in ([event()], events(2)):
        with pytest.raises(Misconfigured, match="tombstoned"):
            database.append(stream, None, batch)
