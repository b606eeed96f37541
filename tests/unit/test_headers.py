"""The Kafka headers of a record (contract §4.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from sinkworker.connectors.settings import parse
from sinkworker.delivery.headers import HeaderBuilder, iso_date

RECORD_ID = "4a987f8c-d7a8-585c-8395-5421a37371d9"
DATE = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+00:00"


def headers(
    metadata: bytes = b"", content_type: str = "application/json", settings: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    event = streams_pb2.ReadResp.ReadEvent.RecordedEvent(
        id=shared_pb2.UUID(string=RECORD_ID),
        stream_identifier=shared_pb2.StreamIdentifier(stream_name="kredit-ä".encode()),
        stream_revision=7,
        prepare_position=900,
        commit_position=900,
        metadata={"type": "LoanRequested", "content-type": content_type, "created": "17236472026213572"},
        custom_metadata=metadata,
        data=b"{}",
    )
    parsed = parse({"instanceTypeName": "kafka-sink", "topic": "loans", **(settings or {})})
    built = HeaderBuilder("loans-sink", parsed).build(event, iso_date(17236472026213572))
    assert len({name for name, _ in built}) == len(built)  # one value for each name
    return dict(built)


def test_the_eleven_system_headers_are_there() -> None:
    """A36"""
    found = headers()
    assert re.fullmatch(
        rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", found["esdb-request-id"]
    )
    assert re.fullmatch(DATE, found["esdb-request-date"])
    assert (
        found.items()
        >= {
            "esdb-connector-id": b"loans-sink",
            "esdb-record-id": RECORD_ID.encode(),
            "esdb-record-timestamp": b"2024-08-14T14:53:22.6213572+00:00",
            "esdb-record-redacted": b"false",
            "esdb-record-stream-id": "kredit-ä".encode(),
            "esdb-record-stream-revision": b"7",
            "esdb-record-log-position": b"900",
            "esdb-record-schema-subject": b"LoanRequested",
            "esdb-record-schema-type": b"json",
        }.items()
    )
    assert len(found) == 11


def test_every_record_is_processed_under_an_id_of_its_own() -> None:
    assert headers()["esdb-request-id"] != headers()["esdb-request-id"]


def test_metadata_entries_keep_their_casing() -> None:
    """A37"""
    assert headers(b'{"X-Case": "a"}')["esdb-record-headers-X-Case"] == b"a"


@pytest.mark.parametrize(("setting", "sent"), [("true", False), ("false", True)])
def test_system_metadata_is_dropped_unless_wanted(setting: str, sent: bool) -> None:
    """A37"""
    found = headers(b'{"$correlationId": "c1"}', settings={"headers:ignoreSystem": setting})
    assert ("esdb-record-headers-$correlationId" in found) is sent


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (b"7", b"7"),
        (b"1.50", b"1.50"),
        (b"true", b"true"),
        (b'{"a":[1, 2]}', b'{"a":[1,2]}'),
        (b'"\\u00e4"', "ä".encode()),
    ],
)
def test_other_values_are_sent_as_text(value: bytes, sent: bytes) -> None:
    assert headers(b'{"x": %b}' % value)["esdb-record-headers-x"] == sent


def test_nulls_are_skipped() -> None:
    assert "esdb-record-headers-x" not in headers(b'{"x": null}')


def test_a_name_that_kafka_would_get_cut_is_skipped() -> None:
    assert len(headers(b'{"a\\u0000b": "1", "\\u0000": "2"}')) == 11


@pytest.mark.parametrize("metadata", [b"\xff\xfe", b"[1]", b'"text"', b"{", b"7"])
def test_metadata_that_is_no_object_gives_no_headers(metadata: bytes) -> None:
    assert len(headers(metadata)) == 11


def test_default_headers_are_on_every_message_and_override_nothing_of_the_systems() -> None:
    """A38"""
    found = headers(settings={"defaultHeaders:Team": "lending", "defaultHeaders:esdb-record-id": "forged"})
    assert found["Team"] == b"lending"
    assert found["esdb-record-id"] == RECORD_ID.encode()


def test_metadata_outranks_a_default_header() -> None:
    found = headers(b'{"x": "theirs"}', settings={"defaultHeaders:esdb-record-headers-x": "ours"})
    assert found["esdb-record-headers-x"] == b"theirs"


def test_a_trace_goes_on_only_where_it_is_wanted_and_no_default_header_forges_one() -> None:
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    ids = f'{{"$traceId": "{"1" * 32}", "$spanId": "{"2" * 16}"}}'.encode()
    forged = {"defaultHeaders:tracestate": "a=b", "defaultHeaders:TraceParent": "forged"}
    found = headers(ids, settings={"headers:traceContext": "true", "defaultHeaders:Team": "lending", **forged})
    assert (found["traceparent"], found["Team"]) == (trace.encode(), b"lending")
    assert not {"tracestate", "TraceParent"} & found.keys()
    assert "esdb-record-headers-$traceId" not in found
    assert "traceparent" not in headers(ids)
    assert headers(settings={"defaultHeaders:tracestate": "a=b"})["tracestate"] == b"a=b"


@pytest.mark.parametrize(
    ("content_type", "metadata", "sent"),
    [
        ("application/json", b"", b"json"),
        ("application/octet-stream", b"", b"bytes"),
        ("application/octet-stream", b'{"$schema.format": "Protobuf"}', b"protobuf"),
        ("application/octet-stream", b'{"$schema.format": "odd"}', b"bytes"),
    ],
)
def test_the_schema_type_is_what_the_event_names_or_its_content_flag(
    content_type: str, metadata: bytes, sent: bytes
) -> None:
    assert headers(metadata, content_type)["esdb-record-schema-type"] == sent
