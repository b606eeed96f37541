"""Connectors as events in the database: each in a stream of its own, every id in an index stream.

Nothing else holds a connector: a Redis that was emptied loses none (design.md §4). Reads are read-your-writes, also of
other processes' writes; what was read before is kept, so a read costs what is new.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
from kurrentdbclient import NewEvent

from sinkworker.connectors import commands, lifecycle, streams, vault
from sinkworker.connectors.configuration import amended
from sinkworker.connectors.errors import FailedPrecondition
from sinkworker.connectors.functions import refuse_unusable
from sinkworker.connectors.lifecycle import Change, Connector, EventType, Fact, ProgressPlace, Unreadable
from sinkworker.connectors.settings import Discreet, SinkSettings, parse
from sinkworker.connectors.vault import Protection, Vault
from sinkworker.database import Database, StoredEvent, WrongRevision
from sinkworker.errors import Misconfigured, OtherRelease, Stale
from sinkworker.model import Cursor, Epoch, Generation, LaneNumber, Layout, Position, Revision

log = logging.getLogger(__name__)

REGISTERED = "$sinkworker-registered"
"""Type of the index's events."""

INDEX_VERSION = 1
"""Of their data. It names an id and nothing else, in every release."""

ATTEMPTS = 20
"""Of a write that others keep getting ahead of. More than that is no contention but a fault."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read of a stream so far: the fold, and the event it ends with."""

    connector: Connector | None
    revision: Revision
    event_id: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """One event of the index; its place is its revision."""

    connector_id: str
    """Empty for an event that is not ours."""
    event_id: str


