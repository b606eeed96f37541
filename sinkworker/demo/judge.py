"""Pure: what is wrong with a topic, given the log it was made from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from uuid import UUID

import orjson
from kurrentdbclient import RecordedEvent

from sinkworker.demo.topic import Consumed

Differs = Callable[[RecordedEvent, Consumed], bool]


class Identified(Protocol):
    """An event of the log, as far as the judge itself looks at it."""

    @property
    def id(self) -> UUID: ...


Event = TypeVar("Event", bound=Identified)


@dataclass(slots=True)
class Verdict:
    """What is wrong with a topic. Duplicates may follow a crash (P3); nothing else ever may be."""

    duplicates: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.missing or self.unexpected or self.out_of_order or self.altered)

    def __str__(self) -> str:
        faults = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "out of order": self.out_of_order,
            "altered": self.altered,
        }
        told = [f"{len(found)} {name} (first: {found[:3]})" for name, found in faults.items() if found]
        return "; ".join([*told, f"{self.duplicates} duplicates"])


def differs_in_content(event: RecordedEvent, message: Consumed) -> bool:
    """Whether the message is not this event: other bytes, or another place in the log."""
    return message.value != event.data or message.position != event.commit_position


def judge(log: Sequence[RecordedEvent], messages: Iterable[Consumed], differs: Differs = differs_in_content) -> Verdict:
    """P1: every event is there, unaltered. P2: first occurrences within a partition are in the order of the log."""
    return compare(log, messages, differs)


def compare(log: Iterable[Event], messages: Iterable[Consumed], differs: Callable[[Event, Consumed], bool]) -> Verdict:
    """`judge` for a log of whatever the caller knows of its events; each message is looked at once, as it comes."""
    verdict = Verdict()
    by_id = {str(event.id): event for event in log}
    seen: Counter[str] = Counter()
    furthest: dict[int, int] = {}
    for message in messages:
        record_id = message.record_id
        seen[record_id] += 1
        event = by_id.get(record_id)
        if event is None:
            verdict.unexpected.append(record_id)
            continue
        if differs(event, message):
            verdict.altered.append(record_id)
        if seen[record_id] == 1:
            if message.position < furthest.get(message.partition, -1):
                verdict.out_of_order.append(record_id)
            furthest[message.partition] = message.position
    verdict.duplicates = sum(seen.values()) - len(seen)
    verdict.missing = [record_id for record_id in by_id if record_id not in seen]
    return verdict


def differs_anywhere(connector_id: str) -> Differs:
    """The strict check, for a connector keyed by stream with default settings: also the key and every header."""

    def differs(event: RecordedEvent, message: Consumed) -> bool:
        headers = dict(message.headers)
        unforeseeable = {name: headers.pop(name, b"") for name in UNFORESEEABLE}
        return (
            differs_in_content(event, message)
            or message.key != event.stream_name.encode()
            or headers != _foreseeable_headers(connector_id, event)
            or not all(UNFORESEEABLE[name].fullmatch(value) for name, value in unforeseeable.items())
        )

    return differs


_DATE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+00:00")
UNFORESEEABLE = {
    "esdb-request-id": re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    "esdb-request-date": _DATE,
    "esdb-record-timestamp": _DATE,  # the client library's clock is coarser than the database's
}
"""Headers of which only the form is known."""


def _foreseeable_headers(connector_id: str, event: RecordedEvent) -> dict[str, bytes]:
    facts = {
        "esdb-connector-id": connector_id,
        "esdb-record-id": str(event.id),
        "esdb-record-redacted": "false",
        "esdb-record-stream-id": event.stream_name,
        "esdb-record-stream-revision": str(event.stream_position),
        "esdb-record-log-position": str(event.commit_position),
        "esdb-record-schema-subject": event.type,
        "esdb-record-schema-type": "json",
    }
    given = {name: text for name, text in orjson.loads(event.metadata).items() if not name.startswith("$")}
    facts |= {f"esdb-record-headers-{name}": text for name, text in given.items()}
    return {name: text.encode() for name, text in facts.items()}
