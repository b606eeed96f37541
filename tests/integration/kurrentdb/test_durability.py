"""What was acknowledged survives, however the server ends."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import KurrentDBClientError

from tests.integration.kurrentdb.events import events
from tests.integration.kurrentdb.standin import StandIn

ANY = StreamState.ANY


@pytest.mark.parametrize("round_", range(3))
def test_a_killed_server_keeps_every_acknowledged_append_whole(start: Callable[..., StandIn], round_: int) -> None:
    server = start()
    acknowledged: list[tuple[str, int, int]] = []
    enough = threading.Event()

    def append(writer: int) -> None:
        with KurrentDBClient(server.uri) as client:
            for number in itertools.count():
                try:
                    position = client.append_to_stream(f"w-{writer}", current_version=ANY, events=events(7), timeout=5)
                except KurrentDBClientError:
                    return
                acknowledged.append((f"w-{writer}", number, position))
                if len(acknowledged) >= 30 * (round_ + 1):
                    enough.set()

    writers = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    assert enough.wait(30)
    server.kill()
    for writer in writers:
        writer.join()

    server.start()
    with KurrentDBClient(server.uri) as client:
        log = list(client.read_all())
        ends = {(e.stream_name, e.stream_position): e.commit_position for e in log}
        for stream, number, position in acknowledged:
            assert ends[stream, 7 * number + 6] == position
        for stream in {e.stream_name for e in log}:
            revisions = [e.stream_position for e in log if e.stream_name == stream]
            assert revisions == list(range(len(revisions)))
            assert len(revisions) % 7 == 0, "an append was kept in part"
        later = client.append_to_stream("w-0", current_version=ANY, events=events(1))
        assert later > log[-1].commit_position


def test_a_restart_changes_nothing(start: Callable[..., StandIn]) -> None:
    server = start()
    repeated = events(3)
    with KurrentDBClient(server.uri) as client:
        first = client.append_to_stream("a-1", current_version=ANY, events=repeated)
        client.append_to_stream("a-2", current_version=ANY, events=events(3))
        client.delete_stream("a-2", current_version=ANY)
        client.set_stream_metadata("a-1", metadata={"$maxCount": 2})
        before = list(client.read_all(filter_exclude=[]))
    assert server.stop(signal.SIGTERM)[0] == 0
    server.start()
    with KurrentDBClient(server.uri) as client:
        assert list(client.read_all(filter_exclude=[])) == before
        assert [e.stream_position for e in client.get_stream("a-1")] == [1, 2]
        assert client.get_current_version("a-2") is StreamState.NO_STREAM
        assert client.append_to_stream("a-1", current_version=ANY, events=repeated) == first
        client.append_to_stream("a-2", current_version=StreamState.NO_STREAM, events=events(1))
        assert client.get_current_version("a-2") == 3
