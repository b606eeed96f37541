"""A connector's records as Kafka messages: filtered by content, transformed, with keys and headers (contract §3-§6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from sinkworker.connectors import jsonpath
from sinkworker.connectors.settings import FilterType, SinkSettings
from sinkworker.connectors.topic_template import TopicTemplate
from sinkworker.delivery import transformed
from sinkworker.delivery.headers import HeaderBuilder, RecordedEvent, now
from sinkworker.delivery.shape import record_object
from sinkworker.errors import Misconfigured, SinkworkerError, Undeliverable, exhausted
from sinkworker.keys import KeyExtractor, placement
from sinkworker.model import TICKS_PER_SECOND, Cursor, Position, Revision
from sinkworker.outgoing import Origin, Outgoing, Unfit
from sinkworker.transform.transformer import UNUSABLE, Transformer

Partitions: TypeAlias = Callable[[str], int]
"""How many a topic has."""

_Origin: TypeAlias = tuple[str, str, str, int]
"""`Origin` as a plain tuple, since one is made for every record."""


class MessageBuilder:
    """What one connector's settings make of records. Not for use from several threads."""

    def __init__(
        self,
        connector_id: str,
        settings: SinkSettings,
        timed: Callable[[float, int], None] = lambda _seconds, _records: None,
    ) -> None:
        """`timed`: see `Transformer`."""
        self._topic = settings.topic
        self._template = TopicTemplate(settings.topic) if settings.topic_is_template else None
        self._key = KeyExtractor(settings.key).key
        self._partition_of = placement(settings.key)
        self._headers = HeaderBuilder(connector_id, settings).build
        by_content = settings.filter.type is FilterType.JSON_PATH
        self._query = jsonpath.Query(settings.filter.expression) if by_content else None
        self._transformer = None if settings.transform is None else Transformer(settings.transform, timed)
        self._dead_letters = settings.dead_letter_topic is not None

    def call_meanwhile(self, meanwhile: Callable[[], None]) -> None:
        """Have that called now and then while a transformation runs."""
        if self._transformer is not None:
            self._transformer.meanwhile = meanwhile

    def close(self) -> None:
        """End the process that runs a transformation."""
        if self._transformer is not None:
            self._transformer.close()

    def messages(self, events: Iterable[RecordedEvent], partitions: Partitions) -> Iterator[Outgoing | Unfit]:
        """The events that a filter by content lets through, in order; values that nothing transformed are byte-exact.

        One that cannot be built is answered as Unfit where the settings have a dead-letter topic; else Undeliverable
        is raised, once what precedes it is answered. Raises Transient or Misconfigured where a transformation cannot
        be run, and what `partitions` raises.
        """
        date = now()
        selected = events if self._query is None else self._selected(events, self._query)
        if self._transformer is not None:
            yield from self._transformed(self._transformer, selected, partitions, date)
            return
        for event in selected:
            if isinstance(event, Unfit):
                yield event
                continue
            origin = origin_of(event)
            message: Outgoing | Unfit
            try:
                message = self._message(event, origin, partitions, date)
            except Exception as exc:
                message = self._unfit(origin, exc)
            yield message

    def _transformed(
        self, transformer: Transformer, events: Iterable[RecordedEvent | Unfit], partitions: Partitions, date: bytes
    ) -> Iterator[Outgoing | Unfit]:
        ready, trouble = _ahead(events)
        subjects = [None if isinstance(event, Unfit) else transformed.subject_of(event) for event in ready]
        asked = [subject for subject in subjects if subject is not None]
        outcomes, answered = transformer.outcomes(asked), 0
        for event, subject in zip(ready, subjects, strict=True):
            if isinstance(event, Unfit):
                yield event
                continue
            origin = origin_of(event)
            message: Outgoing | Unfit
            try:
                schema_type = None
                if subject is not None:
                    answered += 1
                    if (outcome := next(outcomes)) is not None:
                        schema_type = transformed.apply(event, subject, outcome)
                message = self._message(event, origin, partitions, date, schema_type)
            except Exception as exc:
                message = self._unfit(origin, exc)
                outcomes = transformer.outcomes(asked[answered:])  # one that raised answers nothing more
            yield message
        if trouble is not None:
            raise trouble

    def _unfit(self, origin: _Origin, exc: Exception) -> Unfit:
        """The record to be put aside for that reason. Raises what stops the connector instead."""
        reason = _blamed(origin, exc)
        if self._dead_letters and isinstance(reason, Undeliverable) and reason.code != UNUSABLE:
            return Unfit(Origin(*origin), reason)
        raise reason from exc

    def _selected(self, events: Iterable[RecordedEvent], query: jsonpath.Query) -> Iterator[RecordedEvent | Unfit]:
        for event in events:
            try:
                document = record_object(event)
                selected = document is not None and query.selects(document)
            except Exception as exc:
                yield self._unfit(origin_of(event), exc)
                continue
            if selected:
                yield event

    def _message(
        self,
        event: RecordedEvent,
        origin: _Origin,
        partitions: Partitions,
        date: bytes,
        schema_type: bytes | None = None,
    ) -> Outgoing:
        record_id, recorded_in, _, _ = origin
        stream = event.stream_identifier.stream_name.decode()
        key_text = self._key(stream, event.custom_metadata)
        key = None if key_text is None else key_text.encode()
        topic, substitute = self._topic, record_id
        if self._template is not None:
            topic = self._template.topic_of(stream, event.metadata["type"], event.custom_metadata)
            substitute = recorded_in
        try:
            count = partitions(topic)
        except Misconfigured as exc:  # other records may be for other topics
            raise _named(origin, exc) from exc
        return Outgoing(
            *origin,
            key,
            event.data,
            self._headers(event, date, schema_type, key),
            int(event.metadata["created"]) / TICKS_PER_SECOND,
            topic,
            # Without a key the id or stream that the record came with decides, as when its lane was chosen (P2).
            self._partition_of(key, substitute, count),
        )


