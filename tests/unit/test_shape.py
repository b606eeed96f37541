"""The record as filters by content see it (contract §4.1)."""

from __future__ import annotations

import pytest
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.delivery.shape import record_object


def event(
    data: bytes, metadata: bytes = b"", content_type: str = "application/json"
) -> streams_pb2.ReadResp.ReadEvent.RecordedEvent:
    recorded = streams_pb2.ReadResp.ReadEvent.RecordedEvent()
    recorded.id.string = "5c3bd6ca-7e3a-4b54-8d5f-6a0e5a3f7c11"
    recorded.stream_identifier.stream_name = b"vehicle-1"
    recorded.commit_position = recorded.prepare_position = 900
    recorded.metadata["type"], recorded.metadata["content-type"] = "VehicleRegistered", content_type
    recorded.data, recorded.custom_metadata = data, metadata
    return recorded


def test_all_that_is_known_of_a_record_is_in_it() -> None:
    assert record_object(event(b'{"year": 2018}', b'{"tenant": 7, "$schema.format": "Avro", "gone": null}')) == {
        "recordId": "5c3bd6ca-7e3a-4b54-8d5f-6a0e5a3f7c11",
        "streamId": "vehicle-1",
        "position": {"streamId": "vehicle-1", "logPosition": 900},
        "isTransformed": False,
        "schemaInfo": {"subject": "VehicleRegistered", "type": 3},
        "headers": {"tenant": "7", "$schema.format": "Avro"},
        "value": {"year": 2018},
    }


@pytest.mark.parametrize("value", [b"null", b"[1]", b'"text"', b"2018"])
def test_any_json_is_a_value(value: bytes) -> None:
    assert record_object(event(value)) is not None


@pytest.mark.parametrize(
    "other", [event(b"{", b""), event(b"", b""), event(b"{}", content_type="application/octet-stream")], ids=range(3)
)
def test_what_is_not_json_is_none(other: streams_pb2.ReadResp.ReadEvent.RecordedEvent) -> None:
    assert record_object(other) is None
