"""Both readers of a subscription, by the same tests: what they hand over, and what they make of trouble."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.bell import SocketBell
from sinkworker.config import Secret
from sinkworker.database import Database, NoBoundary
from sinkworker.errors import Misconfigured, SinkworkerError, Unavailable
from sinkworker.model import Cursor, Passed, Position, Record
from sinkworker.source import libcurl, readers
from sinkworker.source.events import Item
from sinkworker.source.filters import WITHOUT_SYSTEM_EVENTS, Matching, OneStream, ServerFilter, WholeLog
from sinkworker.source.readers import Reader
from sinkworker.source.subscription import LetGo, Subscription
from tests.integration.kurrentdb.events import event, events, new_stream
from tests.integration.kurrentdb.standin import StandIn
from tests.ports import free_port

ANY = StreamState.ANY
TLS = Path(__file__).parent / "tls"
PATIENCE_S = 15.0


class Readers:
    """Subscriptions of one of the readers, and what they hand over."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.bell = SocketBell()
        self.databases: list[Database] = []
        self.open: list[Subscription] = []

    def subscribe(
        self, uri: str, wanted: ServerFilter = WITHOUT_SYSTEM_EVENTS, after: Cursor = Cursor.BEGINNING
    ) -> Subscription:
        database = Database(Secret(uri))
        self.databases.append(database)
        self.open.append(readers.subscribe(database, self.reader, wanted, after, self.bell))
        return self.open[-1]

    def until(self, subscription: Subscription, done: Callable[[list[Item]], bool]) -> list[Item]:
        """What is handed over until `done` says so of all of it."""
        items: list[Item] = []
        deadline = time.monotonic() + PATIENCE_S
        while not done(items):
            assert time.monotonic() < deadline, items[-3:]
            self.bell.clear()
            new = subscription.read(500)
            items += new
            if not new:
                subscription.wait(0.2)
        return items

    def caught_up(self, subscription: Subscription) -> list[Item]:
        return self.until(subscription, is_caught_up)

    def end(self, subscription: Subscription) -> SinkworkerError:
        """What the subscription ends with."""
        with pytest.raises(SinkworkerError) as raised:
            self.until(subscription, lambda _: False)
        return raised.value


@pytest.fixture(params=list(Reader), ids=lambda reader: reader.value)
def reading(request: pytest.FixtureRequest) -> Iterator[Readers]:
    one = Readers(request.param)
    yield one
    for subscription in one.open:
        subscription.close()
    for database in one.databases:
        database.close()
    one.bell.close()


@pytest.fixture
def alone(start: Callable[..., StandIn]) -> StandIn:
    """A stand-in that nobody else writes to."""
    return start()


def is_caught_up(items: list[Item]) -> bool:
    return any(isinstance(each, Passed) and each.caught_up for each in items)


def records(items: list[Item]) -> list[Record]:
    return [each for each in items if isinstance(each, Record)]


def numbers(items: list[Item]) -> list[int]:
    return [json.loads(decoded(each).data)["n"] for each in records(items)]


def decoded(record: Record) -> streams_pb2.ReadResp.ReadEvent.RecordedEvent:
    return streams_pb2.ReadResp.FromString(record.raw).event.event


def test_a_record_is_what_was_appended(reading: Readers, shared: StandIn, client: KurrentDBClient) -> None:
    stream = new_stream("ünïcode")
    proposed = NewEvent(type="Tested", data=b"\0\xff", metadata=b"\1no json", content_type="application/octet-stream")
    client.append_to_stream(stream, current_version=ANY, events=[event(), proposed])
    stored = list(client.get_stream(stream))[1]
    [_, record] = records(reading.caught_up(reading.subscribe(shared.uri, OneStream(stream))))
    assert record.cursor == Cursor(Position(stored.commit_position), Position(stored.prepare_position))
    assert (record.cursor.revision, record.cursor.record_id) == (1, str(proposed.id))
    assert (record.stream, record.type, record.metadata) == (stream, "Tested", b"\1no json")
    raw = decoded(record)
    assert (raw.id.string, raw.data, raw.custom_metadata) == (str(proposed.id), b"\0\xff", b"\1no json")
    assert raw.metadata["content-type"] == "application/octet-stream"
    assert int(raw.metadata["created"]) > 0


