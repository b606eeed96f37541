"""Framing, assembling and packing of gRPC messages."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinkworker.local.kurrentdb.wire import (
    MAX_REQUEST_BYTES,
    PACK_BYTES,
    Assembler,
    CompressedMessage,
    MessageTooLarge,
    frame,
    pack,
    unframe,
)

CATCHUP = Path(__file__).parents[2] / "golden" / "wire" / "catchup.jsonl"

payloads = st.lists(st.binary(max_size=300), max_size=20)


@given(payloads, st.lists(st.integers(0, 5000)))
def test_messages_come_out_whole_however_the_bytes_are_cut(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, sent))
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    assembler = Assembler()
    received = []
    for start, end in itertools.pairwise(places):
        received += assembler.feed(stream[start:end])
    assert received == sent


def test_a_message_comes_out_with_its_last_byte() -> None:
    assembler = Assembler()
    framed = frame(b"abc")
    assert [assembler.feed(bytes([byte])) for byte in framed] == [[]] * (len(framed) - 1) + [[b"abc"]]


def test_an_announced_length_beyond_the_limit_is_refused_before_the_bytes_come() -> None:
    with pytest.raises(MessageTooLarge):
        Assembler().feed(b"\x00" + (MAX_REQUEST_BYTES + 1).to_bytes(4, "big"))


def test_a_compressed_message_is_refused() -> None:
    with pytest.raises(CompressedMessage):
        Assembler().feed(b"\x01\x00\x00\x00\x00")


@given(st.lists(st.binary(min_size=1, max_size=6000), max_size=30))
def test_packing_keeps_every_byte_and_ends_a_piece_with_the_message_that_fills_it(sent: list[bytes]) -> None:
    pieces = list(pack(sent))
    assert b"".join(pieces) == b"".join(sent)
    assert all(len(piece) >= PACK_BYTES for piece in pieces[:-1])
    ends = {sum(map(len, sent[:count])) for count in range(len(sent) + 1)}
    assert {sum(map(len, pieces[:count])) for count in range(len(pieces) + 1)} <= ends


@given(st.binary())
def test_a_frame_can_be_undone(payload: bytes) -> None:
    assert unframe(frame(payload)) == payload


def test_messages_are_packed_as_recorded() -> None:
    with CATCHUP.open() as file:
        recorded = [frame for frame in map(json.loads, file) if frame.get("type") == "DATA"]
    confirmation, *frames = [frame for frame in recorded if frame["dir"] == "server"]
    assert confirmation["starts"] == 1
    # A frame that is not full ends what the server had at hand.
    full = [frame["length"] >= PACK_BYTES for frame in frames]
    ends = [at for at, is_full in enumerate(full, 1) if not is_full] + [len(frames)]
    for run in (frames[start:end] for start, end in itertools.pairwise([0, *ends])):
        sizes = [
            end - start
            for frame in run
            for start, end in itertools.pairwise([*frame["messages_start_at"], frame["length"]])
        ]
        assert [len(piece) for piece in pack(map(bytes, sizes))] == [frame["length"] for frame in run]
