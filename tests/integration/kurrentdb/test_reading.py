"""Finite reads through kurrentdbclient: streams and `$all`, both directions, limits, filters, truncation, links."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, RecordedEvent, StreamState
from kurrentdbclient.exceptions import ExceptionThrownByHandlerError, InvalidCommitPositionError, NotFoundError
from kurrentdbclient.protos.v1 import streams_pb2, streams_pb2_grpc

from tests.integration.kurrentdb.events import event, events, new_stream
from tests.integration.kurrentdb.standin import StandIn

ANY = StreamState.ANY


def revisions(read: tuple[RecordedEvent, ...]) -> list[int]:
    return [e.stream_position for e in read]


@pytest.fixture
def stream(client: KurrentDBClient) -> str:
    """A stream of ten events."""
    name = new_stream()
    client.append_to_stream(name, current_version=ANY, events=events(10))
    return name


@pytest.mark.parametrize(
    ("start", "backwards", "limit", "expected"),
    [
        (None, False, 100, list(range(10))),
        (4, False, 3, [4, 5, 6]),
        (9, False, 3, [9]),
        (10, False, 3, []),
        (None, True, 3, [9, 8, 7]),
        (4, True, 3, [4, 3, 2]),
        (1, True, 10, [1, 0]),
        (100, True, 2, [9, 8]),
    ],
)
def test_a_stream_is_read(
    client: KurrentDBClient, stream: str, start: int | None, backwards: bool, limit: int, expected: list[int]
) -> None:
    read = client.get_stream(stream, stream_position=start, backwards=backwards, limit=limit)
    assert revisions(read) == expected


def test_a_long_stream_is_read_whole(client: KurrentDBClient) -> None:
    name = new_stream()
    for _ in range(3):
        client.append_to_stream(name, current_version=ANY, events=events(700))
    assert revisions(client.get_stream(name)) == list(range(2100))
    assert revisions(client.get_stream(name, backwards=True)) == list(reversed(range(2100)))
    assert revisions(client.get_stream(name, limit=1500)) == list(range(1500))


def test_a_missing_stream_is_not_found(client: KurrentDBClient) -> None:
    with pytest.raises(NotFoundError):
        client.get_stream(new_stream())
    assert client.get_current_version(new_stream()) is StreamState.NO_STREAM


@pytest.fixture(scope="module")
def log(shared: StandIn) -> list[RecordedEvent]:
    """Thirty events over three streams and two types, as `$all` has them."""
    category = "log" + uuid.uuid4().hex
    with KurrentDBClient(shared.uri) as client:
        for number in range(30):
            name = f"{category}-{number % 3}"
            client.append_to_stream(name, current_version=ANY, events=event(number, f"{category}{number % 2}"))
        return list(client.read_all(filter_include=[f"{category}.*"], filter_by_stream_name=True))


def test_all_is_read_from_a_position_inclusively(client: KurrentDBClient, log: list[RecordedEvent]) -> None:
    assert len(log) == 30
    read = client.read_all(commit_position=log[10].commit_position, filter_exclude=[], limit=5)
    assert [e.id for e in read] == [e.id for e in log[10:15]]


def test_all_is_read_backwards_from_before_a_position(client: KurrentDBClient, log: list[RecordedEvent]) -> None:
    read = client.read_all(commit_position=log[10].commit_position, backwards=True, filter_exclude=[], limit=3)
    assert [e.id for e in read] == [log[9].id, log[8].id, log[7].id]


@pytest.mark.parametrize("offset", [1, -1])
@pytest.mark.parametrize("filters", [[], [r"\$.+"]])
def test_a_position_between_records_is_refused(
    client: KurrentDBClient, log: list[RecordedEvent], offset: int, filters: list[str]
) -> None:
    read = client.read_all(commit_position=log[10].commit_position + offset, filter_exclude=filters)
    with pytest.raises(Exception, match=r"Unexpected (Filtered)?ReadAllResult: InvalidPosition") as refused:
        list(read)
    if filters:
        assert isinstance(refused.value, InvalidCommitPositionError)


def test_a_position_within_the_last_record_is_refused(client: KurrentDBClient) -> None:
    last = client.append_to_stream(new_stream(), current_version=ANY, events=event())
    with pytest.raises(InvalidCommitPositionError):
        list(client.read_all(commit_position=last + 1))


def test_a_position_beyond_the_head_is_no_error(client: KurrentDBClient, log: list[RecordedEvent]) -> None:
    assert list(client.read_all(commit_position=10**12)) == []
    assert list(client.read_all(commit_position=2**63 - 1)) == []


def test_filters_choose_by_type_and_stream(client: KurrentDBClient, log: list[RecordedEvent]) -> None:
    category = log[0].stream_name.partition("-")[0]

    def read(**options: Any) -> list[uuid.UUID]:
        return [e.id for e in client.read_all(**options)]

    even = [e.id for e in log if e.type.endswith("0")]
    assert read(filter_include=[f"{category}0"]) == even
    assert read(filter_include=[category], filter_by_prefix=True) == [e.id for e in log]
    first = [e.id for e in log if e.stream_name.endswith("-0")]
    assert read(filter_include=[f"{category}-0"], filter_by_stream_name=True) == first
    prefix: dict[str, Any] = {"filter_include": [f"{category}-0", f"{category}-1"], "filter_by_stream_name": True}
    assert len(read(**prefix, filter_by_prefix=True)) == 20
    kept = read(filter_exclude=[f"{category}0", "Tested", r"\$.+"], commit_position=log[0].commit_position, limit=15)
    assert kept == [e.id for e in log if e.type.endswith("1")]
    assert read(filter_include=[f"{category}0"], backwards=True, limit=2) == even[:-3:-1]


def test_an_expression_that_does_not_compile_is_refused(client: KurrentDBClient) -> None:
    with pytest.raises(ExceptionThrownByHandlerError):
        list(client.read_all(filter_include=["(unclosed"]))


def test_the_head_is_the_position_of_the_last_event(start: Callable[..., StandIn]) -> None:
    with KurrentDBClient(start().uri) as client:
        assert client.get_commit_position() == 0
        assert list(client.read_all()) == []
        last = client.append_to_stream("a-1", current_version=ANY, events=events(3))
        assert client.get_commit_position() == last
        client.append_to_stream("$system", current_version=ANY, events=event(0, "$System"))
        assert client.get_commit_position() == last
        assert client.get_commit_position(filter_exclude=[]) > last


def test_max_count_hides_the_oldest_from_the_stream_but_not_from_all(client: KurrentDBClient, stream: str) -> None:
    client.set_stream_metadata(stream, metadata={"$maxCount": 3})
    assert revisions(client.get_stream(stream)) == [7, 8, 9]
    assert revisions(client.get_stream(stream, stream_position=2, limit=2)) == [7, 8]
    assert revisions(client.get_stream(stream, backwards=True)) == [9, 8, 7]
    assert len(list(client.read_all(filter_include=[stream], filter_by_stream_name=True))) == 10
    client.append_to_stream(stream, current_version=9, events=event())
    assert revisions(client.get_stream(stream)) == [8, 9, 10]


def test_truncate_before_and_max_age_hide_too(client: KurrentDBClient, stream: str) -> None:
    client.set_stream_metadata(stream, metadata={"$tb": 8})
    assert revisions(client.get_stream(stream)) == [8, 9]
    client.set_stream_metadata(stream, metadata={"$maxAge": 3600})
    assert revisions(client.get_stream(stream)) == list(range(10))


def test_links_are_resolved_only_where_asked_for(client: KurrentDBClient, stream: str) -> None:
    links = new_stream("links")
    targets = [f"2@{stream}", f"0@{new_stream()}"]
    client.append_to_stream(
        links,
        current_version=ANY,
        events=[
            NewEvent(type="$>", data=target.encode(), content_type="application/octet-stream") for target in targets
        ],
    )
    plain = client.get_stream(links)
    assert [(e.type, e.data.decode()) for e in plain] == [("$>", target) for target in targets]
    resolved = client.get_stream(links, limit=1, resolve_links=True)[0]
    assert (resolved.stream_name, resolved.stream_position) == (stream, 2)
    assert resolved.link is not None
    assert (resolved.link.stream_name, resolved.link.id) == (links, plain[0].id)


def test_a_link_to_nothing_is_sent_without_its_event(shared: StandIn, client: KurrentDBClient) -> None:
    links = new_stream("links")
    client.append_to_stream(links, current_version=ANY, events=NewEvent(type="$>", data=b"0@nowhere"))
    request = streams_pb2.ReadReq()
    request.options.stream.stream_identifier.stream_name = links.encode()
    request.options.stream.start.SetInParent()
    request.options.count = 10
    request.options.resolve_links = True
    request.options.no_filter.SetInParent()
    request.options.uuid_option.structured.SetInParent()
    with grpc.insecure_channel(f"127.0.0.1:{shared.port}") as channel:
        (response,) = streams_pb2_grpc.StreamsStub(channel).Read(request)  # type: ignore[no-untyped-call]
    assert not response.event.HasField("event")
    assert response.event.link.id.WhichOneof("value") == "structured"


def test_event_ids_come_structured_where_asked_for(shared: StandIn, client: KurrentDBClient) -> None:
    stream, one = new_stream(), event()
    client.append_to_stream(stream, current_version=ANY, events=one)
    request = streams_pb2.ReadReq()
    request.options.stream.stream_identifier.stream_name = stream.encode()
    request.options.stream.start.SetInParent()
    request.options.count = 10
    request.options.no_filter.SetInParent()
    request.options.uuid_option.structured.SetInParent()
    with grpc.insecure_channel(f"127.0.0.1:{shared.port}") as channel:
        (response,) = streams_pb2_grpc.StreamsStub(channel).Read(request)  # type: ignore[no-untyped-call]
    halves = response.event.event.id.structured
    value = (halves.most_significant_bits % 2**64 << 64) + halves.least_significant_bits % 2**64
    assert uuid.UUID(int=value) == one.id


def test_large_events_are_read_whole(client: KurrentDBClient) -> None:
    stream = new_stream()
    bodies = [bytes([number]) * 900_000 for number in range(5)]
    for body in bodies:
        large = NewEvent(type="Large", data=body, content_type="application/octet-stream")
        client.append_to_stream(stream, current_version=ANY, events=large)
    assert [e.data for e in client.get_stream(stream)] == bodies
