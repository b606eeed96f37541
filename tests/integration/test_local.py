"""`sinkworker local`: starts what is missing, keeps it running, and leaves nothing behind, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from confluent_kafka.admin import AdminClient
from kurrentdbclient import KurrentDBClient

from sinkworker.local import addresses
from tests.processes import alive, clean_environment, eventually, processes_mentioning, start_sinkworker


@dataclass
class Local:
    """A running `sinkworker local` in a folder of its own."""

    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    @property
    def data_dir(self) -> Path:
        return self.folder / ".sinkworker"

    def addresses(self) -> Mapping[str, str]:
        return eventually(lambda: addresses.running(self.data_dir))

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def parts(self) -> list[int]:
        """Every process that serves this folder: each has a path in it, or a port of it, on its command line."""
        ports = [urlsplit(value if "://" in value else f"//{value}").port for value in self.addresses().values()]
        return sorted({pid for port in ports for pid in processes_mentioning(str(port))})


@contextlib.contextmanager
def local(folder: Path, *arguments: str, **variables: str) -> Iterator[Local]:
    log = folder / "local.log"
    process = start_sinkworker("local", *arguments, cwd=folder, log=log, environ=clean_environment(**variables))
    try:
        yield Local(process, folder, log)
    finally:
        process.terminate()
        process.communicate(timeout=15)


def test_every_part_answers_once_the_addresses_are_there_and_all_end_with_it(tmp_path: Path) -> None:
    with local(tmp_path) as stack:
        found = stack.addresses()
        assert redis.Redis.from_url(found["REDIS_URL"]).ping()
        assert redis.Redis.from_url(found["REDIS_URL"]).config_get("maxmemory-policy") == {
            "maxmemory-policy": "noeviction"
        }
        assert AdminClient({"bootstrap.servers": found["KAFKA_BOOTSTRAP_SERVERS"]}).list_topics(timeout=5)
        assert KurrentDBClient(found["KURRENTDB_URI"]).get_commit_position() >= 0
        parts = stack.parts()
        assert len(parts) == 3
        for title in ("embedded: the KurrentDB stand-in", "Valkey", "Tansu"):
            assert stack.said(title) or (title == "Valkey" and stack.said("-server from"))
        stack.process.terminate()
        assert stack.process.wait(10) == 0
        assert not any(alive(pid) for pid in parts)


def test_kill_9_leaves_no_process_and_the_next_stack_has_the_same_ports(tmp_path: Path) -> None:
    with local(tmp_path) as stack:
        before = stack.addresses()
        redis.Redis.from_url(before["REDIS_URL"]).set("kept", "yes")
        parts = stack.parts()
        stack.process.kill()
        stack.process.wait()
        eventually(lambda: not any(alive(pid) for pid in parts))
    with local(tmp_path) as stack:
        assert stack.addresses() == before
        assert redis.Redis.from_url(before["REDIS_URL"]).get("kept") == b"yes"


def test_a_part_that_dies_is_started_again_where_it_was(tmp_path: Path) -> None:
    with local(tmp_path) as stack:
        url = stack.addresses()["REDIS_URL"]
        client = redis.Redis.from_url(url)
        client.set("kept", "yes")
        first = client.info("server")["process_id"]
        os.kill(first, signal.SIGKILL)

        def back() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(client.info("server")["process_id"] != first)
            return False

        eventually(back)
        assert client.get("kept") == b"yes"
        assert stack.said("redis was killed by SIGKILL; starting it again")


def test_a_second_stack_on_the_same_data_dir_ends_with_3_and_one_sentence(tmp_path: Path) -> None:
    with local(tmp_path) as stack:
        stack.addresses()
        second = start_sinkworker("local", cwd=tmp_path, log=tmp_path / "second.log")
        assert second.wait(10) == 3
        second.communicate()
        said = (tmp_path / "second.log").read_text()
        assert "Another `sinkworker local` runs" in said
        assert "Traceback" not in said


def test_what_is_configured_is_not_started(tmp_path: Path) -> None:
    with local(
        tmp_path,
        KURRENTDB_URI="kdb://admin:secret@db.example:2113",
        KAFKA_BOOTSTRAP_SERVERS="broker.example:9092",
    ) as stack:
        assert set(stack.addresses()) == {"REDIS_URL"}
        assert stack.said("a real server is configured for KURRENTDB_URI: kdb://***@db.example:2113")
        assert not stack.said("secret")
        assert len(stack.parts()) == 1


def test_with_everything_configured_it_keeps_running_with_nothing_to_start(tmp_path: Path) -> None:
    with local(
        tmp_path,
        KURRENTDB_URI="kdb://db.example:2113",
        KAFKA_BOOTSTRAP_SERVERS="broker.example:9092",
        REDIS_URL="redis://redis.example:6379/0",
    ) as stack:
        eventually(lambda: stack.said("nothing to start"))
        assert stack.process.poll() is None
        stack.process.terminate()
        assert stack.process.wait(10) == 0
        assert not stack.data_dir.exists()


def test_the_env_file_appears_when_all_answer_and_goes_when_the_stack_stops(tmp_path: Path) -> None:
    asked = tmp_path / "stack.env"
    with local(tmp_path, "--env-file", str(asked)) as stack:
        eventually(asked.exists)
        assert addresses.read(asked) == stack.addresses()
    assert not asked.exists()


def test_an_env_file_that_was_made_empty_is_taken_and_left_empty(tmp_path: Path) -> None:
    asked = tmp_path / "made-by-mktemp"
    asked.touch()
    with local(tmp_path, "--env-file", str(asked)) as stack:
        eventually(lambda: addresses.read(asked) == stack.addresses())
    assert asked.read_text() == ""


def test_the_env_file_may_be_dot_env_and_what_a_killed_stack_left_there_is_no_configuration(tmp_path: Path) -> None:
    with local(tmp_path, "--env-file", ".env") as stack:
        eventually((tmp_path / ".env").exists)
        before = stack.addresses()
        stack.process.kill()
    assert addresses.read(tmp_path / ".env") == before
    # honcho hands what is in .env to every process it starts
    with local(tmp_path, "--env-file", ".env", **before) as stack:
        eventually(lambda: stack.said("everything answers"))
        assert stack.addresses() == before
    assert not (tmp_path / ".env").exists()


def test_an_env_file_with_content_of_the_users_is_refused_with_2(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine\n")
    process = start_sinkworker("local", "--env-file", "notes.txt", cwd=tmp_path, log=tmp_path / "log")
    assert process.wait(10) == 2
    process.communicate()
    assert "content that is not ours. Choose another" in (tmp_path / "log").read_text()
    assert (tmp_path / "notes.txt").read_text() == "mine\n"


def test_a_stack_that_is_told_to_stop_serves_on_until_the_last_client_has_gone(tmp_path: Path) -> None:
    with local(tmp_path) as stack:
        role = redis.Redis.from_url(stack.addresses()["REDIS_URL"])
        role.ping()
        stack.process.terminate()
        eventually(lambda: stack.said("serving on"))
        assert role.ping()
        role.close()
        assert stack.process.wait(2) == 0


@pytest.mark.long
def test_a_stack_whose_clients_stay_is_gone_before_a_supervisor_would_kill_it(tmp_path: Path) -> None:
    with local(tmp_path) as stack:
        role = redis.Redis.from_url(stack.addresses()["REDIS_URL"])
        role.ping()
        stack.process.terminate()
        assert stack.process.wait(5) == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with local(tmp_path) as stack:
        parts = stack.parts()
        role = redis.Redis.from_url(stack.addresses()["REDIS_URL"])
        role.ping()
        stack.process.terminate()
        eventually(lambda: stack.said("serving on"))
        stack.process.terminate()
        assert stack.process.wait(1) == 128 + signal.SIGTERM
        eventually(lambda: not any(alive(pid) for pid in parts))


def test_ports_of_the_previous_run_that_are_taken_are_not_used(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        data_dir = addresses.prepare_data_dir(tmp_path / ".sinkworker")
        addresses.write(data_dir / addresses.FILE, {"REDIS_URL": f"redis://127.0.0.1:{port}/0"})
        with local(tmp_path, KURRENTDB_URI="kdb://a.example", KAFKA_BOOTSTRAP_SERVERS="a.example:1") as stack:
            assert stack.addresses()["REDIS_URL"] != f"redis://127.0.0.1:{port}/0"


def test_config_show_gives_each_value_and_its_origin_without_secrets(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SINKWORKER_API_PORT=9001\n")
    environ = clean_environment(REDIS_URL="redis://:hush@127.0.0.1:1/0")
    process = start_sinkworker("config", "show", "--json", cwd=tmp_path, log=tmp_path / "log", environ=environ)
    out, _ = process.communicate(timeout=10)
    shown = json.loads(out)
    assert shown["SINKWORKER_API_PORT"] | {"meaning": ""} == {
        "name": "SINKWORKER_API_PORT",
        "value": "9001",
        "origin": ".env",
        "meaning": "",
    }
    assert shown["REDIS_URL"]["origin"] == "environment"
    assert shown["REDIS_URL"]["value"] == "redis://***@127.0.0.1:1/0"
    assert shown["KURRENTDB_URI"]["value"] is None
    assert b"hush" not in out
