"""Clocks that jump by an hour, forwards and back, under load: no promise and no lease rests on a wall clock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apache_kafka import insisted
from tests.faults.midflow import arrives, repeats, watched
from tests.processes import HOME, eventually
from tests.redis_server import RedisServer
from tests.system import IN_FLIGHT, UNHURRIED_S, Flow, System

HOUR_S = 3600
JUMPS_S = (HOUR_S, -HOUR_S, 0)
"""Offsets from the true time, one after the other: an hour forwards, two back, one forwards."""

GOES_ON_WITHIN_S = 30.0
"""A lease of eight seconds runs out, another scheduler takes over, and lanes are sent again."""

pytestmark = pytest.mark.long


class Clock:
    """The wall clock of a process that was started with `environ`; other clocks are as they are."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(0)

    def jump(self, offset_s: int) -> None:
        self._file.write_text(f"{offset_s:+d}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def library() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        reason = "clocks that jump need the library libfaketime"
        if insisted():
            pytest.fail(reason)
        pytest.skip(reason)
    return found[0]


@pytest.fixture
def of_redis(tmp_path: Path, library: Path) -> Clock:
    return Clock(library, tmp_path / "clock-of-redis")


@pytest.fixture
def of_roles(tmp_path: Path, library: Path) -> dict[str, Clock]:
    names = ("scheduler", "coordinator", "worker-0", "worker-1")
    return {name: Clock(library, tmp_path / f"clock-of-{name}") for name in names}


@pytest.fixture
def server(tmp_path: Path, of_redis: Clock) -> Iterator[RedisServer]:
    (files := tmp_path / "redis").mkdir()
    running = RedisServer(files, of_redis.environ, **{"maxmemory-policy": "noeviction", "appendonly": "no"})
    yield running
    running.kill()


@pytest.fixture
def system(tmp_path: Path, server: RedisServer, of_roles: dict[str, Clock]) -> Iterator[System]:
    (home := tmp_path / "system").mkdir()
    environs = {name: clock.environ for name, clock in of_roles.items()}
    with System(home, environs, workers=2, REDIS_URL=server.url, SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S) as running:
        yield running


@pytest.fixture
def flow(system: System) -> Iterator[Flow]:
    flow = system.flow()
    yield flow
    flow.stop()


def test_a_process_whose_clock_jumps_can_rest(tmp_path: Path, library: Path) -> None:
    """`time.sleep` raises OSError there, which would stop a connector."""
    clock = Clock(library, tmp_path / "clock")
    clock.jump(HOUR_S)
    rest = "from sinkworker.bell import pause; pause(0.01)"
    subprocess.run([sys.executable, "-c", rest], env={**os.environ, **clock.environ}, cwd=HOME, check=True)


def test_clocks_of_roles_that_jump_one_by_one(flow: Flow, of_roles: dict[str, Clock]) -> None:
    with watched(flow) as arrivals:
        for offset_s in JUMPS_S:
            for clock in of_roles.values():
                clock.jump(offset_s)
                arrives(flow, arrivals, GOES_ON_WITHIN_S)
    assert repeats(arrivals) == 0


def test_a_clock_of_redis_that_jumps(flow: Flow, of_redis: Clock) -> None:
    with watched(flow) as arrivals:
        for offset_s in JUMPS_S:
            of_redis.jump(offset_s)
            arrives(flow, arrivals, GOES_ON_WITHIN_S)
    assert repeats(arrivals) <= len(JUMPS_S) * IN_FLIGHT  # forwards, every lease has run out (P3)


def test_what_dies_as_the_clock_of_redis_is_put_back_is_replaced_all_the_same(
    system: System, flow: Flow, of_redis: Clock
) -> None:
    """Its leases would last for an hour more."""
    eventually(lambda: system.roles["scheduler"].said(f"connector={flow.id}"))
    second = system.another("scheduler", ["sinkworker", "scheduler"])
    second.start()
    try:
        eventually(lambda: second.said("standing by"), within_s=30)
        with watched(flow) as arrivals:
            for name in ("scheduler", "worker-0"):
                system.roles[name].kill()
            of_redis.jump(-HOUR_S)
            arrives(flow, arrivals, GOES_ON_WITHIN_S)
            eventually(lambda: second.said("running from position"))
            for name in ("scheduler", "worker-0"):
                system.roles[name].start()
        assert repeats(arrivals) <= IN_FLIGHT
    finally:
        second.destroy()
