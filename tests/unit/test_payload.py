"""The bytes of a batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinkworker.errors import OtherRelease
from sinkworker.ledger.payload import pack, unpack


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_events_come_out_as_they_went_in(events: list[bytes]) -> None:
    assert [bytes(event) for event in unpack(pack(events))] == events


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.data())
def test_a_cut_payload_is_refused(events: list[bytes], data: st.DataObject) -> None:
    whole = pack(events)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match="cut short"):
        list(unpack(whole[:cut]))


def test_a_payload_of_another_release_is_refused() -> None:
    with pytest.raises(OtherRelease, match="has version 9"):
        list(unpack(b"\x09" + pack([b"x"])[1:]))