class Registry:
    """The connectors of one database. May be used from any thread.

    Every method raises what `Database` raises; after Unavailable the outcome of a command is unknown.
    """

    def __init__(self, database: Database, protection: Protection = Protection()) -> None:  # noqa: B008 (a constant)
        self._database = database
        self._vault = Vault(database, protection)
        # Snapshots, replaced whole: a reader that loses a race reads a little more the next time, nothing worse.
        self._known: dict[str, _Known] = {}
        self._index: tuple[_Entry, ...] = ()
        self._said: set[tuple[str, str]] = set()

    # reading

    def get(self, connector_id: str) -> Connector | None:
        """The connector as it is now, also a deleted one; None where none of that id was ever created.

        Raises Unreadable where its stream holds what no release of ours writes, OtherRelease where only a newer one
        does.
        """
        return self._read(connector_id).connector

    def all(self, only: Collection[str] = ()) -> list[Connector]:
        """Every connector, deleted ones too, in the order of creation; `only` those of these ids, where there are any.

        Says once of each that cannot be read, why.
        """
        return list(self.each(only))

    def each(self, only: Collection[str] = ()) -> Iterator[Connector]:
        """The same, one after the other as they are read."""
        for entry in self._entries():
            if not entry.connector_id or (only and entry.connector_id not in only):
                continue
            try:
                connector = self.get(entry.connector_id)
            except (Unreadable, OtherRelease, Misconfigured) as exc:  # the last where its stream is tombstoned
                if (entry.connector_id, str(exc)) not in self._said:
                    self._said.add((entry.connector_id, str(exc)))
                    log.error("%s The others go on.", exc, extra={"connector": entry.connector_id})
                continue
            if connector is not None:
                yield connector

    def position(self, connector_id: str) -> Position | None:
        """The log position of the connector's last checkpoint, None where it has none."""
        event = self._database.last_event(streams.checkpoints(connector_id))
        if event is None or event.type != streams.CHECKPOINT_TYPE:
            return None
        try:
            return Position(int(orjson.loads(event.data)["logPosition"]))
        except (KeyError, ValueError, TypeError):
            return None  # not written by us

    def shown_settings(self, connector: Connector) -> Discreet[str]:
        """The settings as reads show them: sensitive ones in plain text, or as this deployment has it.

        Those of a deleted connector stay as they are stored: nobody is to get its password any more.
        """
        if connector.deleted:
            return Discreet(connector.settings)
        return self._vault.shown(connector.id, connector.settings)

    def active_settings(self, connector: Connector) -> SinkSettings:
        """What the running instance goes by, its secrets decrypted. Raises SecretsUnreadable, InvalidSettings."""
        return parse(self._vault.opened(connector.id, connector.active_settings))

    # what people ask for

    def create(self, connector_id: str, settings: Mapping[str, str | None], name: str | None = None) -> Connector:
        """Create a connector, stopped. A deleted one's id may be used again and starts over.

        Raises AlreadyExists, InvalidSettings, SecretsUnprotected, and FailedPrecondition where the database's own
        plugin has a connector of that id.
        """
        given = amended({}, settings)

        def decide(connector: Connector | None) -> Change:
            change = commands.create(connector, connector_id, name or connector_id, given)
            version = self._check(given, {})
            self._prepare(connector_id)
            if connector is not None:
                self._destroy_keys(connector)  # those of a deleted namesake
            return change.of_settings(self._vault.sealed(connector_id, given, {})).of_version(version)

        return self._decide(connector_id, decide)

    def reconfigure(self, connector_id: str, change: Mapping[str, str | None]) -> Connector:
        """Replace the settings, or merge `change` into them: see `configuration.amended`. In any state.

        Raises NotFound, InvalidSettings, SecretsUnprotected.
        """

        def decide(connector: Connector) -> Change:
            decided = commands.reconfigure(connector, change)
            settings = decided.data["settings"]
            version = self._check(settings, connector.settings)
            sealed = self._vault.sealed(connector_id, settings, connector.settings)
            return decided.of_settings(sealed).of_version(version)

        return self._command(connector_id, decide)

    def rename(self, connector_id: str, name: str) -> Connector:
        """Give it another name; the same name again writes nothing. Raises NotFound."""
        return self._command(connector_id, lambda connector: commands.rename(connector, name))

    def start(self, connector_id: str, position: Position | None = None) -> Connector:
        """Accept a start, at a position (exclusive; 0 is the beginning) or where it left off.

        Raises NotFound, and FailedPrecondition when it is running or about to.
        """
        return self._command(connector_id, lambda connector: commands.start(connector, position))

    def reset(self, connector_id: str, position: Position = Position(0)) -> Connector:  # noqa: B008 (a constant)
        """Accept a start that discards all progress. Raises NotFound, and FailedPrecondition unless it is stopped."""
        return self._command(connector_id, lambda connector: commands.reset(connector, position))

    def stop(self, connector_id: str) -> Connector:
        """Accept a stop; nothing is written where it is stopped or stopping. Raises NotFound."""
        return self._command(connector_id, commands.stop)

    def delete(self, connector_id: str) -> Connector:
        """Delete it, its checkpoints and data keys. Raises NotFound, and FailedPrecondition unless it is stopped."""
        before = self.get(connector_id)
        if before is not None and before.deleted:
            self._destroy_keys(before)  # the first request may have failed half-way
        connector = self._command(connector_id, commands.delete)
        # Should this fail, creating the connector again deletes them before anything else.
        self._database.delete_stream(streams.checkpoints(connector_id))
        self._destroy_keys(connector)
        return connector

    # what a scheduler says

    def take_over(self, connector_id: str, instance: str, former: Epoch | None = None) -> Connector:
        """Begin a new epoch, the returned connector's: everything older is fenced from then on (R4).

        Raises Stale when another scheduler took over at the same moment (since the epoch `former`, if given), or the
        connector is deleted.
        """
        connector = self.get(connector_id)
        if connector is None or connector.deleted:
            raise Stale(f"Connector {connector_id} is gone.")
        if former is not None and connector.epoch != former:
            raise Stale(f"Another scheduler took connector {connector_id} over.")
        return self._report(connector_id, connector.epoch, EventType.TAKEN_OVER, instance=instance)

    def open_generation(
        self,
        connector_id: str,
        epoch: Epoch,
        start: Cursor,
        layout: Layout,
        fingerprint: str,
        reason: str,
        *,
        by_position: bool,
        id: Generation | None = None,
        progress: ProgressPlace | None = None,
    ) -> Connector:
        """Record a new life of the connector's progress, before anything is read in it (R3). Raises Stale.

        `id`: a random UUID that the generation is to have, where Kafka had to know it before (X4).
        """
        place = {} if progress is None else {"progress": {"topic": progress.topic, "topicId": progress.topic_id}}
        return self._report(
            connector_id,
            epoch,
            EventType.GENERATION_OPENED,
            id,
            lifecycle.FIRST_VERSION if progress is None else lifecycle.EXACTLY_ONCE_VERSION,
            start=start.encode(),
            layout=layout.encode(),
            fingerprint=fingerprint,
            reason=reason,
            byPosition=by_position,
            **place,
        )

    def report_running(self, connector_id: str, epoch: Epoch) -> Connector:
        """It runs. Raises Stale, and so do all reports, when another epoch began or the connector is deleted."""
        return self._report(connector_id, epoch, EventType.RUNNING)

    def report_waiting(self, connector_id: str, epoch: Epoch, code: str, message: str) -> Connector:
        """It waits for something that may come back by itself; the next `report_running` takes that back."""
        return self._report(connector_id, epoch, EventType.WAITING, code=code, message=message)

    def report_stopped(self, connector_id: str, epoch: Epoch) -> Connector:
        """The stop that was asked for is complete."""
        return self._report(connector_id, epoch, EventType.STOPPED)

    def report_failed(
        self, connector_id: str, epoch: Epoch, activation: Revision | None, code: str, message: str
    ) -> Connector:
        """That activation stopped for a reason (P5). `message` is shown to everybody who may list connectors."""
        return self._report(connector_id, epoch, EventType.FAILED, activation=activation, code=code, message=message)

    def report_drained(
        self, connector_id: str, epoch: Epoch, generation: Generation, progress: Mapping[LaneNumber, Cursor]
    ) -> Connector:
        """Keep the progress of the lanes that are ahead of the checkpoint (R9). The last report counts."""
        return self._report(
            connector_id,
            epoch,
            EventType.DRAINED,
            generation=generation,
            progress={str(lane): cursor.encode() for lane, cursor in progress.items()},
        )

    def accepted_at(self, connector_id: str, activation: Revision) -> Cursor:
        """Where in the log the start of this activation was accepted. Raises Stale when that event is gone (R8)."""
        event = self._database.event_at(streams.of_connector(connector_id), activation)
        if event is None:
            raise Stale(f"The start of connector {connector_id} is gone from its stream.")
        return event.cursor

    def epoch_event_is_intact(self, connector_id: str, epoch: Epoch, event_id: str) -> bool:
        """Whether the database still has the event that gave this epoch. If not, it was restored from a backup (R8)."""
        event = self._database.event_at(streams.of_connector(connector_id), Revision(epoch))
        return event is not None and event.id == event_id

    # how

    def _prepare(self, connector_id: str) -> None:
        """All that must be there before a connector exists. Each step may be repeated, and is after a crash."""
        if self._database.last_event(streams.of_native_connector(connector_id)) is not None:
            raise FailedPrecondition(
                f"The database's own connector plugin uses the id {connector_id}.", hint="Choose another id."
            )
        checkpoints = streams.checkpoints(connector_id)
        self._database.delete_stream(checkpoints)  # those of a deleted namesake
        self._database.set_max_count(checkpoints, streams.CHECKPOINTS_KEPT)
        self._register(connector_id)

    def _check(self, settings: Mapping[str, str], stored: Mapping[str, str]) -> int:
        """The version that an event with these settings needs."""
        parsed = parse(settings)
        self._vault.check(settings, stored)
        refuse_unusable(parsed)
        return lifecycle.EXACTLY_ONCE_VERSION if parsed.exactly_once else lifecycle.FIRST_VERSION

    def _destroy_keys(self, deleted: Connector) -> None:
        """Every data key that was used until that deletion. A later namesake's have ids of their own."""
        used: set[str] = set()
        for event in self._database.read_stream(streams.of_connector(deleted.id)):
            if event.revision > deleted.revision:
                break
            if event.type in (EventType.CREATED, EventType.RECONFIGURED):
                used.update(vault.key_ids(orjson.loads(event.data)["settings"]))
        self._vault.destroy(deleted.id, sorted(used))

    def _command(self, connector_id: str, decide: Callable[[Connector], Change | None]) -> Connector:
        return self._decide(connector_id, lambda connector: decide(commands.existing(connector, connector_id)))

    def _report(
        self,
        connector_id: str,
        epoch: Epoch,
        type: EventType,
        event_id: str | None = None,
        version: int = lifecycle.FIRST_VERSION,
        /,
        **data: Any,
    ) -> Connector:
        def decide(connector: Connector | None) -> Change | None:
            if connector is None or connector.deleted or connector.epoch != epoch:
                raise Stale(f"Epoch {epoch} of connector {connector_id} is over.")
            return commands.report(connector, Change(type, {"epoch": epoch, **data}, version))

        return self._decide(connector_id, decide, event_id)

    def _decide(
        self, connector_id: str, decide: Callable[[Connector | None], Change | None], event_id: str | None = None
    ) -> Connector:
        """Write what `decide` answers for the connector as it stands; decide again where somebody else wrote first."""
        for _ in range(ATTEMPTS):
            known = self._read(connector_id)
            change = decide(known.connector)
            if change is None:
                assert known.connector is not None
                return known.connector
            try:
                return self._write(connector_id, known, change, event_id)
            except WrongRevision:
                continue
        raise Stale(f"Connector {connector_id} was changed by others {ATTEMPTS} times in a row.")

    def _write(self, connector_id: str, known: _Known, change: Change, event_id: str | None) -> Connector:
        """Append, and answer the connector as of that very event: others may have written after it already."""
        data = change.recorded(datetime.now(UTC))
        event = NewEvent(type=change.type, data=orjson.dumps(data), id=UUID(event_id) if event_id else uuid4())
        expected = None if known.revision < 0 else known.revision
        self._database.append(streams.of_connector(connector_id), expected, [event])
        fact = Fact(change.type, data, Revision(known.revision + 1), str(event.id))
        connector = lifecycle.apply(known.connector, fact)
        assert connector is not None
        self._known[connector_id] = _Known(connector, fact.revision, fact.id)
        return connector

    def _read(self, connector_id: str) -> _Known:
        """What is new since the last read. Also reads the last known event: where it is another, all is read again."""
        known = self._known.get(connector_id)
        stream = streams.of_connector(connector_id)
        if known is None:
            events: Iterable[StoredEvent] = self._database.read_stream(stream)
        else:
            overlap = iter(self._database.read_stream(stream, _before(known.revision)))
            first = next(overlap, None)
            if first is None or first.id != known.event_id:
                known, events = None, self._database.read_stream(stream)  # R8: restored from a backup
            else:
                events = overlap
        known = known or _Known(None, Revision(-1), "")
        for event in events:
            known = _Known(_folded(known.connector, event), event.revision, event.id)
        if known.revision >= 0:
            self._known[connector_id] = known
        return known

    def _entries(self) -> tuple[_Entry, ...]:
        """The whole index, read as `_read` reads a connector."""
        entries = self._index
        if not entries:
            new: Iterable[StoredEvent] = self._database.read_stream(streams.INDEX)
        else:
            overlap = iter(self._database.read_stream(streams.INDEX, _before(Revision(len(entries) - 1))))
            first = next(overlap, None)
            if first is None or first.id != entries[-1].event_id:
                entries, new = (), self._database.read_stream(streams.INDEX)
            else:
                new = overlap
        entries += tuple(_Entry(_registered_id(event), event.id) for event in new)
        self._index = entries
        return entries

    def _register(self, connector_id: str) -> None:
        """Name the id in the index, once. Before its first event, so that no connector exists that nobody lists."""
        for _ in range(ATTEMPTS):
            entries = self._entries()
            if any(entry.connector_id == connector_id for entry in entries):
                return
            data = {"version": INDEX_VERSION, "time": datetime.now(UTC).isoformat(), "connectorId": connector_id}
            event = NewEvent(type=REGISTERED, data=orjson.dumps(data))
            try:
                self._database.append(streams.INDEX, Revision(len(entries) - 1) if entries else None, [event])
            except WrongRevision:
                continue
        raise Stale(f"The index of connectors was changed by others {ATTEMPTS} times in a row.")


