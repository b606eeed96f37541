"""What a subscription's messages say."""

from __future__ import annotations

import pytest
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.errors import Fatal
from sinkworker.model import Cursor, Passed, Position, Record, Revision
from sinkworker.source.events import items

ReadResp = streams_pb2.ReadResp


def response() -> streams_pb2.ReadResp:
    message = ReadResp()
    message.event.commit_position = 900
    recorded = message.event.event
    recorded.id.string = "5c3bd6ca-7e3a-4b54-8d5f-6a0e5a3f7c11"
    recorded.stream_identifier.stream_name = "ø-1".encode()
    recorded.stream_revision = 4
    recorded.commit_position, recorded.prepare_position = 900, 899
    recorded.metadata["type"] = "Tested"
    recorded.custom_metadata, recorded.data = b"\xff", b"data"
    return message


def test_an_event_is_a_record_that_keeps_the_bytes() -> None:
    raw = response().SerializeToString()
    place = Position(900), Position(899), Revision(4), "5c3bd6ca-7e3a-4b54-8d5f-6a0e5a3f7c11"
    assert items([raw]) == [Record(*place, "ø-1", "Tested", b"\xff", raw)]


def test_marks_say_how_far_the_database_is() -> None:
    checkpoint = ReadResp(checkpoint=ReadResp.Checkpoint(commit_position=70))
    caught_up = ReadResp(caught_up=ReadResp.CaughtUp())
    messages = [checkpoint.SerializeToString(), caught_up.SerializeToString()]
    assert items(messages) == [Passed(Cursor(Position(70), Position(0))), Passed(None, caught_up=True)]


def test_what_a_newer_server_adds_is_passed_over() -> None:
    fell_behind = ReadResp(fell_behind=ReadResp.FellBehind()).SerializeToString()
    unknown = b"\xf2\x7e\x02hi"  # a field that no release of today has
    assert items([fell_behind, unknown]) == []


@pytest.mark.parametrize("spoil", ["no id", "stream", "bytes"])
def test_what_cannot_be_read_is_refused(spoil: str) -> None:
    message = response()
    if spoil == "no id":
        message.event.event.id.string = ""
    elif spoil == "stream":
        message.event.event.stream_identifier.stream_name = b"\xff"
    raw = message.SerializeToString()
    with pytest.raises(Fatal, match="cannot be read"):
        items([raw[:-3] if spoil == "bytes" else raw])
