"""The encoding of recorded events."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from sinkworker.local.kurrentdb.records import (
    ProposedEvent,
    decode,
    encode,
    link_target,
    record_bytes,
    resolved,
    structured_uuid,
    uuid_bytes,
    uuid_text,
    with_structured_ids,
)
from sinkworker.local.kurrentdb.wire import unframe


@given(st.uuids())
def test_ids_keep_their_value_in_both_forms(value: uuid.UUID) -> None:
    assert uuid_text(value.bytes) == str(value)
    assert uuid_bytes(shared_pb2.UUID(string=str(value))) == value.bytes
    assert uuid_bytes(structured_uuid(value)) == value.bytes


@pytest.mark.parametrize("text", ["", "nonsense", "0" * 31, "0" * 34, "0 " * 16, " " * 2 + "0" * 32])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no UUID|fromhex"):
        uuid_bytes(shared_pb2.UUID(string=text))


@given(st.binary(min_size=16, max_size=16), st.text(min_size=1), st.binary(), st.binary())
def test_an_event_is_encoded_with_all_it_has(event_id: bytes, name: str, data: bytes, metadata: bytes) -> None:
    event = ProposedEvent(event_id, name, "application/json", data, metadata)
    recorded = decode(encode(event, b"stream", 7, 1234, 42))
    assert (recorded.id.string, recorded.data, recorded.custom_metadata) == (uuid_text(event_id), data, metadata)
    assert (recorded.stream_identifier.stream_name, recorded.stream_revision) == (b"stream", 7)
    assert (recorded.commit_position, recorded.prepare_position) == (1234, 1234)
    assert dict(recorded.metadata) == {"type": name, "created": "42", "content-type": "application/json"}


def test_the_log_grows_as_the_recorded_one_did() -> None:
    metadata = b'{"tenant":"t1","$correlationId":"c1"}'
    assert record_bytes("g-order-1", "OrderPlaced", b'{"n": 0}', metadata) == 10290 - 10135
    assert record_bytes("g-pos-0", "P", b'{"n": 300}', metadata) == 945708 - 945563
    assert record_bytes("g-empty") == 18482 - 18385


@pytest.mark.parametrize(
    ("data", "target"),
    [
        (b"0@a-1", (0, "a-1")),
        (b"12@user@example", (12, "user@example")),
        (b"a-1", None),
        (b"x@a-1", None),
        (b"-1@a-1", None),
        (b"", None),
    ],
)
def test_the_target_of_a_link(data: bytes, target: tuple[int, str] | None) -> None:
    assert link_target(data) == target


def test_a_resolved_link_has_both_events_and_its_own_position() -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    target = encode(ProposedEvent(one.bytes, "T", "application/json", b"{}"), b"a-1", 0, 100, 1)
    link = decode(encode(ProposedEvent(other.bytes, "$>", "text/plain", b"0@a-1"), b"links", 3, 900, 1))
    response = streams_pb2.ReadResp.FromString(unframe(with_structured_ids(resolved(link, target))))
    assert response.event.commit_position == 900
    assert uuid_bytes(response.event.event.id) == one.bytes
    assert uuid_bytes(response.event.link.id) == other.bytes
    assert response.event.event.id.WhichOneof("value") == "structured"
    missing = streams_pb2.ReadResp.FromString(unframe(resolved(link, None)))
    assert not missing.event.HasField("event")
