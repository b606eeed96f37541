"""Appends through kurrentdbclient: expected versions, repeated requests, limits, positions."""

from __future__ import annotations

import itertools
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import (
    AccessDeniedError,
    MaximumAppendSizeExceededError,
    WrongCurrentVersionError,
)

from tests.integration.kurrentdb.events import event, events, new_stream

ANY, EXISTS, NO_STREAM = StreamState.ANY, StreamState.EXISTS, StreamState.NO_STREAM


@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
def test_a_new_stream_is_begun(client: KurrentDBClient, expected: StreamState) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=expected, events=events(3))
    assert [e.stream_position for e in client.get_stream(stream)] == [0, 1, 2]


@pytest.mark.parametrize("expected", [ANY, EXISTS, 2])
def test_a_stream_is_continued(client: KurrentDBClient, expected: StreamState | int) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=NO_STREAM, events=events(3))
    client.append_to_stream(stream, current_version=expected, events=event())
    assert client.get_current_version(stream) == 3


@pytest.mark.parametrize("expected", [NO_STREAM, 0, 1, 3])
def test_another_version_than_expected_writes_nothing(client: KurrentDBClient, expected: StreamState | int) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=NO_STREAM, events=events(3))
    with pytest.raises(WrongCurrentVersionError) as refused:
        client.append_to_stream(stream, current_version=expected, events=events(2))
    assert refused.value.actual_version == 2
    assert client.get_current_version(stream) == 2


@pytest.mark.parametrize("expected", [EXISTS, 0])
def test_a_stream_that_is_not_there_was_expected(client: KurrentDBClient, expected: StreamState | int) -> None:
    with pytest.raises(WrongCurrentVersionError) as refused:
        client.append_to_stream(new_stream(), current_version=expected, events=event())
    assert refused.value.actual_version is NO_STREAM


@pytest.mark.parametrize("expected", [ANY, EXISTS, 0])
def test_a_repeated_append_is_acknowledged_and_not_written(
    client: KurrentDBClient, expected: StreamState | int
) -> None:
    stream, repeated = new_stream(), events(2)
    client.append_to_stream(stream, current_version=NO_STREAM, events=event())
    first = client.append_to_stream(stream, current_version=expected, events=repeated)
    client.append_to_stream(stream, current_version=ANY, events=event())
    assert client.append_to_stream(stream, current_version=expected, events=repeated) == first
    assert client.get_current_version(stream) == 3


@pytest.mark.parametrize("expected", [NO_STREAM, ANY, EXISTS])
def test_an_append_that_is_repeated_only_in_part_is_refused(client: KurrentDBClient, expected: StreamState) -> None:
    stream, repeated = new_stream(), events(2)
    client.append_to_stream(stream, current_version=NO_STREAM, events=repeated)
    with pytest.raises(WrongCurrentVersionError):
        client.append_to_stream(stream, current_version=expected, events=[repeated[0], event()])
    assert client.get_current_version(stream) == 1


def test_an_append_that_begins_with_a_new_event_is_no_repetition(client: KurrentDBClient) -> None:
    stream, known = new_stream(), event()
    client.append_to_stream(stream, current_version=NO_STREAM, events=known)
    client.append_to_stream(stream, current_version=ANY, events=[event(), known])
    assert client.get_current_version(stream) == 2


def test_a_stream_exists_once_it_has_metadata(client: KurrentDBClient) -> None:
    stream = new_stream()
    client.set_stream_metadata(stream, metadata={"owner": "a"})
    client.append_to_stream(stream, current_version=EXISTS, events=event())
    assert client.get_current_version(stream) == 0


def test_the_same_id_twice_in_one_append_is_stored_twice(client: KurrentDBClient) -> None:
    stream, twin = new_stream(), event()
    client.append_to_stream(stream, current_version=NO_STREAM, events=[twin, twin])
    assert [e.id for e in client.get_stream(stream)] == [twin.id, twin.id]


def test_the_same_id_in_another_stream_is_another_event(client: KurrentDBClient) -> None:
    twin, first, second = event(), new_stream(), new_stream()
    client.append_to_stream(first, current_version=ANY, events=twin)
    client.append_to_stream(second, current_version=ANY, events=twin)
    assert client.get_current_version(second) == 0


