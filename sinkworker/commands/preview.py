"""The Kafka messages that settings would produce from live data, made by the workers' own code, and sent nowhere.

Reads the database and nothing else: neither Kafka nor Redis is asked, nothing is written anywhere.
"""

from __future__ import annotations

import contextlib
from base64 import b64encode
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from sinkworker.bell import SocketBell
from sinkworker.commands.tables import visible
from sinkworker.connectors.settings import SinkSettings
from sinkworker.database import Database, NoBoundary
from sinkworker.delivery.outlet import Outlets
from sinkworker.errors import Invalid
from sinkworker.ledger import payload
from sinkworker.ledger.contract import Batch
from sinkworker.model import Cursor, LaneNumber, Position, Record, SettingsId
from sinkworker.outgoing import Outgoing, Unfit
from sinkworker.scheduling import generations
from sinkworker.scheduling.generations import FromBeginning, FromNow, FromPosition
from sinkworker.scheduling.routing import Router
from sinkworker.source.filters import OneStream, ServerFilter, server_filter
from sinkworker.source.readers import Reader, subscribe

READ_ITEMS = 100
WAIT_S = 0.25

From = FromBeginning | FromNow | FromPosition


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be previewed."""

    connector_id: str
    settings: SinkSettings
    partitions: int | None
    """Of each topic; None where nobody said, and messages show no partition."""


class Dead(NamedTuple):
    """A message for the dead-letter topic."""

    message: Outgoing


Shown: TypeAlias = Outgoing | Dead


def messages(database: Database, reader: Reader, subject: Subject, start: From) -> Generator[Shown]:
    """The messages, in the order of the log, up to its end; with FromNow those of what is appended, without an end.

    A record that has no message is shown as its dead letter, where the settings have a topic for them; only Kafka
    knows which it refuses. Raises Undeliverable for the record at which the connector would stop (P5), Invalid for a
    position that the log does not have, and what `Database` raises.
    """
    settings = subject.settings
    layout = generations.layout(settings, subject.partitions or 1)
    wanted = server_filter(settings.filter)
    after, discard_to = _place(database, wanted, start)
    of_messages = replace(layout, partitions=subject.partitions or 1)  # of every topic, where it is a template
    router = Router(settings.key, layout, discard_to, dead_letters=settings.dead_letter_topic is not None)
    with contextlib.ExitStack() as stack:
        outlets = Outlets(lambda _id, _settings: settings, 1, "", 1.0)
        stack.callback(outlets.close)
        outlet = outlets.get(subject.connector_id, SettingsId("preview"))
        bell = SocketBell()
        stack.callback(bell.close)
        subscription = subscribe(database, reader, wanted, after, bell)
        stack.callback(subscription.close)
        while True:
            bell.clear()
            items = subscription.read(READ_ITEMS)
            for item in items:
                if isinstance(item, Record):
                    if router.lane_of(item) is not None:
                        batch = _batch(item)
                        for message in outlet.messages(batch, of_messages):
                            if isinstance(message, Unfit):
                                yield Dead(outlet.letter(batch, message.origin, message.reason))
                            else:
                                yield message
                elif item.caught_up and not isinstance(start, FromNow):
                    return
            if not items:
                subscription.wait(WAIT_S)


def start_of(text: str) -> From:
    """What `--from` means. Raises ValueError for any other text."""
    match text.lower():
        case "earliest":
            return FromBeginning()
        case "latest":
            return FromNow()
    if not (text.isascii() and text.isdigit() and int(text[:21]) < 2**64):
        raise ValueError(f"{text!r} is neither earliest, latest nor a position of the log")
    return FromPosition(Position(int(text))) if int(text) else FromBeginning()


def as_object(shown: Shown, subject: Subject) -> dict[str, Any]:
    """The message for a script: bytes as text, or in base64 where they are no UTF-8."""
    message = _message(shown)
    return {
        "topic": message.topic,
        **({"partition": message.partition} if _has_partition(shown, subject) else {}),
        **_bytes("key", message.key),
        "headers": {name: value.decode(errors="backslashreplace") for name, value in message.headers},
        **_bytes("value", message.value),
        "record": {"id": message.record_id, "stream": message.stream, "position": message.position},
    }


def as_block(shown: Shown, subject: Subject, number: int) -> str:
    """The message for a person."""
    found = as_object(shown, subject)
    message = _message(shown)
    partition = f", partition {message.partition}" if _has_partition(shown, subject) else ""
    lines = [
        f"--- {number}: topic {message.topic}{partition}",
        f"record   {message.type} of {message.stream} at position {message.position}",
        f"key      {'(none)' if message.key is None else _shown(found, 'key')}",
    ]
    margins = ["headers", *[""] * len(message.headers)]
    lines += [
        f"{margin:<8} {name}: {text}" for margin, (name, text) in zip(margins, found["headers"].items(), strict=False)
    ]
    lines.append(f"value    {_shown(found, 'value')}")
    return visible("\n".join(lines))


def _message(shown: Shown) -> Outgoing:
    return shown.message if isinstance(shown, Dead) else shown


def _has_partition(shown: Shown, subject: Subject) -> bool:
    """`partitions` says nothing of the dead-letter topic."""
    return subject.partitions is not None and not isinstance(shown, Dead)


def _place(database: Database, wanted: ServerFilter, start: From) -> tuple[Cursor, Cursor]:
    """Where to read from, and up to where what is read there is dropped."""
    match start:
        case FromBeginning():
            return Cursor.BEGINNING, Cursor.BEGINNING
        case FromNow():
            head = database.head_cursor()
            if not isinstance(wanted, OneStream):
                return head, Cursor.BEGINNING
            last = database.last_event(wanted.name)
            return Cursor.BEGINNING if last is None else last.cursor, head
        case FromPosition(position):
            return _named(database, wanted, position)


def _named(database: Database, wanted: ServerFilter, position: Position) -> tuple[Cursor, Cursor]:
    if position > database.head():
        raise Invalid(f"The position {position} is beyond the end of the log.", hint="Use a position that it has.")
    with contextlib.suppress(NoBoundary):
        event = database.record_at(position)
        in_place = event is not None and (not isinstance(wanted, OneStream) or event.stream == wanted.name)
        if event is not None and in_place and event.prepare == event.commit:
            return event.cursor, Cursor.BEGINNING
    # No record that can be read from: everything is read, and dropped up to there, as a start at that position does.
    return Cursor.BEGINNING, Cursor(position, position)


def _batch(record: Record) -> Batch:
    """The record as a worker gets it."""
    return Batch(LaneNumber(0), Cursor.BEGINNING, record.cursor, 1, payload.pack([record.raw]))


def _bytes(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}Base64": b64encode(value).decode()}


def _shown(found: dict[str, Any], name: str) -> str:
    if name in found:
        return str(found[name]) or "(empty)"
    return f"{found[f'{name}Base64']} (base64)"
