"""Records as CloudEvents (our `format`): what the CloudEvents SDK reads out of their messages."""

from __future__ import annotations

import base64
from contextlib import closing
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event

from sinkworker.connectors.settings import parse
from sinkworker.delivery.headers import RecordedEvent
from sinkworker.delivery.messages import MessageBuilder
from sinkworker.errors import Undeliverable
from sinkworker.outgoing import Outgoing

BY_STREAM = {"partitionKeyExtraction:enabled": "true", "partitionKeyExtraction:source": "stream"}


def event(data: bytes = b'{"a": 1}', content_type: str = "application/json") -> RecordedEvent:
    recorded = RecordedEvent()
    recorded.id.string = "4a987f8c-d7a8-585c-8395-5421a37371d9"
    recorded.stream_identifier.stream_name = "kredit/ä-1".encode()
    recorded.commit_position = recorded.prepare_position = 900
    recorded.metadata["type"], recorded.metadata["content-type"] = "LoanRequested", content_type
    recorded.metadata["created"] = "17236472026213572"
    recorded.data, recorded.custom_metadata = data, b'{"ce_id": "forged", "content-type": "forged"}'
    return recorded


def message(recorded: RecordedEvent, **settings: str) -> Outgoing:
    parsed = parse({"instanceTypeName": "kafka-sink", "topic": "loans", **settings})
    with closing(MessageBuilder("loans-sink", parsed)) as builder:
        (built,) = builder.messages([recorded], lambda _topic: 6)
    assert isinstance(built, Outgoing)
    assert len(dict(built.headers)) == len(built.headers)  # one value for each name
    return built


def transforming(body: str) -> dict[str, str]:
    source = f"function transform(record) {{ {body} }}"
    return {"transformer:enabled": "true", "transformer:function": base64.b64encode(source.encode()).decode()}


def test_the_sdk_reads_every_attribute_and_the_data() -> None:
    built = message(event(), format="CloudEvents", **BY_STREAM)
    read = from_binary_event(KafkaMessage(dict(built.headers), built.key, built.value))
    assert read.get_attributes() == {
        "specversion": "1.0",
        "id": "4a987f8c-d7a8-585c-8395-5421a37371d9",
        "source": "/streams/kredit%2F%C3%A4-1",
        "type": "LoanRequested",
        "time": datetime(2024, 8, 14, 14, 53, 22, 621357, UTC),
        "subject": "kredit/ä-1",
        "datacontenttype": "application/json",
        "partitionkey": "kredit/ä-1",
    }
    assert read.get_data() == {"a": 1}
    assert built.value == b'{"a": 1}'
    assert dict(built.headers)["ce_partitionkey"] == built.key


def test_bytes_stay_bytes_and_without_a_key_there_is_no_partition_key() -> None:
    built = message(event(b"\x00\xff", "application/octet-stream"), format="cloudevents")
    read = from_binary_event(KafkaMessage(dict(built.headers), built.key, built.value))
    assert (read.get_data(), read.get_datacontenttype()) == (b"\x00\xff", "application/octet-stream")
    assert "partitionkey" not in read.get_attributes()


def test_the_usual_headers_stay_as_they_are() -> None:
    usual = dict(message(event()).headers)
    assert not any(name.startswith("ce_") or name == "content-type" for name in usual)
    both = dict(message(event(), format="cloudevents").headers)
    varying = {"esdb-request-id", "esdb-request-date"}
    assert {name: both[name] for name in usual if name not in varying} == {
        name: value for name, value in usual.items() if name not in varying
    }


def test_default_headers_take_no_name_of_a_cloud_event() -> None:
    forged = {"defaultHeaders:ce_id": "f", "defaultHeaders:Content-Type": "f", "defaultHeaders:CE_Tenant": "f"}
    found = dict(message(event(), format="cloudevents", **forged, **{"defaultHeaders:Team": "lending"}).headers)
    assert b"f" not in found.values()
    assert (found["ce_id"], found["Team"]) == (b"4a987f8c-d7a8-585c-8395-5421a37371d9", b"lending")
    assert dict(message(event(), **forged).headers)["Content-Type"] == b"f"  # which are anybody's otherwise


def test_what_a_transformation_changed_is_what_counts() -> None:
    change = "record.recordId = 'i-2'; record.streamId = 's-2'; record.schemaInfo.subject = 'T2'; record.value = 2"
    built = message(event(), format="cloudevents", **BY_STREAM, **transforming(change))
    found = dict(built.headers)
    names = ("ce_id", "ce_source", "ce_subject", "ce_type", "ce_partitionkey", "content-type")
    assert [found[name] for name in names] == [b"i-2", b"/streams/s-2", b"s-2", b"T2", b"s-2", b"application/json"]
    assert built.value == b"2"


@pytest.mark.parametrize("change", ["record.recordId = ''", "record.streamId = ''", "record.schemaInfo.subject = ''"])
def test_a_transformation_that_leaves_no_cloud_event_is_an_error_of_the_record(change: str) -> None:
    with pytest.raises(Undeliverable, match=r"4a987f8c.*needs an id, a stream and a type"):
        message(event(), format="cloudevents", **transforming(change))
    message(event(), **transforming(change))
