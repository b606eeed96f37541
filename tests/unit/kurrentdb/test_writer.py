"""The writer by itself: what it remembers is what the file has, whatever happens."""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinkworker.local.kurrentdb.appends import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AppendRequest,
    DeleteRequest,
    Request,
    StreamGone,
    TombstoneRequest,
    Written,
    WrongVersion,
)
from sinkworker.local.kurrentdb.records import ProposedEvent
from sinkworker.local.kurrentdb.schema import open_data_file
from sinkworker.local.kurrentdb.writer import LOG_START, Writer


@contextmanager
def writing(path: Path, committed: Callable[[int], None] = lambda _: None) -> Iterator[Writer]:
    """A writer over a file that is made if it is missing."""
    lock = open_data_file(path)
    writer = Writer(path, committed)
    writer.start()
    yield writer
    writer.close()
    lock.release()


def event(data: bytes = b"{}") -> ProposedEvent:
    return ProposedEvent(uuid.uuid4().bytes, "Tested", "application/json", data)


def append(stream: str, *events: ProposedEvent, expected: int = ANY) -> AppendRequest:
    return AppendRequest(stream, expected, events)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a data file may go."""
    return tmp_path / "events.db"


def test_an_empty_log_begins_where_a_real_one_has_its_first_event(path: Path) -> None:
    with writing(path) as writer:
        assert writer.submit(append("a", event())).result() == Written(0, LOG_START)


def test_readers_hear_of_a_commit_before_its_writer_does(path: Path) -> None:
    heard: list[int] = []
    with writing(path, heard.append) as writer:
        future = writer.submit(append("a", event()))
        future.add_done_callback(lambda _: heard.append(-1))
        future.result()
        writer.submit(append("a", event(), expected=7)).result()
        assert heard == [writer.end, -1]


def test_what_could_not_be_written_leaves_nothing_behind(path: Path) -> None:
    with writing(path) as writer:
        first = writer.submit(append("a", event())).result()
        writer._db.execute("PRAGMA max_page_count = 20")
        end, failed = writer.end, [event(b"x" * 100_000)]
        with pytest.raises(sqlite3.OperationalError, match="full"):
            writer.submit(append("a", *failed)).result()
        assert writer.end == end
        writer._db.execute("PRAGMA max_page_count = 1000000")
        assert isinstance(first, Written)
        assert writer.submit(append("a", *failed, expected=0)).result() == Written(1, end)


def test_what_nobody_waits_for_any_more_does_no_harm(path: Path) -> None:
    with writing(path) as writer:
        futures = [writer.submit(append("a", event())) for _ in range(200)]
        for future in futures[::2]:
            future.cancel()
        done = [future.result() for future in futures if not future.cancelled()]
        assert [outcome.revision for outcome in done if isinstance(outcome, Written)] == list(range(len(done)))


streams = st.sampled_from(["a", "b"])
versions = st.sampled_from([ANY, STREAM_EXISTS, NO_STREAM, 0, 1, 2, 3])
requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(
        lambda stream, expected, count: append(stream, *(event() for _ in range(count)), expected=expected),
        streams,
        versions,
        st.integers(0, 3),
    ),
    st.builds(DeleteRequest, streams, versions),
    st.builds(TombstoneRequest, st.just("b"), versions),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(requests, max_size=6), max_size=4))
def test_a_reopened_log_answers_as_the_one_that_stayed_open(rounds: list[list[Request]]) -> None:
    """Everything is asked of two writers; one of them forgets all it knows after each round."""
    with tempfile.TemporaryDirectory() as directory, writing(Path(directory) / "stays.db") as stays:
        for round_ in rounds:
            with writing(Path(directory) / "reopened.db") as reopened:
                for request in round_:
                    first, second = stays.submit(request), reopened.submit(request)
                    assert plain(first) == plain(second)


def plain(future: Future[Written | WrongVersion | StreamGone]) -> tuple[str, int]:
    """An outcome without its position: an empty append takes a position, which is remembered only while it runs."""
    outcome = future.result()
    match outcome:
        case Written(revision=revision):
            return "written", revision
        case WrongVersion(actual=actual):
            return "wrong version", actual
        case StreamGone():
            return "gone", 0


@settings(max_examples=40, deadline=None)
@given(st.lists(requests, max_size=12))
def test_positions_rise_and_revisions_have_no_gap(sequence: list[Request]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "events.db"
        with writing(path) as writer:
            for request in sequence:
                before = writer.end
                outcome = writer.submit(request).result()
                if isinstance(outcome, Written) and writer.end > before:
                    assert before <= outcome.position < writer.end
        rows = sqlite3.connect(path).execute("SELECT stream, revision FROM events ORDER BY position").fetchall()
    for stream in {stream for stream, _ in rows}:
        revisions = [revision for other, revision in rows if other == stream and revision != 2**63 - 1]
        assert revisions == list(range(len(revisions)))