def test_everything_comes_in_order_then_what_is_new(reading: Readers, alone: StandIn) -> None:
    with KurrentDBClient(alone.uri) as client:
        for part in range(5):
            client.append_to_stream(f"a-{part % 2}", current_version=ANY, events=events(2000)[part * 400 :][:400])
        subscription = reading.subscribe(alone.uri)
        assert numbers(reading.caught_up(subscription)) == list(range(2000))
        for number in range(2000, 2010):
            client.append_to_stream("a-1", current_version=ANY, events=event(number))
            assert numbers(reading.until(subscription, lambda items: bool(records(items)))) == [number]


def test_large_records_come_whole(reading: Readers, shared: StandIn, client: KurrentDBClient) -> None:
    stream, sizes = new_stream(), [1_000_000, 1, 16_384, 999_999]
    for size in sizes:
        client.append_to_stream(stream, current_version=ANY, events=NewEvent(type="Large", data=b"x" * size))
    items = reading.caught_up(reading.subscribe(shared.uri, OneStream(stream)))
    assert [len(decoded(record).data) for record in records(items)] == sizes


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (WholeLog(), [0, 1, 2, 3, 4, 5, 9]),
        (WITHOUT_SYSTEM_EVENTS, [0, 1, 2, 3, 4, 5]),
        (Matching("^T[12]$"), [1, 2, 4, 5]),
        (Matching("^(?:a-)", by_stream=True), [0, 2, 4]),
        (Matching("-1", by_stream=True), [0, 1, 2, 3, 4, 5]),
        (OneStream("b-1"), [1, 3, 5]),
    ],
    ids=repr,
)
def test_the_database_filters(reading: Readers, alone: StandIn, wanted: ServerFilter, expected: list[int]) -> None:
    with KurrentDBClient(alone.uri) as client:
        for number in range(6):
            client.append_to_stream(
                f"{'ab'[number % 2]}-1", current_version=ANY, events=event(number, f"T{number % 3}")
            )
        client.append_to_stream("$system", current_version=ANY, events=event(9, "$T"))
    assert numbers(reading.caught_up(reading.subscribe(alone.uri, wanted))) == expected


def test_the_database_says_how_far_it_looked(reading: Readers, alone: StandIn) -> None:
    with KurrentDBClient(alone.uri) as client:
        client.append_to_stream("a-1", current_version=ANY, events=events(1000))
        subscription = reading.subscribe(alone.uri, Matching("^Nothing$"))
        caught_up = reading.caught_up(subscription)
        client.append_to_stream("a-1", current_version=ANY, events=events(1000))
        head = Database(Secret(alone.uri))
        reading.databases.append(head)
        live = reading.until(subscription, lambda items: len(items) >= 3)
    marks = [each.cursor for each in (*caught_up, *live) if isinstance(each, Passed) and each.cursor is not None]
    assert len(marks) >= 6
    assert marks == sorted(marks)
    assert Cursor.BEGINNING < marks[-1] <= head.head_cursor()
    assert records(caught_up + live) == []


def test_reading_goes_on_after_any_cursor(reading: Readers, alone: StandIn) -> None:
    wanted = Matching("^T0$")
    with KurrentDBClient(alone.uri) as client:
        for number in range(600):
            client.append_to_stream("a-1", current_version=ANY, events=event(number, f"T{number % 60}"))
    everything = reading.caught_up(reading.subscribe(alone.uri, wanted))
    places = [(index, each.cursor) for index, each in enumerate(everything) if each.cursor is not None]
    assert {type(everything[index]) for index, _ in places} == {Record, Passed}
    for index, cursor in places:
        resumed = reading.subscribe(alone.uri, wanted, cursor)
        assert numbers(reading.caught_up(resumed)) == numbers(everything[index + 1 :])


def test_a_stream_is_read_on_after_a_revision(reading: Readers, shared: StandIn, client: KurrentDBClient) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=ANY, events=events(5))
    everything = records(reading.caught_up(reading.subscribe(shared.uri, OneStream(stream))))
    resumed = reading.subscribe(shared.uri, OneStream(stream), everything[2].cursor)
    assert numbers(reading.caught_up(resumed)) == [3, 4]