def _folded(connector: Connector | None, event: StoredEvent) -> Connector | None:
    """The connector after one more event of its stream. What others wrote there is passed over."""
    if not event.type.startswith(lifecycle.PREFIX):
        return connector
    try:
        return lifecycle.apply(connector, Fact(event.type, _object(event), event.revision, event.id))
    except OtherRelease as exc:
        raise OtherRelease(f"{event.stream}: {exc.message}", hint=exc.hint) from exc
    except Unreadable as exc:
        if event.type not in lifecycle.OURS:
            return connector
        raise Unreadable(f"{event.stream}: {exc.message}", hint=exc.hint) from exc


def _object(event: StoredEvent) -> dict[str, Any]:
    """The event's data. Raises Unreadable for what is no JSON object."""
    try:
        data = orjson.loads(event.data)
    except ValueError as exc:
        raise Unreadable(f"Event {event.revision} ({event.type}) is damaged: {exc}.") from exc
    if not isinstance(data, dict):
        raise Unreadable(f"Event {event.revision} ({event.type}) is damaged: it is no JSON object.")
    return data


def _registered_id(event: StoredEvent) -> str:
    if event.type != REGISTERED:
        return ""
    try:
        return str(orjson.loads(event.data)["connectorId"])
    except (KeyError, ValueError, TypeError):
        return ""


def _before(revision: Revision) -> Revision | None:
    return Revision(revision - 1) if revision > 0 else None
