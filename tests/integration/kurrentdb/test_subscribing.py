"""Catch-up subscriptions through kurrentdbclient: from where, what passes, checkpoints, live."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kurrentdbclient import CaughtUp, Checkpoint, KurrentDBClient, RecordedEvent, StreamState
from kurrentdbclient.exceptions import KurrentDBClientError, StreamIsDeletedError

from tests.integration.kurrentdb.events import event, events, new_stream
from tests.integration.kurrentdb.standin import StandIn

ANY = StreamState.ANY


@pytest.fixture
def alone(start: Callable[..., StandIn], connect: Callable[[StandIn], KurrentDBClient]) -> KurrentDBClient:
    """A client of a stand-in that nothing else writes to."""
    return connect(start())


def until_caught_up(subscription: Iterator[RecordedEvent]) -> list[RecordedEvent]:
    """What comes up to the caught-up message, itself left out."""
    return list(itertools.takewhile(lambda e: not isinstance(e, CaughtUp), subscription))


def numbers(received: list[RecordedEvent]) -> list[int]:
    return [int(e.data[5:-1]) for e in received]


def test_everything_then_caught_up_then_what_comes(alone: KurrentDBClient) -> None:
    alone.append_to_stream("a-1", current_version=ANY, events=events(1500))
    with alone.subscribe_to_all(include_caught_up=True) as subscription:
        assert numbers(until_caught_up(subscription)) == list(range(1500))
        alone.append_to_stream("a-2", current_version=ANY, events=events(3))
        assert numbers(list(itertools.islice(subscription, 3))) == [0, 1, 2]
        alone.append_to_stream("a-1", current_version=ANY, events=event(7))
        assert numbers([next(subscription)]) == [7]


def test_after_a_position_itself_excluded(alone: KurrentDBClient) -> None:
    alone.append_to_stream("a-1", current_version=ANY, events=events(5))
    position = alone.get_stream("a-1")[2].commit_position
    with alone.subscribe_to_all(commit_position=position, include_caught_up=True) as subscription:
        assert numbers(until_caught_up(subscription)) == [3, 4]


def test_from_the_end_only_what_comes(alone: KurrentDBClient) -> None:
    alone.append_to_stream("a-1", current_version=ANY, events=events(5))
    with alone.subscribe_to_all(from_end=True, include_caught_up=True, include_checkpoints=True) as subscription:
        assert isinstance(next(subscription), CaughtUp)
        alone.append_to_stream("a-1", current_version=ANY, events=event(5))
        assert numbers([next(subscription)]) == [5]


def test_an_empty_log_is_caught_up_with(alone: KurrentDBClient) -> None:
    with alone.subscribe_to_all(filter_exclude=[], include_caught_up=True) as subscription:
        assert until_caught_up(subscription) == []
        alone.append_to_stream("a-1", current_version=ANY, events=event(5))
        assert numbers([next(subscription)]) == [5]


def test_position_zero_is_the_beginning(alone: KurrentDBClient) -> None:
    alone.append_to_stream("a-1", current_version=ANY, events=events(2))
    with alone.subscribe_to_all(commit_position=0, include_caught_up=True) as subscription:
        assert numbers(until_caught_up(subscription)) == [0, 1]


@pytest.mark.parametrize("offset", [1, -1])
def test_a_position_between_records_is_refused(client: KurrentDBClient, offset: int) -> None:
    client.append_to_stream(new_stream(), current_version=ANY, events=event())
    last = client.append_to_stream(new_stream(), current_version=ANY, events=event())
    with pytest.raises(KurrentDBClientError, match="Trying to read from an invalid position"):
        next(client.subscribe_to_all(commit_position=last + offset))


def test_a_position_beyond_the_head_stays_silent_below_it(alone: KurrentDBClient) -> None:
    last = alone.append_to_stream("a-1", current_version=ANY, events=event())
    beyond = last + 200_000
    with alone.subscribe_to_all(commit_position=beyond, include_caught_up=True) as subscription:
        assert isinstance(next(subscription), CaughtUp)
        positions: list[int] = []
        while not positions or positions[-1] <= beyond:
            positions.append(alone.append_to_stream("a-1", current_version=ANY, events=events(100)))
        assert next(subscription).commit_position > beyond


def test_filters_pass_what_they_name(alone: KurrentDBClient) -> None:
    for number in range(6):
        alone.append_to_stream(f"{'ab'[number % 2]}-1", current_version=ANY, events=event(number, f"T{number % 3}"))
    alone.append_to_stream("$system", current_version=ANY, events=event(9, "$T"))

    def passed(**options: Any) -> list[int]:
        with alone.subscribe_to_all(**options, include_caught_up=True) as subscription:
            return numbers(until_caught_up(subscription))

    assert passed() == [0, 1, 2, 3, 4, 5]
    assert passed(filter_exclude=[]) == [0, 1, 2, 3, 4, 5, 9]
    assert passed(filter_include=["T1", "T2"]) == [1, 2, 4, 5]
    assert passed(filter_include=["T"], filter_by_prefix=True) == [0, 1, 2, 3, 4, 5]
    assert passed(filter_include=["a-.*"], filter_by_stream_name=True) == [0, 2, 4]
    assert passed(filter_include=["b-", "$"], filter_by_stream_name=True, filter_by_prefix=True) == [1, 3, 5, 9]
    assert passed(filter_exclude=["a-.*", r"\$.*"], filter_by_stream_name=True) == [1, 3, 5]


def test_a_filtered_subscription_has_checkpoints_in_catch_up_and_live(alone: KurrentDBClient) -> None:
    alone.append_to_stream("a-1", current_version=ANY, events=events(25))
    positions = [e.commit_position for e in alone.get_stream("a-1")]
    options: dict[str, Any] = {"filter_include": ["Nothing"], "window_size": 5, "checkpoint_interval_multiplier": 2}
    with alone.subscribe_to_all(**options, include_checkpoints=True, include_caught_up=True) as subscription:
        caught = until_caught_up(subscription)
        assert all(isinstance(e, Checkpoint) for e in caught)
        # The pages are 4 records (and the server's own), then 5 each; every second sends where it began.
        assert [e.commit_position for e in caught] == [positions[4], positions[14], positions[24]]
        alone.append_to_stream("a-1", current_version=ANY, events=events(20))
        positions = [e.commit_position for e in alone.get_stream("a-1")]
        live = list(itertools.islice(subscription, 2))
        assert [e.commit_position for e in live] == [positions[34], positions[44]]


def test_an_unfiltered_subscription_has_no_checkpoints(alone: KurrentDBClient) -> None:
    alone.append_to_stream("a-1", current_version=ANY, events=events(500))
    options: dict[str, Any] = {"filter_exclude": [], "window_size": 1, "checkpoint_interval_multiplier": 1}
    with alone.subscribe_to_all(**options, include_checkpoints=True, include_caught_up=True) as subscription:
        assert not [e for e in until_caught_up(subscription) if isinstance(e, Checkpoint)]


def test_resuming_from_any_checkpoint_or_event_loses_nothing(alone: KurrentDBClient) -> None:
    for number in range(60):
        alone.append_to_stream("a-1", current_version=ANY, events=event(number, f"T{number % 7 == 0}"))
    options: dict[str, Any] = {"filter_include": ["TTrue"], "window_size": 3, "checkpoint_interval_multiplier": 1}
    with alone.subscribe_to_all(**options, include_checkpoints=True, include_caught_up=True) as subscription:
        everything = until_caught_up(subscription)
    for index, place in enumerate(everything):
        expected = [e.id for e in everything[index + 1 :] if not isinstance(e, Checkpoint)]
        position = place.commit_position
        with alone.subscribe_to_all(**options, commit_position=position, include_caught_up=True) as resumed:
            assert [e.id for e in until_caught_up(resumed)] == expected


def test_a_stream_is_followed(client: KurrentDBClient) -> None:
    stream, other = new_stream(), new_stream()
    client.append_to_stream(stream, current_version=ANY, events=events(3))
    with client.subscribe_to_stream(stream, include_caught_up=True) as subscription:
        assert numbers(until_caught_up(subscription)) == [0, 1, 2]
        client.append_to_stream(other, current_version=ANY, events=event(99))
        client.append_to_stream(stream, current_version=ANY, events=event(3))
        assert numbers([next(subscription)]) == [3]


@pytest.mark.parametrize(("revision", "expected"), [(0, [1, 2]), (2, []), (1000, [])])
def test_a_stream_is_followed_after_a_revision(client: KurrentDBClient, revision: int, expected: list[int]) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=ANY, events=events(3))
    with client.subscribe_to_stream(stream, stream_position=revision, include_caught_up=True) as subscription:
        assert numbers(until_caught_up(subscription)) == expected


def test_a_stream_is_followed_from_its_end(client: KurrentDBClient) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=ANY, events=events(3))
    with client.subscribe_to_stream(stream, from_end=True, include_caught_up=True) as subscription:
        assert until_caught_up(subscription) == []
        client.append_to_stream(stream, current_version=ANY, events=event(3))
        assert numbers([next(subscription)]) == [3]


def test_a_stream_may_begin_while_it_is_followed(client: KurrentDBClient) -> None:
    stream = new_stream()
    with client.subscribe_to_stream(stream, include_caught_up=True) as subscription:
        assert until_caught_up(subscription) == []
        client.append_to_stream(stream, current_version=ANY, events=event(1))
        assert numbers([next(subscription)]) == [1]


def test_a_tombstone_ends_a_subscription(client: KurrentDBClient) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=ANY, events=events(1))
    subscription = client.subscribe_to_stream(stream, include_caught_up=True)
    until_caught_up(subscription)
    client.tombstone_stream(stream, current_version=ANY)
    with pytest.raises(StreamIsDeletedError):
        next(subscription)


def test_every_subscriber_sees_every_event_once_in_order(alone: KurrentDBClient) -> None:
    """Subscribers that come before, during and after concurrent appends agree on one log."""
    total = 1200
    started = threading.Barrier(5)

    def subscribe(_: int) -> list[uuid.UUID]:
        with alone.subscribe_to_all() as subscription:
            started.wait()
            return [e.id for e in itertools.islice(subscription, total)]

    def append(writer: int) -> None:
        started.wait()
        for number in range(0, total // 2, 10):
            alone.append_to_stream(f"w{writer}-{number % 70}", current_version=ANY, events=events(10))

    with ThreadPoolExecutor(5) as pool:
        subscribers = [pool.submit(subscribe, number) for number in range(3)]
        for appended in [pool.submit(append, number) for number in range(2)]:
            appended.result()
        received = [subscriber.result() for subscriber in subscribers]
    expected = [e.id for e in alone.read_all()]
    assert len(expected) == total
    assert received == [expected] * 3
