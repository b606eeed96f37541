"""Pure: a connector as the fold of the events in its own stream, and the states it goes through (contract §1.8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sinkworker.errors import Fatal, OtherRelease
from sinkworker.model import Cursor, Epoch, Generation, LaneNumber, Layout, Position, Revision, SettingsId

VERSION = 2
"""Of the events' data: the newest that is known. A later one is refused, never guessed at."""

EXACTLY_ONCE_VERSION = 2
"""Since it there are connectors that deliver exactly once: a release before it would repeat records."""

FIRST_VERSION = 1
"""Every release knows it."""

PREFIX = "$sinkworker-"
"""What the types of all our events begin with, also of those that a newer release has added."""


class EventType(StrEnum):
    """The types of the events in a connector's stream."""

    CREATED = "$sinkworker-created"
    RECONFIGURED = "$sinkworker-reconfigured"
    RENAMED = "$sinkworker-renamed"
    ACTIVATING = "$sinkworker-activating"
    TAKEN_OVER = "$sinkworker-taken-over"
    GENERATION_OPENED = "$sinkworker-generation-opened"
    RUNNING = "$sinkworker-running"
    WAITING = "$sinkworker-waiting"
    DEACTIVATING = "$sinkworker-deactivating"
    STOPPED = "$sinkworker-stopped"
    FAILED = "$sinkworker-failed"
    DRAINED = "$sinkworker-drained"
    DELETED = "$sinkworker-deleted"


class State(StrEnum):
    """The documented states, in the order of their numbers. A failed connector is STOPPED with an error."""

    UNKNOWN = "CONNECTOR_STATE_UNKNOWN"
    ACTIVATING = "CONNECTOR_STATE_ACTIVATING"
    RUNNING = "CONNECTOR_STATE_RUNNING"
    DEACTIVATING = "CONNECTOR_STATE_DEACTIVATING"
    STOPPED = "CONNECTOR_STATE_STOPPED"


class Unreadable(Fatal):
    """What the database has of a connector cannot be understood."""

    code = "connector-unreadable"
    exit_code = 3


@dataclass(frozen=True, slots=True)
class Change:
    """An event that is to be written: its type and what is its own of the data."""

    type: EventType
    data: Mapping[str, Any]
    version: int = FIRST_VERSION
    """The oldest that knows all of the data that must not be ignored: releases before it refuse the event."""

    def of_settings(self, settings: Mapping[str, str]) -> Change:
        """The same with these settings."""
        return replace(self, data={**self.data, "settings": settings})

    def of_version(self, version: int) -> Change:
        """The same where that version is needed."""
        return replace(self, version=max(self.version, version))

    def recorded(self, now: datetime) -> dict[str, Any]:
        """The data as it is written, JSON values only."""
        return {"version": self.version, "time": now.isoformat(), **self.data}


@dataclass(frozen=True, slots=True)
class Fact:
    """An event that was written to a connector's stream."""

    type: str
    data: Mapping[str, Any]
    revision: Revision
    id: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connector stopped, safe to show: no stack trace."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ProgressPlace:
    """The topic that a generation's progress is committed for, and the id that Kafka had given it."""

    topic: str
    topic_id: str
    """Another topic of the same name has another. Empty where the brokers give none."""


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """One life of a connector's progress (R3)."""

    id: Generation
    start: Cursor
    """Everything at or before it is no business of this generation; its first checkpoint."""
    layout: Layout
    fingerprint: str
    """Of the settings that decide what progress means: see `SinkSettings.generation_fingerprint`."""
    reason: str
    opened_at: datetime
    by_position: bool = False
    """A person named its start, and thereby gave up what was remembered."""
    progress: ProgressPlace | None = None
    """Where Kafka keeps the lanes' progress; None where delivery is at least once."""


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector as its events tell it."""

    id: str
    name: str
    settings: Mapping[str, str]
    """As given, to be parsed; a running instance goes by `active_settings`."""
    settings_id: SettingsId
    state: State
    should_run: bool
    """The desired state: whether the last request was a start or a reset. It survives failures and restarts."""
    created_at: datetime
    updated_at: datetime
    state_at: datetime
    settings_at: datetime
    revision: Revision
    """Of the last event in the stream."""
    created_revision: Revision
    epoch: Epoch
    """Revision of the last takeover, of the creation where none followed it: whatever is older is fenced (R4)."""
    deleted_at: datetime | None = None
    error: Failure | None = None
    activation: Revision | None = None
    """Revision of the last accepted start or reset. A scheduler that runs an older one stops that first."""
    active_settings: Mapping[str, str] = field(default_factory=dict)
    """As they were when the last start was accepted: a running instance keeps them until it is restarted."""
    active_settings_id: SettingsId | None = None
    start_request: Position | None = None
    """The position that a person asked for with the last start or reset, while no generation has served it. 0 is the
    very beginning; any other is exclusive, and need be no record boundary."""
    epoch_event_id: str = ""
    """Id of the event that gave the epoch, random, so that a restored database is noticed (R8)."""
    instance: str = ""
    """Who took over last."""
    generation: GenerationInfo | None = None
    drained_revision: Revision | None = None
    """Of the event that gave `drained`."""
    ran_revision: Revision | None = None
    """Of the last event that says that it runs, in this generation: nothing is dispatched in an epoch before it."""
    drained: Mapping[LaneNumber, Cursor] = field(default_factory=dict)
    """Progress of the lanes that were ahead of the checkpoint when it last stopped or changed hands (R9)."""

    @property
    def ended_in_order(self) -> bool:
        """Whether all that was ever dispatched in this generation is known to have been settled (R9)."""
        if self.ran_revision is None:
            return True
        return self.drained_revision is not None and self.drained_revision > self.ran_revision

    @property
    def deleted(self) -> bool:
        return self.deleted_at is not None


OURS = frozenset(EventType)


def apply(connector: Connector | None, fact: Fact) -> Connector | None:
    """The connector after one more event of ours. One before its creation changes nothing, nor does one of a type that
    a newer release has added, where its version says that it may be ignored.

    Raises OtherRelease for an event that only a newer release understands, Unreadable for one that none writes.
    """
    version = fact.data.get("version")
    if type(version) is not int or version < FIRST_VERSION:
        raise Unreadable(f"Event {fact.revision} ({fact.type}) is damaged: its version is {version!r}.")
    if version > VERSION:
        raise OtherRelease(
            f"Event {fact.revision} ({fact.type}) has version {version}, this release knows {VERSION}.",
            hint="Every process must run the same release of sinkworker, the newest that ever ran here.",
        )
    try:
        return _applied(connector, fact)
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise Unreadable(f"Event {fact.revision} ({fact.type}) is damaged: {type(exc).__name__} {exc}.") from exc


def _applied(connector: Connector | None, fact: Fact) -> Connector | None:
    at = datetime.fromisoformat(fact.data["time"])
    if fact.type == EventType.CREATED:
        return _created(fact, at)
    if connector is None:
        return None
    epoch = fact.data.get("epoch")
    if epoch is not None and epoch < connector.epoch:
        return replace(connector, revision=fact.revision)  # a report from before a takeover, written late
    changed = _changed(connector, fact, at)
    return replace(
        changed,
        revision=fact.revision,
        updated_at=at,
        state_at=connector.state_at if changed.state is connector.state else at,
    )


def _created(fact: Fact, at: datetime) -> Connector:
    """A new life, also over a deleted connector's stream: nothing of the former one counts, its epochs are fenced."""
    return Connector(
        id=fact.data["connectorId"],
        name=fact.data["name"],
        settings=fact.data["settings"],
        settings_id=SettingsId(fact.id),
        state=State.STOPPED,
        should_run=False,
        created_at=at,
        updated_at=at,
        state_at=at,
        settings_at=at,
        revision=fact.revision,
        created_revision=fact.revision,
        epoch=Epoch(fact.revision),
    )