def test_what_was_appended_comes_back_unchanged(client: KurrentDBClient) -> None:
    stream = "g-ümläut ☃/" + uuid.uuid4().hex
    sent = [
        NewEvent(type="Tüp", data=b'{"a":1}', metadata=b"not json", content_type="application/json"),
        NewEvent(type="Blob", data=bytes(range(256)), content_type="application/octet-stream"),
        NewEvent(type="Empty", data=b"", metadata=b"{}"),
    ]
    last = client.append_to_stream(stream, current_version=NO_STREAM, events=sent)
    read = client.get_stream(stream)
    for before, after in zip(sent, read, strict=True):
        assert (after.id, after.type, after.data, after.metadata, after.content_type, after.stream_name) == (
            (before.id, before.type, before.data, before.metadata, before.content_type, stream)
        )
        assert after.commit_position == after.prepare_position
        assert after.recorded_at is not None
    assert last == read[-1].commit_position


def test_each_event_has_a_position_of_its_own_with_gaps(client: KurrentDBClient) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=NO_STREAM, events=events(5))
    positions = [e.commit_position for e in client.get_stream(stream)]
    assert all(later - earlier > 50 for earlier, later in itertools.pairwise(positions))


def test_an_empty_append_is_acknowledged(client: KurrentDBClient) -> None:
    stream = new_stream()
    assert client.append_to_stream(stream, current_version=ANY, events=[]) > 0
    assert client.get_current_version(stream) is NO_STREAM


def test_more_than_a_megabyte_in_one_append_is_refused(client: KurrentDBClient) -> None:
    stream = new_stream()
    big = [NewEvent(type="Big", data=b"x" * 600_000, content_type="application/octet-stream") for _ in range(2)]
    client.append_to_stream(stream, current_version=ANY, events=big[0])
    with pytest.raises(MaximumAppendSizeExceededError):
        client.append_to_stream(stream, current_version=ANY, events=big)
    assert client.get_current_version(stream) == 0


def test_the_call_for_one_stream_behaves_as_the_one_for_batches(client: KurrentDBClient) -> None:
    stream, first = new_stream(), event()
    position = client.append_event(stream, current_version=NO_STREAM, event=first)
    assert client.append_event(stream, current_version=NO_STREAM, event=first) == position
    with pytest.raises(WrongCurrentVersionError):
        client.append_event(stream, current_version=5, event=event())


def test_concurrent_appends_with_one_expected_version_have_one_winner(client: KurrentDBClient) -> None:
    stream = new_stream()

    def attempt(_: int) -> bool:
        try:
            client.append_to_stream(stream, current_version=NO_STREAM, events=event())
        except WrongCurrentVersionError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 1
    assert client.get_current_version(stream) == 0


def test_concurrent_appends_are_all_there_once(client: KurrentDBClient) -> None:
    stream = new_stream()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda e: client.append_to_stream(stream, current_version=ANY, events=e), events(200)))
    read = client.get_stream(stream)
    assert [e.stream_position for e in read] == list(range(200))
    assert len({e.id for e in read}) == 200


def test_metadata_is_set_and_got_with_its_version(client: KurrentDBClient) -> None:
    stream = new_stream()
    assert client.get_stream_metadata(stream) == ({}, NO_STREAM)
    client.set_stream_metadata(stream, metadata={"owner": "a"}, current_version=NO_STREAM)
    client.set_stream_metadata(stream, metadata={"owner": "b"}, current_version=0)
    assert client.get_stream_metadata(stream) == ({"owner": "b"}, 1)
    with pytest.raises(WrongCurrentVersionError):
        client.set_stream_metadata(stream, metadata={}, current_version=0)
    # A metadata stream shows its latest event only.
    assert len(client.get_stream("$$" + stream)) == 1


def test_without_users_nobody_is_refused(client: KurrentDBClient) -> None:
    stream = f"$connectors/{uuid.uuid4()}/checkpoints"
    try:
        client.append_to_stream(stream, current_version=ANY, events=event())
    except AccessDeniedError:
        pytest.fail("an insecure server asks nobody for credentials")
