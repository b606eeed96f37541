"""Cursors: their order, and the text that Redis sorts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinkworker.model import Cursor, Layout, Position, Revision

POSITIONS = st.integers(0, 2**64 - 1)
CURSORS = st.builds(
    Cursor,
    POSITIONS.map(Position),
    POSITIONS.map(Position),
    st.one_of(st.none(), st.integers(0, 2**63 - 1).map(Revision)),
    st.uuids().map(str),
)


@given(CURSORS)
def test_a_cursor_comes_back_from_its_text(cursor: Cursor) -> None:
    back = Cursor.decode(cursor.encode())
    assert (back, back.revision, back.record_id) == (cursor, cursor.revision, cursor.record_id)


@given(CURSORS, CURSORS)
def test_the_first_41_characters_sort_as_the_cursors_do(one: Cursor, other: Cursor) -> None:
    assert (one.encode()[:41] < other.encode()[:41]) == (one < other)
    assert (one.encode()[:41] == other.encode()[:41]) == (one == other)


@given(CURSORS)
def test_the_beginning_is_before_every_position(cursor: Cursor) -> None:
    assert cursor > Cursor.BEGINNING
    assert Cursor.BEGINNING.encode() < cursor.encode()
    assert Cursor.decode(Cursor.BEGINNING.encode()) == Cursor.BEGINNING


def test_events_of_one_transaction_are_told_apart_by_their_prepare_position() -> None:
    one, other = Cursor(Position(9), Position(3)), Cursor(Position(9), Position(4))
    assert one < other


@given(st.integers(1, 10_000), st.integers(1, 64), st.text("abc-/ 0"))
def test_a_layout_comes_back_from_its_text(partitions: int, lanes: int, keys: str) -> None:
    assert Layout.decode(Layout(partitions, lanes, keys).encode()) == Layout(partitions, lanes, keys)
