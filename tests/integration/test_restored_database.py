"""R8: a database restored from an older backup stops the connector instead of skipping records without a word."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinkworker.connectors.lifecycle import State
from tests.integration.kurrentdb.standin import StandIn
from tests.oracle import consume
from tests.processes import eventually
from tests.system import System


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    running = StandIn(tmp_path / "events.db").start()
    yield running
    running.kill()


@pytest.fixture
def system(tmp_path: Path, stand_in: StandIn) -> Iterator[System]:
    with System(tmp_path, workers=1, KURRENTDB_URI=stand_in.uri) as running:
        yield running


def backup(stand_in: StandIn, to: Path) -> None:
    stand_in.kill()
    for file in stand_in.data.parent.glob(f"{stand_in.data.name}*"):
        shutil.copy(file, to / file.name)
    stand_in.start()


def restore(stand_in: StandIn, source: Path) -> None:
    stand_in.kill()
    for file in stand_in.data.parent.glob(f"{stand_in.data.name}*"):
        file.unlink()
    for file in source.glob(f"{stand_in.data.name}*"):
        shutil.copy(file, stand_in.data.parent / file.name)
    stand_in.start()


@pytest.mark.parametrize("scheduler_sees_it", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_restored_database_stops_the_connector_and_a_reset_starts_over(
    system: System, stand_in: StandIn, tmp_path: Path, scheduler_sees_it: bool
) -> None:
    flow = system.flow()
    flow.append(50)
    assert flow.delivered().holds
    saved = tmp_path / "backup"
    saved.mkdir()
    backup(stand_in, saved)
    flow.append(50)
    assert flow.delivered().holds
    if not scheduler_sees_it:
        system.roles["scheduler"].kill()
    restore(stand_in, saved)
    flow.append(80)  # grows past everything that is remembered
    if not scheduler_sees_it:
        system.roles["scheduler"].start()

    eventually(lambda: flow.connector.error is not None, within_s=30)
    error = flow.connector.error
    assert error is not None
    assert error.code == "database-restored"
    assert flow.connector.state is State.STOPPED

    system.registry.reset(flow.id)
    log = eventually(flow.log)
    assert len(log) == 130
    eventually(lambda: flow.position >= log[-1].commit_position)
    landed = {message.record_id for message in consume(system.servers, flow.topic)}
    assert {str(event.id) for event in log} <= landed
