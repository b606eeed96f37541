"""A role never guesses a port and never believes the file of a dead stack."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sinkworker.config import Config, Secret
from sinkworker.errors import Misconfigured
from sinkworker.local import addresses
from sinkworker.process import Stopped

GIVEN = {
    "KURRENTDB_URI": "kdb://127.0.0.1:1001?Tls=false",
    "REDIS_URL": "redis://127.0.0.1:1002/0",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1003",
}


def test_a_running_stack_gives_what_is_not_configured_and_nothing_else(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path, redis_url=Secret("redis://mine:6379/0"))
    with addresses.published(tmp_path, GIVEN):
        found = addresses.resolve_now(config)
    assert found.redis_url is not None
    assert found.redis_url.reveal() == "redis://mine:6379/0"
    assert found.kurrentdb_uri is not None
    assert found.kurrentdb_uri.reveal() == GIVEN["KURRENTDB_URI"]
    assert found.kafka_bootstrap_servers == "127.0.0.1:1003"


def test_a_file_whose_stack_is_dead_is_not_believed(tmp_path: Path) -> None:
    with addresses.published(tmp_path, GIVEN):
        pass
    with pytest.raises(Misconfigured, match="Start `sinkworker local`"):
        addresses.resolve_now(Config(data_dir=tmp_path))
    assert addresses.last_known(tmp_path) == GIVEN


def test_the_file_of_a_dead_stack_is_not_believed_while_the_next_one_starts(tmp_path: Path) -> None:
    with addresses.published(tmp_path, GIVEN):
        pass
    with addresses.sole_stack(tmp_path):
        assert addresses.running(tmp_path) == {}


def test_a_stack_that_is_starting_is_not_mistaken_for_none(tmp_path: Path) -> None:
    with addresses.sole_stack(tmp_path), pytest.raises(Misconfigured, match="is starting"):
        addresses.resolve_now(Config(data_dir=tmp_path))


def test_a_stack_that_lacks_an_address_is_named_with_the_variable(tmp_path: Path) -> None:
    with (
        addresses.sole_stack(tmp_path),
        addresses.published(tmp_path, {"REDIS_URL": GIVEN["REDIS_URL"]}),
        pytest.raises(Misconfigured, match="does not give KURRENTDB_URI, KAFKA_BOOTSTRAP_SERVERS"),
    ):
        addresses.resolve_now(Config(data_dir=tmp_path))


def test_a_one_shot_command_is_told_at_once_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"No address for KURRENTDB_URI.*sinkworker local"):
        addresses.resolve_now(Config(data_dir=tmp_path))


def test_a_command_is_asked_only_for_the_addresses_that_it_needs(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path, kafka_bootstrap_servers="broker.example:9092")
    assert addresses.resolve_now(config, ["kafka_bootstrap_servers"]) == config
    with pytest.raises(Misconfigured, match=r"^No address for REDIS_URL\. Start"):
        addresses.resolve_now(config, ["redis_url"])


def test_a_role_waits_for_the_stack_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found: list[Config] = []
    waiting = threading.Thread(
        target=lambda: found.append(addresses.resolve(Config(data_dir=tmp_path), threading.Event()))
    )
    waiting.start()
    with addresses.published(tmp_path, GIVEN):
        waiting.join(10)
    assert found[0].kafka_bootstrap_servers == "127.0.0.1:1003"


def test_a_role_that_waits_can_be_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        addresses.resolve(Config(data_dir=tmp_path), stop)
    assert "waiting for KURRENTDB_URI, REDIS_URL, KAFKA_BOOTSTRAP_SERVERS" in caplog.text


def test_with_everything_configured_no_file_is_looked_for(tmp_path: Path) -> None:
    config = Config(Secret("kdb://a"), Secret("redis://b"), "c:9092", data_dir=tmp_path / "absent")
    assert addresses.resolve(config, threading.Event()) is config


def test_a_second_stack_on_one_data_dir_is_refused_with_one_sentence(tmp_path: Path) -> None:
    with (
        addresses.sole_stack(tmp_path),
        pytest.raises(Misconfigured, match="Another `sinkworker local` runs"),
        addresses.sole_stack(tmp_path),
    ):
        pass


def test_a_stack_starts_while_roles_keep_looking_at_its_lock(tmp_path: Path) -> None:
    with addresses.sole_stack(tmp_path):
        pass
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            addresses.running(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(20):
            with addresses.sole_stack(tmp_path):
                pass
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_the_data_dir_belongs_to_this_user_alone(tmp_path: Path) -> None:
    made = addresses.prepare_data_dir(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_data_dir_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match=r"cannot be used: .*SINKWORKER_DATA_DIR"):
        addresses.prepare_data_dir(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_dir_that_may_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    done = subprocess.run(
        [sys.executable, "-m", "sinkworker", "local"],
        env={**os.environ, "SINKWORKER_DATA_DIR": str(locked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    with (
        addresses.published(tmp_path, {"REDIS_URL": "http://wrong"}),
        pytest.raises(Misconfigured, match="REDIS_URL must start with"),
    ):
        addresses.resolve_now(Config(data_dir=tmp_path))
