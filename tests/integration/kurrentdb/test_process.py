"""The stand-in as a command: its options, its complaints, its exit codes."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import KurrentDBClientError, ServiceUnavailableError

from tests.integration.kurrentdb.events import event, events
from tests.integration.kurrentdb.standin import StandIn
from tests.processes import eventually


def run(*options: str) -> tuple[int, str]:
    """Exit code and standard error of a start that is expected to fail."""
    command = [sys.executable, "-m", "sinkworker.local.kurrentdb", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "0"], "--data"),
        (["--data", "x.db"], "--port"),
        (["--data", "x.db", "--port", "99999"], "'99999' is no port"),
        (["--data", "x.db", "--port", "0", "--keep-alive-timeout", "0"], "'0' is no time"),
        (["--data", "x.db", "--port", "0", "--user", "admin"], "NAME:PASSWORD"),
        (["--data", "x.db", "--port", "0", "--tls-cert", "c.pem"], "belong together"),
    ],
)
def test_wrong_options_exit_2(options: list[str], said: str) -> None:
    code, error = run(*options)
    assert code == 2
    assert said in error


def foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")


def newer_version(path: Path) -> None:
    from sinkworker.local.kurrentdb.schema import open_data_file

    open_data_file(path).release()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b"no database" * 500), "damaged or no data file"),
        (foreign_database, "of another program"),
        (newer_version, "another version"),
    ],
)
def test_an_unusable_data_file_exits_3(tmp_path: Path, prepare: Callable[[Path], object], said: str) -> None:
    prepare(tmp_path / "events.db")
    code, error = run("--data", str(tmp_path / "events.db"), "--port", "0")
    assert code == 3
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("harm", ["cut off", "overwritten"])
def test_a_damaged_data_file_is_never_a_traceback(start: Callable[..., StandIn], harm: str, part: float) -> None:
    server = start()
    with KurrentDBClient(server.uri) as client:
        for number in range(5):
            client.append_to_stream(f"a-{number}", current_version=StreamState.ANY, events=events(500))
    server.stop()
    place = int(server.data.stat().st_size * part)
    with server.data.open("r+b") as file:
        if harm == "cut off":
            file.truncate(place)
        else:
            file.seek(place)
            file.write(b"\xa5" * 20_000)
    try:
        server.start()
    except AssertionError as exc:
        # Found at once.
        said = str(exc)
        assert "choose another --data" in said
    else:
        # Found by whoever reads there, if anyone does.
        with KurrentDBClient(server.uri) as client, contextlib.suppress(KurrentDBClientError):
            list(client.read_all())
            client.append_to_stream("a-1", current_version=StreamState.ANY, events=events(500))
        code, said = server.stop()
        assert code == 0
    assert "Traceback" not in said


def test_a_missing_directory_exits_3(tmp_path: Path) -> None:
    code, error = run("--data", str(tmp_path / "missing" / "events.db"), "--port", "0")
    assert (code, "does not exist" in error) == (3, True)


def test_a_port_in_use_exits_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, error = run("--data", str(tmp_path / "events.db"), "--port", str(taken.getsockname()[1]))
    assert (code, "is in use" in error) == (3, True)


def test_a_data_file_has_one_server(start: Callable[..., StandIn]) -> None:
    code, error = run("--data", str(start().data), "--port", "0")
    assert (code, "in use by another server" in error) == (3, True)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_subscriptions_with_a_reason_and_exits_0_at_once(
    start: Callable[..., StandIn], signum: int
) -> None:
    server = start()
    with KurrentDBClient(server.uri) as client:
        client.append_to_stream("a-1", current_version=StreamState.ANY, events=event())
        subscription = client.subscribe_to_all(include_caught_up=True)
        next(subscription), next(subscription)
        begun = time.monotonic()
        code, said = server.stop(signum)
        assert time.monotonic() - begun < 2
        assert code == 0
        assert "Traceback" not in said
        with pytest.raises(ServiceUnavailableError, match="Server Is Shutting Down"):
            next(subscription)


def test_a_client_comes_back_after_a_restart(start: Callable[..., StandIn]) -> None:
    server = start()
    with KurrentDBClient(server.uri) as client:
        client.append_to_stream("a-1", current_version=StreamState.ANY, events=event())
        server.kill()
        with pytest.raises(KurrentDBClientError):
            client.get_stream("a-1", timeout=5)
        server.start()
        eventually(lambda: _answers(client))  # gRPC tries to connect again only now and then
        assert len(client.get_stream("a-1", timeout=5)) == 1


def _answers(client: KurrentDBClient) -> bool:
    try:
        client.get_commit_position(timeout=5)
    except KurrentDBClientError:
        return False
    return True


def unary_append(client: KurrentDBClient) -> None:
    client.append_to_stream("a-1", current_version=StreamState.ANY, events=event())


def batch_append(client: KurrentDBClient) -> None:
    client.append_to_stream("a-2", current_version=StreamState.ANY, events=[event()])


def read(client: KurrentDBClient) -> None:
    client.get_stream("a-1", limit=1)


def subscribe(client: KurrentDBClient) -> None:
    with client.subscribe_to_all(from_end=True) as subscription:
        next(subscription)


class Caller:
    """Makes one kind of call over and over, in a thread of its own; none has a deadline."""

    def __init__(self, uri: str, call: Callable[[KurrentDBClient], None]) -> None:
        self.done = 0
        self._uri = uri
        self._call = call
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=call.__name__, daemon=True)
        self._thread.start()

    def ends(self) -> bool:
        """Whether the call that is being made, the last one, comes to an end."""
        self._over.set()
        self._thread.join(10)
        return not self._thread.is_alive()

    def _run(self) -> None:
        client: KurrentDBClient | None = None
        while not self._over.is_set():
            try:
                client = client or KurrentDBClient(self._uri)
                self._call(client)
                self.done += 1
            except KurrentDBClientError:
                client = None


@pytest.mark.long
def test_a_stop_leaves_no_call_without_an_end(start: Callable[..., StandIn]) -> None:
    server = start()
    with KurrentDBClient(server.uri) as client:
        unary_append(client)
    callers = [Caller(server.uri, call) for call in (unary_append, batch_append, read, subscribe) for _ in range(2)]
    for _ in range(5):
        before = [caller.done for caller in callers]
        eventually(lambda before=before: all(c.done > n for c, n in zip(callers, before, strict=True)))  # type: ignore[misc]
        assert server.stop()[0] == 0
        server.start()
    assert server.stop()[0] == 0
    assert all(caller.ends() for caller in callers)


def test_discovery_finds_the_one_leader(start: Callable[..., StandIn]) -> None:
    server = start()
    with KurrentDBClient(f"kurrentdb+discover://127.0.0.1:{server.port}?tls=false") as client:
        client.append_to_stream("a-1", current_version=StreamState.ANY, events=event())
    with KurrentDBClient(f"kurrentdb://127.0.0.1:1,127.0.0.1:{server.port}?tls=false") as client:
        (member,) = client.read_gossip()
        assert (member.state, member.address, member.port) == ("NODE_STATE_LEADER", "127.0.0.1", server.port)
        assert len(client.get_stream("a-1")) == 1
