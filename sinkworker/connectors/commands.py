"""Pure: what a command does to a connector as it stands: the event to write, none, or the refusal (contract §1.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinkworker.connectors.configuration import amended
from sinkworker.connectors.errors import AlreadyExists, FailedPrecondition, NotFound
from sinkworker.connectors.lifecycle import Change, Connector, EventType, State
from sinkworker.errors import Stale
from sinkworker.model import Position


def existing(connector: Connector | None, connector_id: str) -> Connector:
    """The connector, unless it was never created or is deleted: then NotFound."""
    if connector is None:
        raise NotFound(f"Connector {connector_id} does not exist.")
    if connector.deleted:
        raise NotFound(f"Connector {connector_id} was deleted.")
    return connector


def create(connector: Connector | None, connector_id: str, name: str, settings: Mapping[str, str]) -> Change:
    if connector is not None and not connector.deleted:
        raise AlreadyExists(f"Connector {connector_id} exists already.")
    return _change(EventType.CREATED, connectorId=connector_id, name=name, settings=dict(settings))


def reconfigure(connector: Connector, change: Mapping[str, str | None]) -> Change:
    """In any state, also when nothing differs: a new revision of the settings. A running instance keeps its own."""
    return _change(EventType.RECONFIGURED, settings=amended(connector.settings, change))


def rename(connector: Connector, name: str) -> Change | None:
    return None if name == connector.name else _change(EventType.RENAMED, name=name)


def start(connector: Connector, position: Position | None) -> Change:
    """Also while it is stopping: the new activation follows the stop."""
    if connector.state in {State.ACTIVATING, State.RUNNING}:
        raise _wrong_state(connector, "started", "It is started already; to start it anew, stop it first.")
    return _change(EventType.ACTIVATING, position=position)


def reset(connector: Connector, position: Position) -> Change:
    if connector.state is not State.STOPPED:
        raise _wrong_state(connector, "reset", "Stop it first.")
    return _change(EventType.ACTIVATING, position=position)


def stop(connector: Connector) -> Change | None:
    """Nothing where it is stopped or stopping already; a failed one will then not be run again either."""
    return _change(EventType.DEACTIVATING) if connector.should_run else None


def delete(connector: Connector) -> Change:
    if connector.state is not State.STOPPED:
        raise _wrong_state(connector, "deleted", "Stop it first.")
    return _change(EventType.DELETED)


def report(connector: Connector, change: Change) -> Change | None:
    """What a scheduler of the current epoch says; nothing where it changes nothing, or where a stop outran it."""
    match change.type:
        case EventType.RUNNING:
            runs = connector.state is State.RUNNING and connector.error is None
            return None if runs or not connector.should_run else change
        case EventType.WAITING:
            told = connector.error is not None and connector.error.code == change.data["code"]
            waits = connector.state in (State.ACTIVATING, State.RUNNING)
            return None if told or not waits else change
        case EventType.STOPPED:
            return None if connector.state is State.STOPPED and connector.error is None else change
        case EventType.DRAINED:
            if connector.generation is None or connector.generation.id != change.data["generation"]:
                raise Stale(f"Generation {change.data['generation']} of connector {connector.id} is over.")
    return change


def _wrong_state(connector: Connector, what: str, hint: str) -> FailedPrecondition:
    return FailedPrecondition(f"Connector {connector.id} is in {connector.state} and cannot be {what}.", hint=hint)


def _change(type: EventType, **data: Any) -> Change:
    return Change(type, data)
