"""The Kafka sinks of a KurrentDB's own plugin, copied as stopped connectors here, and how to switch over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from sinkworker.commands.api import ALREADY_EXISTS, FAILED_PRECONDITION, ManagementApi, Refused
from sinkworker.commands.bodies import Body
from sinkworker.commands.tables import STATE_PREFIX, state_of
from sinkworker.commands.validation import examine
from sinkworker.connectors import naming
from sinkworker.connectors.settings import TYPE_NAMES, InitialPosition

TYPE_KEY = "instanceTypeName"


class Outcome(StrEnum):
    CREATED = "created"
    WOULD_CREATE = "would be created"
    EXISTS = "exists already"
    REFUSED = "refused"
    MISSING = "missing"

    @property
    def failed(self) -> bool:
        return self not in {Outcome.CREATED, Outcome.WOULD_CREATE}


@dataclass(frozen=True, slots=True)
class Original:
    """A Kafka sink of the other server, as that has it now."""

    id: str
    name: str
    state: str
    """Without its prefix, `RUNNING` and so on."""
    position: int | None
    settings: Mapping[str, str] = field(repr=False)

    @property
    def from_earliest(self) -> bool:
        key = "subscription:initialPosition".lower()
        given = next((value for name, value in self.settings.items() if name.lower() == key), "")
        return given.strip().lower() == InitialPosition.EARLIEST


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one of them."""

    original: str
    id: str
    """Of the copy."""
    outcome: Outcome
    message: str
    state: str = ""
    position: int | None = None
    switch_over: list[str] = field(default_factory=list)
    """What to do, step by step. No step shows a password."""
    in_same_database: bool = False
    """The refusal may be that of an id which the database's own plugin uses."""

    def as_object(self) -> dict[str, Any]:
        """For a script."""
        found = asdict(self)
        del found["in_same_database"]
        return {
            "connectorId": found.pop("id"),
            "switchOver": found.pop("switch_over"),
            **found,
            "failed": self.outcome.failed,
        }


def absent(connector_id: str, suffix: str) -> Imported:
    """What is to be said of an id that no Kafka sink there has."""
    return Imported(connector_id, connector_id + suffix, Outcome.MISSING, f"There is no Kafka sink {connector_id}.")


def originals(source: ManagementApi, ids: Sequence[str]) -> tuple[list[Original], list[str]]:
    """The Kafka sinks there, only those of `ids` where any are named; and which of `ids` are none.

    Raises what the API there comes to.
    """
    found = []
    for item in source.connectors(ids=ids, includeSettings="true"):
        connector_id = str(item["connectorId"])
        listed = {str(key): str(value) for key, value in (item.get("settings") or {}).items()}
        kind = item.get(TYPE_KEY) or _of(listed, TYPE_KEY)
        if kind not in TYPE_NAMES or (ids and connector_id not in ids):
            continue
        settings = source.settings(connector_id)
        if not _of(settings, TYPE_KEY):
            settings[TYPE_KEY] = str(kind)
        position = item.get("position")
        found.append(
            Original(
                connector_id,
                str(item.get("name") or connector_id),
                state_of(item),
                None if position is None else int(position),
                settings,
            )
        )
    here = {each.id for each in found}
    return found, [each for each in ids if each not in here]


def copied(
    found: Sequence[Original], api: ManagementApi, source: ManagementApi, suffix: str, *, dry_run: bool
) -> Iterator[Imported]:
    """Create a stopped copy of each, or say what would become of it; what is refused does not keep back the others.

    Raises what keeps all of them back: that the API does not answer, or does not let us in.
    """
    make = _looked_at if dry_run else _created
    for original in found:
        connector_id = original.id + suffix
        try:
            if violations := naming.id_faults(connector_id):
                raise Refused(f"{connector_id} can be no id here:", 0, {"ConnectorId": violations})
            outcome = make(api, original, connector_id)
        except Refused as exc:
            exists = exc.rpc_code == ALREADY_EXISTS
            yield Imported(
                original.id,
                connector_id,
                Outcome.EXISTS if exists else Outcome.REFUSED,
                str(exc),
                original.state,
                original.position,
                in_same_database=exc.rpc_code == FAILED_PRECONDITION,
            )
            continue
        yield Imported(
            original.id,
            connector_id,
            outcome,
            f"Connector {connector_id} {'would be' if dry_run else 'is'} created, stopped.",
            original.state,
            original.position,
            switch_over(original, connector_id, source.address),
        )


def switch_over(original: Original, connector_id: str, address: str) -> list[str]:
    """The steps from the original to its copy without a gap: what is in flight meanwhile is repeated, never lost.

    A start at a position is exclusive: it delivers every record after it. The original's position is one up to which
    it has delivered everything, so everything that it has not is after it.
    """
    at, start = f"{address}/connectors", f"sinkworker connectors start {connector_id}"
    look = f"curl -u USER:PASSWORD '{at}?connectorId={original.id}'"
    steps = [
        f"Stop it there:  curl -u USER:PASSWORD -X POST {at}/{original.id}/stop",
        f"Wait until it is {STATE_PREFIX}STOPPED there, and take its final position, P:  {look}",
        f"Start it here, after that position:  {start} --position P",
    ]
    stopped, position = original.state == "STOPPED", original.position
    if position is not None:
        if stopped:
            return [f"It is stopped there, at position {position}. Start it here:  {start} --position {position}"]
        return [*steps, f"P was {position} just now. What was delivered after P is delivered again; nothing is lost."]
    if original.from_earliest:
        only = "It has no position" if stopped else "If it has none even then"
        begin = f"{only}: begin with the first record, as its initialPosition earliest says:  {start}"
        return [begin] if stopped else [*steps, begin]
    if stopped:
        return [
            "It is stopped there and has no position: as its initialPosition latest says, it begins with what is "
            f"appended after the start:  {start}"
        ]
    return [
        f"It has no position yet, and begins with latest. Wait until it has one there:  {look}",
        *steps,
        f"Without any: start it here first, and then stop it there:  {start}  What is appended between the two is "
        "delivered by both; what it was given before, and had not delivered, is nobody's.",
    ]


def _created(api: ManagementApi, original: Original, connector_id: str) -> Outcome:
    body = {"name": original.name, "settings": dict(original.settings)}
    api.ask(f"create {connector_id}", "POST", f"/{connector_id}", body)
    return Outcome.CREATED


def _looked_at(api: ManagementApi, original: Original, connector_id: str) -> Outcome:
    if api.connectors(ids=[connector_id]):
        raise Refused(f"Connector {connector_id} exists already; --suffix gives copies other ids.", ALREADY_EXISTS, {})
    if violations := examine(Body(original.settings, original.name)).violations:
        raise Refused(f"{connector_id} would be refused:", 3, violations)
    return Outcome.WOULD_CREATE


def _of(settings: Mapping[str, str], wanted: str) -> str:
    return next((value for key, value in settings.items() if key.lower() == wanted.lower()), "")