def origin_of(event: RecordedEvent) -> _Origin:
    """What an event is called by, as it came from the database."""
    return (
        event.id.string,
        event.stream_identifier.stream_name.decode(),
        event.metadata["type"],
        event.commit_position,
    )


def cursor_of(event: RecordedEvent) -> Cursor:
    """Just after an event, as it came from the database."""
    return Cursor(
        Position(event.commit_position),
        Position(event.prepare_position),
        Revision(event.stream_revision),
        event.id.string,
    )


def _ahead(events: Iterable[RecordedEvent | Unfit]) -> tuple[list[RecordedEvent | Unfit], Undeliverable | None]:
    """All of them at once, or those before the one that is undeliverable, with that error."""
    ready: list[RecordedEvent | Unfit] = []
    try:
        for event in events:
            ready.append(event)  # noqa: PERF402 (`list` would lose what precedes the error)
    except Undeliverable as exc:
        return ready, exc
    return ready, None


def _blamed(origin: _Origin, exc: Exception) -> SinkworkerError:
    """The error that stops the connector at this record; trouble that is not the record's stays what it is."""
    if isinstance(exc, Undeliverable):
        return _named(origin, exc)
    if isinstance(exc, SinkworkerError):
        return exc
    if (shortage := exhausted(exc)) is not None:
        return shortage
    return Undeliverable(
        f"{_name(origin)} cannot be made a Kafka message: {type(exc).__name__}: {exc}.",
        code="record-unbuildable",
        position=Position(origin[3]),
    )


def _named(origin: _Origin, exc: Undeliverable | Misconfigured) -> Undeliverable | Misconfigured:
    """The same error about that record."""
    return type(exc)(f"{_name(origin)}: {exc.message}", hint=exc.hint, code=exc.code, position=Position(origin[3]))


def _name(origin: _Origin) -> str:
    record_id, stream, _, position = origin
    return f"Record {record_id} of stream {stream!r} at position {position}"
