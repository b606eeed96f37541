"""The libcurl reader against frames: those recorded from a real server, cut ones, and those of servers in trouble."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.bell import SocketBell
from sinkworker.config import Secret
from sinkworker.database import Database, NoBoundary
from sinkworker.errors import Fatal, KurrentDBUnavailable, Misconfigured, SinkworkerError
from sinkworker.model import Cursor, Record
from sinkworker.source import libcurl
from sinkworker.source.filters import WITHOUT_SYSTEM_EVENTS
from sinkworker.source.framing import frame
from sinkworker.source.libcurl import LibcurlSubscription
from tests.integration.kurrentdb.wirescript import (
    OK_HEADERS,
    Data,
    Goaway,
    Headers,
    Ping,
    Reset,
    ScriptedServer,
    Step,
    confirmation,
    numbered,
    recorded,
)

PATIENCE_S = 15.0
CONFIRMED = [OK_HEADERS, Data(frame(confirmation()))]

Play = Callable[..., tuple[list[int], SinkworkerError | None]]


@pytest.fixture
def servers() -> Iterator[list[ScriptedServer]]:
    started: list[ScriptedServer] = []
    yield started
    for server in started:
        server.close()


@pytest.fixture
def play(servers: list[ScriptedServer]) -> Iterator[Play]:
    """Reads what a script sends, to its end or until `enough` came: the numbers of the events, and the end."""
    subscriptions: list[LibcurlSubscription] = []

    def play(
        *calls: Sequence[Step], enough: int | None = None, stays: bool = False
    ) -> tuple[list[int], SinkworkerError | None]:
        servers.append(ScriptedServer(calls, stays))
        database = Database(Secret(f"kurrentdb://127.0.0.1:{servers[-1].port}?tls=false"))
        numbers: list[int] = []
        try:
            subscription = LibcurlSubscription(database, WITHOUT_SYSTEM_EVENTS, Cursor.BEGINNING, SocketBell())
            subscriptions.append(subscription)
            deadline = time.monotonic() + PATIENCE_S
            while enough is None or len(numbers) < enough:
                assert time.monotonic() < deadline
                items = subscription.read(50)
                numbers += [each.cursor.commit - 1_000_000 for each in items if isinstance(each, Record)]
                if not items:
                    subscription.wait(0.2)
        except SinkworkerError as exc:
            return numbers, exc
        return numbers, None

    yield play
    for subscription in subscriptions:
        subscription.close()


@pytest.mark.parametrize("name", ["catchup", "idle", "no-window", "graceful-stop", "no-ping-ack"])
def test_recorded_frames_are_read_whole_and_once(play: Play, servers: list[ScriptedServer], name: str) -> None:
    steps, events = recorded(name)
    assert events >= 40
    numbers, end = play(steps)
    assert numbers == list(range(events))
    assert isinstance(end, KurrentDBUnavailable)
    if name == "graceful-stop":
        assert "Server Is Shutting Down" in str(end)
    assert servers[0].failure is None


def test_the_request_is_what_the_client_sends(play: Play, servers: list[ScriptedServer]) -> None:
    play([*CONFIRMED, Headers([("grpc-status", "0")], end=True)])
    sent = servers[0].request_headers
    assert (sent[":method"], sent[":path"]) == ("POST", "/event_store.client.streams.Streams/Read")
    assert (sent["content-type"], sent["te"], sent["requires-leader"]) == ("application/grpc", "trailers", "true")
    assert sent["connection-name"]
    assert "authorization" not in sent
    request = streams_pb2.ReadReq.FromString(servers[0].request[5:])
    assert request.options.filter.event_type.regex == WITHOUT_SYSTEM_EVENTS.pattern
    assert request.options.HasField("subscription")


def test_messages_may_be_cut_at_every_byte(play: Play) -> None:
    stream = b"".join(frame(numbered(number)) for number in range(3))
    steps = [*CONFIRMED, *(Data(stream[at : at + 1]) for at in range(len(stream)))]
    assert play(steps, enough=3, stays=True) == ([0, 1, 2], None)


@pytest.mark.parametrize("cut", range(1, 140, 17))
def test_a_message_that_the_connection_cuts_off_is_none(play: Play, cut: int) -> None:
    stream = frame(numbered(0)) + frame(numbered(1, 150))[:cut]
    numbers, end = play([*CONFIRMED, Data(stream)])
    assert numbers == [0]
    assert isinstance(end, KurrentDBUnavailable)


def status(code: int, message: str = "", *trailers: tuple[str, str]) -> Headers:
    """The trailers of a call."""
    return Headers([("grpc-status", str(code)), ("grpc-message", message), *trailers], end=True)


STOPPING = status(14, "Server Is Shutting Down", ("exception", "server-shutting-down"))
ELSEWHERE = (("leader-endpoint-host", "other"), ("leader-endpoint-port", "2113"))
GONE = status(9, "Event stream 's' is deleted.", ("exception", "stream-deleted"))

TROUBLE: dict[str, tuple[list[Step], type[SinkworkerError], str]] = {
    "goaway": ([Goaway(1, 0)], KurrentDBUnavailable, "lost"),
    "goaway of a lost ping": ([Ping(), Goaway(1, 2)], KurrentDBUnavailable, "lost"),
    "reset": ([Reset(2)], KurrentDBUnavailable, "lost"),
    "end": ([status(0)], KurrentDBUnavailable, "ended the subscription"),
    "no boundary": ([status(3, "Trying to read from an invalid position.")], NoBoundary, "no record boundary"),
    "stopping": ([STOPPING, Goaway(1, 0)], KurrentDBUnavailable, "Shutting Down"),
    "not the leader": ([status(5, "Leader info available", *ELSEWHERE)], KurrentDBUnavailable, "does not lead"),
    "tombstone": ([GONE], Misconfigured, "tombstoned"),
    "no message": ([Data(b"HTTP/1.1 200 OK\r\n\r\n")], Fatal, "no stream of uncompressed gRPC messages"),
    "no event": ([Data(frame(b"\xff\xff\xff"))], Fatal, "cannot be read"),
}


@pytest.mark.parametrize(("steps", "kind", "words"), TROUBLE.values(), ids=TROUBLE)
def test_trouble_is_told_after_what_came_before_it(
    play: Play, steps: list[Step], kind: type[SinkworkerError], words: str
) -> None:
    numbers, end = play([*CONFIRMED, Data(frame(numbered(0)) + frame(numbered(1))), *steps])
    assert numbers == [0, 1] or kind is Fatal
    assert type(end) is kind, end
    assert words in str(end)


STARTED = (":status", "200")
WRONG = [("grpc-status", "16"), ("grpc-message", "Unauthenticated")]
DENIED = [("grpc-status", "7"), ("grpc-message", "Access Denied"), ("exception", "access-denied")]

REFUSALS: dict[str, tuple[list[tuple[str, str]], type[SinkworkerError], str]] = {
    "wrong password": ([STARTED, *WRONG], Misconfigured, "refused the credentials"),
    "denied": ([STARTED, *DENIED], Misconfigured, "access denied"),
    "a proxy's refusal": ([(":status", "403"), ("content-type", "text/html")], Misconfigured, "access denied"),
    "a proxy without a server": ([(":status", "502")], KurrentDBUnavailable, "HTTP status 502"),
    "a web server": ([STARTED, ("content-type", "text/html")], KurrentDBUnavailable, "HTTP status 200"),
}


@pytest.mark.parametrize(("fields", "kind", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_told_at_once(
    play: Play, fields: list[tuple[str, str]], kind: type[SinkworkerError], words: str
) -> None:
    numbers, end = play([Headers(fields, end=True)])
    assert numbers == []
    assert type(end) is kind, end
    assert words in str(end)


def test_a_call_that_is_refused_in_its_middle_is_not_begun_again(play: Play) -> None:
    """libcurl may make a call again that the server calls unprocessed, but only before anything came of it."""
    refused = [*CONFIRMED, Data(frame(numbered(0)) + frame(numbered(1, 150))[:50]), Reset(7)]
    again = [*CONFIRMED, Data(frame(numbered(0)) + frame(numbered(1)))]
    numbers, end = play(refused, again)
    assert numbers == [0]
    assert isinstance(end, KurrentDBUnavailable)


def test_a_server_that_never_confirms_is_not_waited_for(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcurl, "CONFIRMATION_TIMEOUT_S", 0.3)
    numbers, end = play([OK_HEADERS], stays=True)
    assert numbers == []
    assert isinstance(end, KurrentDBUnavailable)
    assert "did not confirm" in str(end)


def test_another_message_is_no_confirmation(play: Play) -> None:
    numbers, end = play([OK_HEADERS, Data(frame(numbered(0)))], stays=True)
    assert numbers == []
    assert isinstance(end, Fatal)