def test_a_position_beyond_the_head_is_silent(reading: Readers, alone: StandIn) -> None:
    with KurrentDBClient(alone.uri) as client:
        last = Position(client.append_to_stream("a-1", current_version=ANY, events=event()) + 100_000)
        subscription = reading.subscribe(alone.uri, WholeLog(), Cursor(last, last))
        assert records(reading.caught_up(subscription)) == []
        client.append_to_stream("a-1", current_version=ANY, events=events(100))
        positions = [client.append_to_stream("a-1", current_version=ANY, events=events(1000)) for _ in range(2)]
    assert positions[0] > last  # enough to grow beyond it
    first = records(reading.until(subscription, lambda items: bool(records(items))))[0]
    assert first.cursor.commit > last


def test_a_position_that_is_no_records_is_refused(reading: Readers, shared: StandIn, client: KurrentDBClient) -> None:
    position = Position(client.append_to_stream(new_stream(), current_version=ANY, events=events(2)) - 1)
    subscription = reading.subscribe(shared.uri, WholeLog(), Cursor(position, position))
    assert isinstance(reading.end(subscription), NoBoundary)


def test_a_filter_that_the_database_cannot_run_is_named(reading: Readers, shared: StandIn) -> None:
    with pytest.raises(Misconfigured, match=r"does not accept the filter '\(\['") as raised:
        reading.until(reading.subscribe(shared.uri, Matching("([")), lambda _: False)
    assert raised.value.code == "filter-refused"


def test_a_stream_that_is_tombstoned_ends_it(reading: Readers, shared: StandIn, client: KurrentDBClient) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=ANY, events=events(2))
    subscription = reading.subscribe(shared.uri, OneStream(stream))
    reading.caught_up(subscription)
    client.tombstone_stream(stream, current_version=ANY)
    assert "tombstoned" in str(reading.end(subscription))
    with pytest.raises(Misconfigured, match="tombstoned"):
        reading.subscribe(shared.uri, OneStream(stream))


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_database_that_goes_away_is_read_on_from_when_it_is_back(
    reading: Readers, alone: StandIn, kill: bool
) -> None:
    with KurrentDBClient(alone.uri) as client:
        client.append_to_stream("a-1", current_version=ANY, events=events(50))
        subscription = reading.subscribe(alone.uri)
        before = reading.caught_up(subscription)
        if kill:
            alone.kill()
        else:
            alone.stop()
        end = reading.end(subscription)
        assert isinstance(end, Unavailable), end
        alone.start()
        client.append_to_stream("a-1", current_version=ANY, events=event(50))
    resumed = reading.subscribe(alone.uri, after=records(before)[-1].cursor)
    assert numbers(before + reading.caught_up(resumed)) == list(range(51))


