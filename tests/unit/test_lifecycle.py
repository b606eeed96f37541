"""A connector as the fold of its events, and what commands make of it (contract §1.7, §1.8)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sinkworker.connectors import commands, lifecycle
from sinkworker.connectors.errors import AlreadyExists, FailedPrecondition
from sinkworker.connectors.lifecycle import Change, Connector, Fact, State, Unreadable
from sinkworker.errors import OtherRelease
from sinkworker.model import Cursor, LaneNumber, Layout, Position, Revision

SETTINGS = {"instanceTypeName": "kafka-sink", "topic": "loans"}
ID = "loans-sink"


class History:
    """The events of one stream, folded as they are written."""

    def __init__(self) -> None:
        self.connector: Connector | None = None
        self.revision = -1

    def write(self, change: Change | None) -> Connector:
        assert change is not None
        data = change.recorded(datetime.now(UTC))
        self.revision += 1
        fact = Fact(change.type, data, Revision(self.revision), f"event-{self.revision}")
        self.connector = lifecycle.apply(self.connector, fact)
        assert self.connector is not None
        return self.connector

    def report(self, type: lifecycle.EventType, **data: Any) -> Connector:
        assert self.connector is not None
        return self.write(Change(type, {"epoch": self.connector.epoch, **data}))


@pytest.fixture
def history() -> History:
    history = History()
    history.write(commands.create(None, ID, ID, SETTINGS))
    return history


def started(history: History, position: Position | None = None) -> Connector:
    assert history.connector is not None
    return history.write(commands.start(history.connector, position))


def taken_over(history: History) -> Connector:
    return history.write(Change(lifecycle.EventType.TAKEN_OVER, {"instance": "here"}))


def running(history: History) -> Connector:
    started(history)
    taken_over(history)
    return history.report(lifecycle.EventType.RUNNING)


def test_the_states_follow_each_other(history: History) -> None:
    assert history.connector is not None
    assert history.connector.state is State.STOPPED
    assert started(history).state is State.ACTIVATING
    taken_over(history)
    assert history.report(lifecycle.EventType.RUNNING).state is State.RUNNING
    assert history.write(commands.stop(history.connector)).state is State.DEACTIVATING
    assert history.report(lifecycle.EventType.STOPPED).state is State.STOPPED


def test_a_failed_connector_is_stopped_with_its_reason_until_it_runs_again(history: History) -> None:
    failed = failure(history, running(history).activation)
    assert (failed.state, failed.should_run) == (State.STOPPED, True)
    assert failed.error is not None
    assert failed.error.code == "topic-missing"
    assert running(history).error is None


def test_a_failure_of_what_was_stopped_meanwhile_leaves_the_next_start_its_turn(history: History) -> None:
    stopping = history.write(commands.stop(running(history)))
    again = history.write(commands.start(stopping, None))
    failed = failure(history, stopping.activation)
    assert (failed.state, failed.activation) == (State.ACTIVATING, again.activation)
    assert failed.error is not None


def failure(history: History, activation: Revision | None) -> Connector:
    return history.report(lifecycle.EventType.FAILED, activation=activation, code="topic-missing", message="no topic")


def waiting(connector: Connector) -> Change | None:
    data = {"epoch": connector.epoch, "code": "kafka-unavailable", "message": "no Kafka"}
    return commands.report(connector, Change(lifecycle.EventType.WAITING, data))


def test_a_connector_that_waits_says_what_for_until_it_goes_on(history: History) -> None:
    waits = history.write(waiting(running(history)))
    assert (waits.state, waits.should_run) == (State.RUNNING, True)
    assert waits.error == lifecycle.Failure("kafka-unavailable", "no Kafka")
    assert waiting(waits) is None  # once, however long it lasts
    assert commands.report(waits, Change(lifecycle.EventType.RUNNING, {"epoch": waits.epoch})) is not None
    assert history.report(lifecycle.EventType.RUNNING).error is None


def test_a_connector_that_does_not_run_waits_for_nothing(history: History) -> None:
    assert waiting(failure(history, running(history).activation)) is None


def test_an_epoch_is_the_revision_of_its_takeover(history: History) -> None:
    started(history)
    assert taken_over(history).epoch == history.revision


def test_reports_of_an_older_epoch_change_nothing(history: History) -> None:
    old = running(history).epoch
    taken_over(history)
    late = history.write(Change(lifecycle.EventType.FAILED, {"epoch": old, "code": "x", "message": "late"}))
    assert (late.state, late.error) == (State.RUNNING, None)


def test_a_running_instance_keeps_its_settings_until_it_is_started_again(history: History) -> None:
    connector = running(history)
    changed = history.write(commands.reconfigure(connector, {"topic": "other"}))
    assert changed.settings["topic"] == "other"
    assert changed.active_settings["topic"] == "loans"
    history.write(commands.stop(changed))
    stopped = history.report(lifecycle.EventType.STOPPED)
    assert history.write(commands.start(stopped, None)).active_settings["topic"] == "other"


def test_a_generation_serves_the_request_and_forgets_older_progress(history: History) -> None:
    started(history, Position(77))
    taken_over(history)
    opened = history.report(
        lifecycle.EventType.GENERATION_OPENED,
        start=Cursor.BEGINNING.encode(),
        layout=Layout(4, 4, "k").encode(),
        fingerprint="f",
        reason="first start",
        byPosition=True,
    )
    assert opened.generation is not None
    assert (opened.generation.id, opened.start_request) == (f"event-{history.revision}", None)
    progress = {"1": Cursor(Position(9), Position(9)).encode()}
    drained = history.report(lifecycle.EventType.DRAINED, generation=opened.generation.id, progress=progress)
    assert drained.drained == {LaneNumber(1): Cursor(Position(9), Position(9))}
    assert drained.drained_revision == history.revision
    stale = history.report(lifecycle.EventType.DRAINED, generation="another", progress={})
    assert stale.drained == drained.drained


def test_a_stop_that_was_accepted_outranks_a_late_report_of_running(history: History) -> None:
    started(history)
    taken_over(history)
    assert history.connector is not None
    history.write(commands.stop(history.connector))
    assert history.report(lifecycle.EventType.RUNNING).state is State.DEACTIVATING


def test_commands_mind_the_state(history: History) -> None:
    connector = running(history)
    with pytest.raises(FailedPrecondition, match="CONNECTOR_STATE_RUNNING"):
        commands.start(connector, None)
    with pytest.raises(FailedPrecondition, match="CONNECTOR_STATE_RUNNING"):
        commands.reset(connector, Position(0))
    with pytest.raises(FailedPrecondition, match="CONNECTOR_STATE_RUNNING"):
        commands.delete(connector)
    with pytest.raises(AlreadyExists):
        commands.create(connector, ID, ID, SETTINGS)


def test_a_deleted_connectors_id_starts_a_new_life(history: History) -> None:
    assert history.connector is not None
    running(history)
    history.write(commands.stop(history.connector))
    stopped = history.report(lifecycle.EventType.STOPPED)
    deleted = history.write(commands.delete(stopped))
    assert deleted.deleted
    again = history.write(commands.create(deleted, ID, ID, SETTINGS))
    assert (again.deleted, again.generation, again.epoch) == (False, None, history.revision)


def test_an_event_of_a_newer_release_is_refused(history: History) -> None:
    for type in ("$sinkworker-renamed", "$sinkworker-of-tomorrow"):
        fact = Fact(type, {"version": lifecycle.VERSION + 1}, Revision(1), "id")
        with pytest.raises(OtherRelease, match=f"has version {lifecycle.VERSION + 1}"):
            lifecycle.apply(history.connector, fact)


@pytest.mark.parametrize("version", [None, "1", 0, -1, 1.0, True])
def test_an_event_with_a_version_that_no_release_writes_is_damaged(history: History, version: object) -> None:
    fact = Fact("$sinkworker-renamed", {"version": version}, Revision(1), "id")
    with pytest.raises(Unreadable, match="its version is"):
        lifecycle.apply(history.connector, fact)


def test_events_of_every_version_up_to_the_known_one_are_read(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = Change(lifecycle.EventType.RENAMED, {"name": "other"}, version=lifecycle.VERSION + 1)
    with pytest.raises(OtherRelease):
        history.write(change)
    monkeypatch.setattr(lifecycle, "VERSION", lifecycle.VERSION + 2)
    assert history.write(change).name == "other"
    assert history.write(Change(lifecycle.EventType.RENAMED, {"name": "first"})).name == "first"


def test_an_event_is_written_in_the_oldest_version_that_will_do() -> None:
    now = datetime.now(UTC)
    assert Change(lifecycle.EventType.RUNNING, {}).recorded(now)["version"] == 1
    needs = Change(lifecycle.EventType.CREATED, {}, version=2)
    assert needs.of_settings(SETTINGS).recorded(now)["version"] == 2


def test_what_delivers_exactly_once_is_refused_by_releases_that_cannot() -> None:
    needs = Change(lifecycle.EventType.CREATED, {}).of_version(lifecycle.EXACTLY_ONCE_VERSION)
    assert needs.recorded(datetime.now(UTC))["version"] == 2
    assert needs.of_version(lifecycle.FIRST_VERSION).version == 2


def test_an_event_that_a_newer_release_added_and_that_may_be_ignored_is(history: History) -> None:
    before = history.connector
    assert before is not None
    data = {"version": 1, "time": datetime.now(UTC).isoformat()}
    after = lifecycle.apply(before, Fact("$sinkworker-of-tomorrow", data, Revision(1), "id"))
    assert after is not None
    assert (after.state, after.settings, after.revision) == (before.state, before.settings, 1)