def _changed(connector: Connector, fact: Fact, at: datetime) -> Connector:
    """What the event changes, apart from the times and the revision that every event moves."""
    data = fact.data
    match fact.type:
        case EventType.RECONFIGURED:
            return replace(connector, settings=data["settings"], settings_id=SettingsId(fact.id), settings_at=at)
        case EventType.RENAMED:
            return replace(connector, name=data["name"])
        case EventType.ACTIVATING:
            position = data["position"]
            return replace(
                connector,
                state=State.ACTIVATING,
                should_run=True,
                activation=fact.revision,
                active_settings=connector.settings,
                active_settings_id=connector.settings_id,
                start_request=None if position is None else Position(position),
            )
        case EventType.DEACTIVATING:
            # A failed connector that is told to stop stays STOPPED: what changes is that it will not be run again.
            state = State.STOPPED if connector.state is State.STOPPED else State.DEACTIVATING
            return replace(connector, state=state, should_run=False)
        case EventType.TAKEN_OVER:
            failed = connector.should_run and connector.state is State.STOPPED
            return replace(
                connector,
                epoch=Epoch(fact.revision),
                epoch_event_id=fact.id,
                instance=data["instance"],
                state=State.ACTIVATING if failed else connector.state,
            )
        case EventType.GENERATION_OPENED:
            return replace(
                connector,
                start_request=None,
                drained={},
                ran_revision=None,
                generation=GenerationInfo(
                    id=Generation(fact.id),
                    start=Cursor.decode(data["start"]),
                    layout=Layout.decode(data["layout"]),
                    fingerprint=data["fingerprint"],
                    reason=data["reason"],
                    opened_at=at,
                    by_position=data["byPosition"],
                    progress=_progress_place(data.get("progress")),
                ),
            )
        case EventType.RUNNING:
            # A stop that was accepted meanwhile outranks the report.
            ran = replace(connector, ran_revision=fact.revision)
            return replace(ran, state=State.RUNNING, error=None) if connector.should_run else ran
        case EventType.WAITING:
            # It goes on by itself: the state stays, and the next RUNNING takes the error back.
            return replace(connector, error=Failure(data["code"], data["message"]))
        case EventType.STOPPED:
            # Started again while it was stopping: the stop is complete, the new activation waits for its turn.
            return replace(connector, state=State.ACTIVATING if connector.should_run else State.STOPPED, error=None)
        case EventType.FAILED:
            failure = Failure(data["code"], data["message"])
            if data["activation"] != connector.activation:
                # Started again while it was stopping, and that went wrong: the new activation waits for its turn.
                return replace(connector, error=failure)
            return replace(connector, state=State.STOPPED, error=failure)
        case EventType.DRAINED:
            if connector.generation is None or connector.generation.id != data["generation"]:
                return connector
            progress = {LaneNumber(int(lane)): Cursor.decode(text) for lane, text in data["progress"].items()}
            return replace(connector, drained=progress, drained_revision=fact.revision)
        case EventType.DELETED:
            return replace(connector, deleted_at=at, should_run=False)
    return connector


def _progress_place(data: Mapping[str, str] | None) -> ProgressPlace | None:
    return None if data is None else ProgressPlace(data["topic"], data["topicId"])
