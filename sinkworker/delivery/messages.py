"""A connector's records as Kafka messages: filtered by content, transformed, with keys and headers (contract §3-§6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from sinkworker.connectors import jsonpath
from sinkworker.connectors.settings import FilterType, SinkSettings
from sinkworker.delivery import transformed
from sinkworker.delivery.headers import HeaderBuilder, RecordedEvent, now
from sinkworker.delivery.producer import Outgoing
from sinkworker.delivery.shape import record_object
from sinkworker.errors import SinkworkerError, Undeliverable
from sinkworker.keys import KeyExtractor, placement
from sinkworker.model import TICKS_PER_SECOND, Layout
from sinkworker.transform.transformer import Transformer

_Origin: TypeAlias = tuple[str, str, str, int]
"""Id, stream, type and position of a record as it came: what it is called by, whatever a transformation makes of it."""


class MessageBuilder:
    """What one connector's settings make of records. Not for use from several threads."""

    def __init__(
        self,
        connector_id: str,
        settings: SinkSettings,
        timed: Callable[[float, int], None] = lambda _seconds, _records: None,
    ) -> None:
        """`timed`: see `Transformer`."""
        self._key = KeyExtractor(settings.key).key
        self._partition_of = placement(settings.key)
        self._headers = HeaderBuilder(connector_id, settings).build
        by_content = settings.filter.type is FilterType.JSON_PATH
        self._query = jsonpath.Query(settings.filter.expression) if by_content else None
        self._transformer = None if settings.transform is None else Transformer(settings.transform, timed)

    def close(self) -> None:
        """End the process that runs a transformation."""
        if self._transformer is not None:
            self._transformer.close()

    def messages(self, events: Iterable[RecordedEvent], layout: Layout) -> Iterator[Outgoing]:
        """The events that a filter by content lets through, in order; values that nothing transformed are byte-exact.

        Raises, once what precedes it is answered, Undeliverable for one that cannot be built. Raises Transient or
        Misconfigured where a transformation cannot be run.
        """
        date = now()
        if self._query is not None:
            events = _selected(events, self._query)
        if self._transformer is not None:
            yield from self._transformed(self._transformer, events, layout, date)
            return
        for event in events:
            origin = _origin(event)
            try:
                message = self._message(event, origin, layout, date)
            except Exception as exc:
                raise _blamed(origin, exc) from exc
            yield message

    def _transformed(
        self, transformer: Transformer, events: Iterable[RecordedEvent], layout: Layout, date: bytes
    ) -> Iterator[Outgoing]:
        ready, trouble = _ahead(events)
        subjects = [transformed.subject_of(event) for event in ready]
        outcomes = transformer.outcomes([subject for subject in subjects if subject is not None])
        for event, subject in zip(ready, subjects, strict=True):
            origin = _origin(event)
            try:
                schema_type = None
                if subject is not None and (outcome := next(outcomes)) is not None:
                    schema_type = transformed.apply(event, subject, outcome)
                message = self._message(event, origin, layout, date, schema_type)
            except Exception as exc:
                raise _blamed(origin, exc) from exc
            yield message
        if trouble is not None:
            raise trouble

    def _message(
        self, event: RecordedEvent, origin: _Origin, layout: Layout, date: bytes, schema_type: bytes | None = None
    ) -> Outgoing:
        record_id, _, _, _ = origin
        key_text = self._key(event.stream_identifier.stream_name.decode(), event.custom_metadata)
        key = None if key_text is None else key_text.encode()
        return Outgoing(
            *origin,
            key,
            event.data,
            self._headers(event, date, schema_type, key),
            int(event.metadata["created"]) / TICKS_PER_SECOND,
            # Without a key the id that the record came with decides, as when its lane was chosen (P2).
            self._partition_of(key, record_id, layout.partitions),
        )


def _origin(event: RecordedEvent) -> _Origin:
    return (
        event.id.string,
        event.stream_identifier.stream_name.decode(),
        event.metadata["type"],
        event.commit_position,
    )


def _selected(events: Iterable[RecordedEvent], query: jsonpath.Query) -> Iterator[RecordedEvent]:
    for event in events:
        try:
            document = record_object(event)
            selected = document is not None and query.selects(document)
        except Exception as exc:
            raise _blamed(_origin(event), exc) from exc
        if selected:
            yield event


def _ahead(events: Iterable[RecordedEvent]) -> tuple[list[RecordedEvent], Undeliverable | None]:
    """All of them at once, or those before the one that is undeliverable, with that error."""
    ready: list[RecordedEvent] = []
    try:
        for event in events:
            ready.append(event)  # noqa: PERF402 (`list` would lose what precedes the error)
    except Undeliverable as exc:
        return ready, exc
    return ready, None


def _blamed(origin: _Origin, exc: Exception) -> SinkworkerError:
    """The error that stops the connector at this record; trouble that is not the record's stays what it is."""
    record_id, stream, _, position = origin
    record = f"Record {record_id} of stream {stream!r} at position {position}"
    if isinstance(exc, Undeliverable):
        return Undeliverable(f"{record}: {exc.message}", hint=exc.hint, code=exc.code)
    if isinstance(exc, SinkworkerError):
        return exc
    return Undeliverable(
        f"{record} cannot be made a Kafka message: {type(exc).__name__}: {exc}.", code="record-unbuildable"
    )
