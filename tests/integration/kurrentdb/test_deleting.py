"""Soft deletes and tombstones through kurrentdbclient."""

from __future__ import annotations

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import (
    FailedPreconditionError,
    NotFoundError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)

from tests.integration.kurrentdb.events import event, events, new_stream

ANY, EXISTS, NO_STREAM = StreamState.ANY, StreamState.EXISTS, StreamState.NO_STREAM


@pytest.fixture
def stream(client: KurrentDBClient) -> str:
    """A stream of two events."""
    name = new_stream()
    client.append_to_stream(name, current_version=ANY, events=events(2))
    return name


@pytest.mark.parametrize("expected", [ANY, EXISTS, 1])
def test_a_deleted_stream_is_not_found(client: KurrentDBClient, stream: str, expected: StreamState | int) -> None:
    client.delete_stream(stream, current_version=expected)
    with pytest.raises(NotFoundError):
        client.get_stream(stream)
    assert client.get_current_version(stream) is NO_STREAM


@pytest.mark.parametrize("expected", [ANY, NO_STREAM, 1])
def test_a_deleted_stream_continues_its_numbers(
    client: KurrentDBClient, stream: str, expected: StreamState | int
) -> None:
    client.delete_stream(stream, current_version=1)
    client.append_to_stream(stream, current_version=expected, events=event())
    client.append_to_stream(stream, current_version=2, events=event())
    assert [e.stream_position for e in client.get_stream(stream)] == [2, 3]
    assert client.get_stream_metadata(stream)[0] == {"$tb": 2}


def test_a_deleted_stream_is_not_the_one_expected(client: KurrentDBClient, stream: str) -> None:
    client.delete_stream(stream, current_version=1)
    with pytest.raises(WrongCurrentVersionError):
        client.append_to_stream(stream, current_version=0, events=event())
    with pytest.raises(FailedPreconditionError, match="is deleted"):
        client.append_to_stream(stream, current_version=EXISTS, events=event())


def test_deleting_replaces_the_metadata(client: KurrentDBClient, stream: str) -> None:
    client.set_stream_metadata(stream, metadata={"owner": "a"})
    client.delete_stream(stream, current_version=ANY)
    assert client.get_stream_metadata(stream)[0] == {"$tb": 2**63 - 1}


@pytest.mark.parametrize("metadata", [{}, {"owner": "a", "$maxCount": 5}])
def test_new_metadata_brings_a_deleted_stream_back_without_its_events(
    client: KurrentDBClient, stream: str, metadata: dict[str, object]
) -> None:
    client.delete_stream(stream, current_version=ANY)
    client.set_stream_metadata(stream, metadata=metadata)
    assert client.get_stream_metadata(stream) == (metadata | {"$tb": 2}, 2)
    assert client.get_stream(stream) == ()
    client.append_to_stream(stream, current_version=1, events=event())
    assert [e.stream_position for e in client.get_stream(stream)] == [2]


def test_a_stream_with_metadata_but_no_events_exists_and_can_be_deleted(client: KurrentDBClient) -> None:
    stream = new_stream()
    client.set_stream_metadata(stream, metadata={"owner": "a"})
    client.delete_stream(stream, current_version=EXISTS)
    with pytest.raises(FailedPreconditionError, match="is deleted"):
        client.append_to_stream(stream, current_version=EXISTS, events=event())
    client.append_to_stream(stream, current_version=NO_STREAM, events=event())
    assert client.get_stream_metadata(stream)[0] == {"$tb": 0}


def test_deleting_again_is_fine_with_the_right_version(client: KurrentDBClient, stream: str) -> None:
    client.delete_stream(stream, current_version=1)
    client.delete_stream(stream, current_version=1)
    client.delete_stream(stream, current_version=ANY)
    client.delete_stream(stream, current_version=NO_STREAM)
    with pytest.raises(WrongCurrentVersionError):
        client.delete_stream(stream, current_version=0)
    with pytest.raises(StreamIsDeletedError):
        client.delete_stream(stream, current_version=EXISTS)


@pytest.mark.parametrize("expected", [ANY, EXISTS, NO_STREAM, 3])
def test_a_stream_that_never_was_cannot_be_deleted(client: KurrentDBClient, expected: StreamState | int) -> None:
    with pytest.raises(NotFoundError):
        client.delete_stream(new_stream(), current_version=expected)


def test_a_wrong_version_is_not_deleted(client: KurrentDBClient, stream: str) -> None:
    with pytest.raises(WrongCurrentVersionError) as refused:
        client.delete_stream(stream, current_version=0)
    assert (refused.value.expected_version, refused.value.actual_version) == (0, 1)
    assert len(client.get_stream(stream)) == 2


def test_a_tombstone_is_for_ever(client: KurrentDBClient, stream: str) -> None:
    with pytest.raises(WrongCurrentVersionError):
        client.tombstone_stream(stream, current_version=0)
    client.tombstone_stream(stream, current_version=1)
    for attempt in (
        lambda: client.get_stream(stream),
        lambda: client.get_current_version(stream),
        lambda: client.append_to_stream(stream, current_version=ANY, events=event()),
        lambda: client.append_event(stream, current_version=ANY, event=event()),
        lambda: client.set_stream_metadata(stream, metadata={}),
        lambda: client.delete_stream(stream, current_version=ANY),
        lambda: client.tombstone_stream(stream, current_version=ANY),
        lambda: next(client.subscribe_to_stream(stream)),
    ):
        # The client knows the one from the other by the call that was refused; the server says the same.
        with pytest.raises((StreamIsDeletedError, FailedPreconditionError)):
            attempt()


@pytest.mark.parametrize("stream", ["ü☃", "line\nbreak", " spaces ", "100%"])
def test_a_deleted_stream_may_have_a_name_that_no_header_can_hold(client: KurrentDBClient, stream: str) -> None:
    stream += new_stream()
    client.tombstone_stream(stream, current_version=ANY)
    with pytest.raises(StreamIsDeletedError, match="is deleted"):
        client.get_stream(stream)


def test_a_stream_that_never_was_can_get_a_tombstone(client: KurrentDBClient) -> None:
    stream = new_stream()
    client.tombstone_stream(stream, current_version=ANY)
    with pytest.raises(StreamIsDeletedError):
        client.get_stream(stream)


def test_all_keeps_what_was_deleted_and_shows_the_tombstone(client: KurrentDBClient, stream: str) -> None:
    client.tombstone_stream(stream, current_version=ANY)
    read = list(client.read_all(filter_include=[stream], filter_by_stream_name=True))
    assert [(e.type, e.stream_position) for e in read] == [
        ("Tested", 0),
        ("Tested", 1),
        ("$streamDeleted", 2**63 - 1),
    ]