def test_nobody_there_is_unavailable(reading: Readers) -> None:
    with pytest.raises(Unavailable):
        reading.subscribe(f"kurrentdb://127.0.0.1:{free_port()}?tls=false")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A stand-in that asks for credentials, over TLS."""
    options = ("--user", "admin:changeit", "--tls-cert", str(TLS / "server.pem"), "--tls-key", str(TLS / "server.key"))
    server = StandIn(tmp_path_factory.mktemp("guarded") / "events.db", *options).start()
    with KurrentDBClient(secured(server)) as client:
        client.append_to_stream("a-1", current_version=ANY, events=events(3))
    yield server
    server.kill()


def secured(server: StandIn, credentials: str = "admin:changeit", ca: str | None = "ca.pem") -> str:
    trusted = "" if ca is None else f"?tlsCaFile={TLS / ca}"
    return f"kurrentdb://{credentials}@127.0.0.1:{server.port}{trusted}"


def test_credentials_and_records_travel_over_tls(reading: Readers, guarded: StandIn) -> None:
    assert numbers(reading.caught_up(reading.subscribe(secured(guarded)))) == [0, 1, 2]


def test_a_wrong_password_is_said_to_be_one(reading: Readers, guarded: StandIn) -> None:
    with pytest.raises(Misconfigured, match="refused the credentials") as raised:
        reading.subscribe(secured(guarded, "admin:secret-of-mine"))
    assert "secret-of-mine" not in str(raised.value) + repr(raised.value)


def test_an_anonymous_reader_is_denied(reading: Readers, start: Callable[..., StandIn]) -> None:
    with pytest.raises(Misconfigured, match="access denied"):
        reading.subscribe(start("--user", "admin:changeit").uri)


def test_a_certificate_that_nobody_vouches_for_is_refused(reading: Readers, guarded: StandIn) -> None:
    with pytest.raises((Misconfigured, Unavailable), match=r"(?i)certificate|ssl|tls"):
        reading.subscribe(secured(guarded, ca=None))


def test_a_host_that_is_down_is_passed_over(reading: Readers, shared: StandIn, client: KurrentDBClient) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=ANY, events=events(3))
    uri = f"kurrentdb://127.0.0.1:{free_port()},127.0.0.1:{shared.port}?tls=false"
    assert numbers(reading.caught_up(reading.subscribe(uri, OneStream(stream)))) == [0, 1, 2]


def test_the_node_is_found_by_gossip(reading: Readers, shared: StandIn, client: KurrentDBClient) -> None:
    stream = new_stream()
    client.append_to_stream(stream, current_version=ANY, events=events(3))
    uri = f"kurrentdb+discover://127.0.0.1:{shared.port}?tls=false"
    assert numbers(reading.caught_up(reading.subscribe(uri, OneStream(stream)))) == [0, 1, 2]


@pytest.mark.long
def test_long_backpressure_loses_nothing(
    reading: Readers, start: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute of it, where the database hangs up after 22 s, at a twentieth of the pace."""
    monkeypatch.setattr(libcurl, "LONGEST_REST_S", 0.25)
    hold_back(reading, start("--keep-alive-interval", "0.5", "--keep-alive-timeout", "0.5"), seconds=3.0)


@pytest.mark.long
def test_a_minute_of_backpressure_loses_nothing(reading: Readers, alone: StandIn) -> None:
    hold_back(reading, alone, seconds=60.0)


def hold_back(reading: Readers, server: StandIn, seconds: float) -> None:
    total, part = 12_000, 500
    with KurrentDBClient(server.uri) as client:
        for first in range(0, total, part):
            bodies = [b'{"n":%d,"pad":"%s"}' % (number, b"x" * 1400) for number in range(first, first + part)]
            proposed = [NewEvent(type="T", data=body) for body in bodies]
            client.append_to_stream("a-1", current_version=ANY, events=proposed)
    subscription = reading.subscribe(server.uri)
    items = reading.until(subscription, lambda items: len(records(items)) >= 500)
    rested_until = time.monotonic() + seconds
    while time.monotonic() < rested_until:
        subscription.rest()
        reading.bell.clear()
        reading.bell.wait(0.05)
    ends: list[SinkworkerError] = []
    while len(records(items)) < total:
        try:
            items += reading.until(subscription, lambda new: bool(records(new)))
        except Unavailable as exc:
            ends.append(exc)
            subscription = reading.subscribe(server.uri, after=records(items)[-1].cursor)
    assert numbers(items) == list(range(total))
    assert len(ends) == (1 if reading.reader is Reader.LIBCURL else 0), ends
    assert all(isinstance(end, LetGo) for end in ends)


def test_what_was_read_is_handed_over_before_the_end(reading: Readers, alone: StandIn) -> None:
    with KurrentDBClient(alone.uri) as client:
        client.append_to_stream("a-1", current_version=ANY, events=events(1000))
    subscription = reading.subscribe(alone.uri)
    items = list(reading.until(subscription, lambda items: bool(items)))
    alone.kill()
    ends: list[SinkworkerError] = []
    while not ends:
        try:
            items += subscription.read(7)
            subscription.wait(0.05)
        except Unavailable as exc:
            ends.append(exc)
    assert numbers(items) == list(range(len(records(items))))


def test_the_bell_ends_a_wait(reading: Readers, shared: StandIn) -> None:
    subscription = reading.subscribe(shared.uri, OneStream(new_stream()))
    reading.caught_up(subscription)
    reading.bell.clear()
    reading.bell.set()
    began = time.monotonic()
    subscription.wait(PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S / 2
