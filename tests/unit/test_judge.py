"""The judge finds every fault that a topic can have; a judge that finds none proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from kurrentdbclient import RecordedEvent

from sinkworker.demo.judge import Verdict, differs_anywhere, judge
from sinkworker.demo.topic import Consumed

CONNECTOR = "loans-to-kafka"


def event(number: int) -> RecordedEvent:
    return RecordedEvent(
        type="LoanRequested",
        data=b'{"number": %d}' % number,
        metadata=b'{"branch": "n\xc3\xb6rd", "$correlationId": "c"}',
        content_type="application/json",
        id=UUID(int=number, version=4),
        stream_name="LoanRequest-1",
        stream_position=number,
        commit_position=number * 100,
        prepare_position=number * 100,
        recorded_at=datetime.now(UTC),
        retry_count=None,
        link=None,
    )


def message(of: RecordedEvent, partition: int = 0) -> Consumed:
    """The event as a worker of ours ought to have sent it."""
    headers = {
        "esdb-request-id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "esdb-request-date": "2024-08-14T14:53:22.6213572+00:00",
        "esdb-connector-id": CONNECTOR,
        "esdb-record-id": str(of.id),
        "esdb-record-timestamp": "2024-08-14T14:53:22.6213572+00:00",
        "esdb-record-redacted": "false",
        "esdb-record-stream-id": of.stream_name,
        "esdb-record-stream-revision": str(of.stream_position),
        "esdb-record-log-position": str(of.commit_position),
        "esdb-record-schema-subject": of.type,
        "esdb-record-schema-type": "json",
        "esdb-record-headers-branch": "nörd",
    }
    encoded = {name: text.encode() for name, text in headers.items()}
    return Consumed(partition, of.stream_name.encode(), of.data, encoded)


LOG = [event(number) for number in range(1, 6)]


def strict(messages: list[Consumed]) -> Verdict:
    return judge(LOG, messages, differs_anywhere(CONNECTOR))


def test_a_topic_that_has_every_event_in_order_holds() -> None:
    verdict = strict([message(each, partition=number % 2) for number, each in enumerate(LOG)])
    assert verdict == Verdict()
    assert verdict.holds


def test_a_missing_event_is_found() -> None:
    verdict = strict([message(each) for each in LOG if each is not LOG[2]])
    assert verdict.missing == [str(LOG[2].id)]
    assert not verdict.holds
    assert "1 missing" in str(verdict)


def test_a_duplicate_is_counted_and_is_no_fault_even_out_of_order() -> None:
    verdict = strict([message(each) for each in [*LOG, LOG[0], LOG[0]]])
    assert verdict.duplicates == 2
    assert verdict.holds


def test_order_within_a_partition_is_that_of_the_log() -> None:
    swapped = [LOG[1], LOG[0], *LOG[2:]]
    assert strict([message(each) for each in swapped]).out_of_order == [str(LOG[0].id)]
    assert strict([message(each, partition=number) for number, each in enumerate(swapped)]).holds


def test_a_duplicate_does_not_excuse_a_first_occurrence_that_comes_late() -> None:
    late = [LOG[0], LOG[2], LOG[0], LOG[1], *LOG[3:]]
    assert strict([message(each) for each in late]).out_of_order == [str(LOG[1].id)]


def test_an_event_that_nobody_appended_is_found() -> None:
    verdict = strict([message(each) for each in [*LOG, event(9)]])
    assert verdict.unexpected == [str(event(9).id)]
    assert not verdict.holds


def _with_header(name: str, value: bytes) -> Callable[[Consumed], Consumed]:
    return lambda sent: replace(sent, headers={**sent.headers, name: value})


def _without_header(name: str) -> Callable[[Consumed], Consumed]:
    return lambda sent: replace(sent, headers={each: value for each, value in sent.headers.items() if each != name})


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda sent: replace(sent, value=b"{}"), id="other bytes"),
        pytest.param(lambda sent: replace(sent, value=None), id="no value"),
        pytest.param(lambda sent: replace(sent, key=None), id="no key"),
        pytest.param(lambda sent: replace(sent, key=b"LoanRequest-2"), id="another key"),
        pytest.param(_with_header("esdb-record-schema-subject", b"Other"), id="another type"),
        pytest.param(_with_header("esdb-record-headers-branch", b"south"), id="other metadata"),
        pytest.param(_with_header("esdb-record-headers-$correlationId", b"c"), id="a system header"),
        pytest.param(_with_header("esdb-request-date", b"yesterday"), id="a date in another form"),
        pytest.param(_without_header("esdb-record-headers-branch"), id="no metadata"),
        pytest.param(_without_header("esdb-request-id"), id="no request id"),
    ],
)
def test_an_altered_message_is_found(damage: Callable[[Consumed], Consumed]) -> None:
    sent = [message(each) for each in LOG]
    sent[3] = damage(sent[3])
    verdict = strict(sent)
    assert verdict.altered == [str(LOG[3].id)]
    assert not verdict.holds
