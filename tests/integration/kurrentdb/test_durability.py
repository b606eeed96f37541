"""What was acknowledged survives, however the server ends."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable

import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import KurrentDBClientError

from tests.integration.kurrentdb.events import event, events
from tests.integration.kurrentdb.standin import StandIn

ANY = StreamState.ANY


@pytest.mark.parametrize("round_", range(3))
def test_a_killed_server_keeps_every_acknowledged_append_whole(start: Callable[..., StandIn], round_: int) -> None:
    server = start()
    acknowledged: list[tuple[str, int, int]] = []
    unanswered: dict[str, list[NewEvent]] = {}
    enough = threading.Event()

    def append(writer: int) -> None:
        with KurrentDBClient(server.uri) as client:
            for number in itertools.count():
                batch = events(7)
                try:
                    position = client.append_to_stream(f"w-{writer}", current_version=ANY, events=batch, timeout=5)
                except KurrentDBClientError:
                    unanswered[f"w-{writer}"] = batch
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
        # Who got no answer sends the same again, whether or not it had been written.
        for stream, batch in unanswered.items():
            client.append_to_stream(stream, current_version=ANY, events=batch)
            assert [e.id for e in client.get_stream(stream)][-7:] == [e.id for e in batch]
            assert len({e.id for e in client.get_stream(stream)}) == len(client.get_stream(stream))
        later = client.append_to_stream("w-0", current_version=ANY, events=events(1))
        assert later > log[-1].commit_position


@pytest.mark.parametrize("torn", [24, 4200])
def test_the_torn_end_of_the_file_is_no_part_of_the_log(start: Callable[..., StandIn], torn: int) -> None:
    server = start()
    with KurrentDBClient(server.uri) as client:
        client.append_to_stream("a-1", current_version=ANY, events=events(9))
    server.kill()
    wal = server.data.with_name(server.data.name + "-wal")
    with wal.open("r+b") as file:
        end = file.read()[-5000:]
        file.write(end[:torn])
    for count in (10, 11):
        server.start()
        with KurrentDBClient(server.uri) as client:
            client.append_to_stream("a-1", current_version=count - 2, events=event())
            assert [e.stream_position for e in client.read_all()] == list(range(count))
        server.kill()


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
