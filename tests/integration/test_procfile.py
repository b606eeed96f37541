"""`honcho start` runs the whole system from the Procfile; Ctrl-C and another start repeat nothing (P3)."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from sinkworker.demo.api import Api
from sinkworker.demo.background import Background
from sinkworker.demo.database import LoanDatabase
from sinkworker.demo.flow import CONNECTOR, PARTITIONS, SETTINGS, TOPIC
from sinkworker.demo.judge import differs_anywhere, judge
from sinkworker.demo.loans import LoanBook
from sinkworker.demo.patience import patiently
from sinkworker.demo.topic import Counter, consume, create
from sinkworker.errors import Transient
from sinkworker.local import addresses
from tests.ports import free_port
from tests.processes import HOME, clean_environment, eventually, start_sinkworker

EVENTS = 15_000
NEVER = threading.Event()


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A broker that outlives the system under test: the embedded one forgets everything when it stops."""
    others = {"KURRENTDB_URI": "kdb://db.example:2113", "REDIS_URL": "redis://redis.example:6379/0"}
    environ = clean_environment(SINKWORKER_DATA_DIR=str(folder / "broker"), **others)
    process = start_sinkworker("local", cwd=folder, log=folder / "broker.log", environ=environ)
    try:
        yield eventually(lambda: addresses.running(folder / "broker"))["KAFKA_BOOTSTRAP_SERVERS"]
    finally:
        process.kill()
        process.communicate()


def virtual_environment(folder: Path) -> None:
    """What the Procfile expects beside it, made of this interpreter's."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    for command in ("sinkworker", "celery"):
        script = folder / ".venv" / "bin" / command
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {command} "$@"\n')
        script.chmod(0o755)
    shutil.copy(HOME / "Procfile", folder)


@contextlib.contextmanager
def honcho(folder: Path, run: int, **variables: str) -> Iterator[Path]:
    """The system; inside it runs, then it gets what Ctrl-C sends. Gives its output."""
    log = folder / f"honcho-{run}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from honcho.command import main; main()", "start", "-c", "worker=2"],
            cwd=folder,
            env=clean_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield log
        process.send_signal(signal.SIGINT)
        process.wait(10)
    finally:
        process.terminate()
        process.wait(10)


def test_ctrl_c_under_load_and_another_start_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    virtual_environment(tmp_path)
    with broker(tmp_path) as servers:
        variables = {
            "KAFKA_BOOTSTRAP_SERVERS": servers,
            "SINKWORKER_API_PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
        }
        create(servers, TOPIC, PARTITIONS)
        counter = Counter(servers, TOPIC, PARTITIONS)
        with honcho(tmp_path, 1, **variables) as first:
            found = eventually(lambda: addresses.running(tmp_path / ".sinkworker"))
            api = Api(f"http://127.0.0.1:{variables['SINKWORKER_API_PORT']}")
            patiently(lambda: api.create(CONNECTOR, SETTINGS), NEVER)
            patiently(lambda: api.start(CONNECTOR), NEVER)
            appending = Background(lambda: append_all(found["KURRENTDB_URI"]), "appending")
            eventually(lambda: counter.count() > 500, within_s=20)
        assert counter.count() < EVENTS, "the stop came too late to be one under load"
        assert clean_stops(first) == 7
        with honcho(tmp_path, 2, **variables):
            last = appending.result()
            database = LoanDatabase(found["KURRENTDB_URI"])
            eventually(lambda: checkpoint(database) >= last, within_s=30)
            verdict = judge(database.log(), consume(servers, TOPIC), differs_anywhere(CONNECTOR))
    assert verdict.holds, verdict
    assert verdict.duplicates == 0  # P3


def append_all(uri: str) -> int:
    """Append everything, over the restart; answer the last position."""
    database, position = LoanDatabase(uri), 0
    for append in LoanBook(300).appends(EVENTS):
        position = patiently(lambda append=append: database.append(append), NEVER)  # type: ignore[misc]
    return position


def checkpoint(database: LoanDatabase) -> int:
    try:
        found = database.checkpoint(CONNECTOR)
    except Transient:
        return -1
    return -1 if found is None else found


def clean_stops(log: Path) -> int:
    text = log.read_text()
    assert "SIGKILL" not in text
    return text.count("stopped (rc=0)")
