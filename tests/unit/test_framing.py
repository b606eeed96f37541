"""gRPC messages out of bytes that were cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinkworker.errors import Fatal
from sinkworker.source.framing import MAX_MESSAGE_BYTES, Splitter, frame

MESSAGES = [b"", b"a", b"bc" * 150, b"", b"d" * 70]


def taken(pieces: list[bytes], limit: int = 100) -> list[bytes]:
    splitter = Splitter()
    messages: list[bytes] = []
    for piece in pieces:
        splitter.feed(piece)
        while new := splitter.take(limit):
            messages += new
    assert splitter.waiting == 0
    return messages


def test_a_stream_may_be_cut_at_every_byte() -> None:
    stream = b"".join(map(frame, MESSAGES))
    for cut in range(len(stream) + 1):
        assert taken([stream[:cut], stream[cut:]]) == MESSAGES
    assert taken([stream[place : place + 1] for place in range(len(stream))]) == MESSAGES


@given(st.lists(st.binary(max_size=300), max_size=12), st.lists(st.integers(0, 4000), max_size=8), st.integers(1, 5))
def test_every_message_comes_once_and_whole(messages: list[bytes], cuts: list[int], limit: int) -> None:
    stream = b"".join(map(frame, messages))
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert taken([stream[begin:end] for begin, end in itertools.pairwise(places)], limit) == messages


def test_what_is_left_waits() -> None:
    splitter = Splitter()
    splitter.feed(frame(b"one") + frame(b"two")[:6])
    assert (splitter.take(9), splitter.take(9), splitter.waiting) == ([b"one"], [], 6)


@pytest.mark.parametrize("prefix", [b"\1\0\0\0\2", b"HTTP/", b"\0" + (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big")])
def test_what_is_no_message_is_refused_before_it_is_collected(prefix: bytes) -> None:
    splitter = Splitter()
    splitter.feed(frame(b"fine") + prefix)
    with pytest.raises(Fatal, match="no stream of uncompressed gRPC messages"):
        splitter.take(9)
