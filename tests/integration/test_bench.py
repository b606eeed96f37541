"""`sinkworker bench` in small: the truth and the shape of its JSON, its errors, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.apache_kafka import running
from tests.command import Command, command
from tests.processes import eventually

SMALL = ("--events", "2000", "--streams", "200", "--rounds", "1", "--json")

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the benchmark's processes in /proc")


@contextlib.contextmanager
def bench(folder: Path, *arguments: str, **variables: str) -> Iterator[Command]:
    with command(folder, "bench", *arguments, **variables) as running:
        yield running


@pytest.mark.long
def test_it_measures_every_contestant_whatever_is_configured_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # Two workers, so that the warm-up has to reach both.
    options = ("--workers", "2", "--latency", "1")
    with bench(tmp_path, *SMALL, *options, KURRENTDB_URI="kdb://db.example:2113") as running:
        out, _ = running.process.communicate(timeout=90)
        assert running.process.returncode == 0, running.log.read_text()
        assert running.said("round 1 of 1: sinkworker-2")
        assert running.processes() == []
        assert list(running.temporary.iterdir()) == []
    found = json.loads(out)
    contestants = ["naive", "tuned", "sinkworker-2"]
    assert (found["events"], found["rounds"]) == (2000, 1)
    assert [run["contestant"] for run in found["runs"]] == contestants
    assert list(found["medians"]) == list(found["ratios"]) == contestants
    for run in found["runs"]:
        assert run["counted"]
        assert run["duplicates"] == run["missing"] == run["altered"] == run["unexpected"] == run["out_of_order"] == 0
        assert run["events_per_second"] == pytest.approx(2000 / run["seconds"], rel=0.1)
        parts = {name: used for name, used in run["cpu_us_per_event"].items() if name != "total"}
        roles = {"scheduler", "coordinator", "api", "workers"} if "sinkworker" in run["contestant"] else {"script"}
        assert parts.keys() == roles
        assert sum(parts.values()) == pytest.approx(run["cpu_us_per_event"]["total"], abs=0.1)
        assert max(parts.values()) > 0
        assert run["servers_cpu_us_per_event"].keys() == {"kurrentdb", "kafka", "redis"}
    assert found["ratios"]["naive"]["to_naive"] == {"events_per_second": 1.0, "cpu_us_per_event": 1.0}
    assert found["latency_ms"].keys() == {"naive", "sinkworker-2"}
    for latency in found["latency_ms"].values():
        assert latency["events"] == 200
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]


@pytest.mark.long
def test_ctrl_c_in_the_middle_of_a_run_stops_everything_and_ends_with_130(tmp_path: Path) -> None:
    with bench(tmp_path, *SMALL, "--workers", "1", "--latency", "0") as running:
        eventually(lambda: running.said("sinkworker-1 …"), within_s=60)
        running.process.send_signal(signal.SIGINT)
        out, _ = running.process.communicate(timeout=15)
        assert running.process.returncode == 130
        assert out == b""
        assert running.processes() == []
        assert list(running.temporary.iterdir()) == []


def test_a_script_that_dies_ends_it_with_the_reason_and_the_place_of_the_logs(tmp_path: Path) -> None:
    with bench(tmp_path, *SMALL, "--workers", "1") as running:
        (victim,) = eventually(lambda: running.processes("sinkworker.bench.script"), within_s=60)
        os.kill(victim, signal.SIGKILL)
        assert running.process.wait(20) == 3
        assert running.said("it was killed by SIGKILL")
        assert running.said(f"All logs are in {running.temporary}")
        assert running.processes() == []


@pytest.mark.parametrize(
    "arguments", [("--workers", "0"), ("--workers", "1,many"), ("--rounds", "0"), ("--latency", "-1")]
)
def test_wrong_options_end_with_2_and_a_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with bench(tmp_path, *arguments) as running:
        assert running.process.wait(10) == 2
        assert running.said(arguments[0])
        assert not running.said("Traceback")


@pytest.mark.long
def test_what_exactly_once_costs_is_measured_on_brokers_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with running(tmp_path / "kafka") as kafka:
        options = ("--workers", "1", "--latency", "0", "--exactly-once", "--kafka", kafka.servers)
        with bench(tmp_path, *SMALL, *options) as measuring:
            out, _ = measuring.process.communicate(timeout=120)
            assert measuring.process.returncode == 0, measuring.log.read_text()
        left = AdminClient({"bootstrap.servers": kafka.servers}).list_topics(timeout=10).topics
    found = json.loads(out)
    assert [run["contestant"] for run in found["runs"]] == ["naive", "tuned", "sinkworker-1", "exactly-once-1"]
    assert all(run["counted"] for run in found["runs"])
    assert found["runs"][-1]["duplicates"] == 0
    assert all(name.startswith("__") for name in left)


def test_exactly_once_is_not_measured_on_the_embedded_broker(tmp_path: Path) -> None:
    with bench(tmp_path, "--exactly-once") as refused:
        assert refused.process.wait(20) == 2
        assert "needs --kafka" in refused.log.read_text()
