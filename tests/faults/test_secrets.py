"""No secret shows while things fail, at the level that says most: not in logs, answers, events, Redis or Flower."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sinkworker.connectors.lifecycle import State
from tests.apache_kafka import PASSWORD as KAFKA_PASSWORD
from tests.apache_kafka import ApacheKafka, running
from tests.integration.kurrentdb.standin import StandIn
from tests.ports import free_port
from tests.processes import eventually
from tests.redis_server import RedisServer
from tests.secrets import Overheard, assert_clean, events, everything, flower_answers
from tests.system import Flow, Role, System
from tests.tls import Authority, TlsProxy

pytestmark = pytest.mark.long

WRONG = "wrong-password-of-kafka"
TOKEN = "token-of-the-deployment"
REDIS_PASSWORD = "password-of-redis"
DATABASE_PASSWORD = "password-of-the-database"
API_PASSWORD = "password-of-the-api"
WRONG_API_PASSWORD = "wrong-password-of-the-api"
SECRETS = (KAFKA_PASSWORD, WRONG, TOKEN, REDIS_PASSWORD, DATABASE_PASSWORD, API_PASSWORD, WRONG_API_PASSWORD)
AS_SENT = [base64.b64encode(f"admin:{each}".encode()).decode() for each in SECRETS]

THROWS = base64.b64encode(b"function transform(record) { throw new Error('no') }").decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    with running(tmp_path_factory.mktemp("apache-kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder, password=REDIS_PASSWORD, requirepass=REDIS_PASSWORD)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[StandIn]:
    running = StandIn(folder / "events.db", "--user", f"admin:{DATABASE_PASSWORD}").start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def system(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, kafka: ApacheKafka, server: RedisServer, database: StandIn
) -> Iterator[System]:
    authority = Authority(tmp_path_factory.mktemp("authority"), "authority")
    with (
        TlsProxy(database.port, authority.issue("kurrentdb")) as proxy,
        System(
            folder,
            workers=2,
            REDIS_URL=f"redis://:{REDIS_PASSWORD}@127.0.0.1:{server.port}/0",
            KURRENTDB_URI=f"kurrentdb://admin:{DATABASE_PASSWORD}@127.0.0.1:{proxy.port}?tlsCaFile={authority.file}",
            KAFKA_BOOTSTRAP_SERVERS=kafka.servers,
            SINKWORKER_DATA_PROTECTION_TOKEN=TOKEN,
            SINKWORKER_API_USER="admin",
            SINKWORKER_API_PASSWORD=API_PASSWORD,
            SINKWORKER_LOG_LEVEL="DEBUG",
        ) as running,
    ):
        yield running


def test_no_secret_shows_when_things_fail(
    system: System, kafka: ApacheKafka, server: RedisServer, database: StandIn, folder: Path
) -> None:
    port, flower_port = free_port(), free_port()
    flower_argv = ["celery", "-A", "tasks", "flower", "--address=127.0.0.1", f"--port={flower_port}"]
    api = system.another("api", ["sinkworker", "api"], SINKWORKER_API_PORT=str(port))
    flower = system.another("flower", flower_argv, FLOWER_UNAUTHENTICATED_API="true")
    found: dict[str, str] = {}
    try:
        for role in (api, flower):
            role.start()
        eventually(lambda: api.said("listening on"), within_s=30)
        eventually(lambda: flower.said("Connected to"), within_s=30)
        with Overheard(system.redis) as sent:
            failed = [a_wrong_password(system, kafka), a_transformation_that_throws(system, kafka)]
            flow = system.flow(**kafka.access("saslSsl", "scramSha512"))
            a_killed_worker(system, flow)
            kafka_away(kafka, flow)
        a_lost_redis(server, flow)
        the_database_away(database, flow)
        tasks = eventually(lambda: flower_answers(flower_port, "SUCCESS")), flower_answers(flower_port, "FAILURE")
        found |= {"Flower": "".join(tasks), "commands to Redis": "\n".join(sent)}
        found |= {"reasons": "\n".join(failed), "API": the_api(port), "command line": the_command_line(system, port)}
        flow.stop()
        roles = [*system.roles.values(), api, flower]
        found["process titles"] = "\n".join(title for role in roles for title in titles(role))
    finally:
        for role in (api, flower):
            role.destroy()
    found["Redis"] = repr(list(everything(system.redis)))
    found["events"] = "\n".join(events(system.client))
    for where, text in found.items():
        assert_clean(where, text, (*SECRETS, *AS_SENT))
    assert "authentication:password" in found["events"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"scheduler.log", "worker-0.log", "another-api.log", "another-flower.log"} <= {path.name for path in files}
    for path in files:
        for secret in (*SECRETS, *AS_SENT):
            assert secret.encode() not in path.read_bytes(), path


def stopped(flow: Flow, code: str) -> str:
    """The reason, once the connector has stopped for one of that code."""
    eventually(lambda: flow.connector.error is not None and flow.connector.state is State.STOPPED, within_s=30)
    assert flow.connector.error is not None
    assert flow.connector.error.code == code
    return flow.connector.error.message


def a_wrong_password(system: System, kafka: ApacheKafka) -> str:
    return stopped(system.flow(**kafka.access("saslSsl", "scramSha256", WRONG)), "kafka-authentication")


def a_transformation_that_throws(system: System, kafka: ApacheKafka) -> str:
    settings = {"transformer:enabled": "true", "transformer:function": THROWS}
    flow = system.flow(**kafka.access("saslSsl"), **settings)
    flow.append(1)
    return stopped(flow, "transform-failed")


def a_killed_worker(system: System, flow: Flow) -> None:
    flow.append(20)
    assert flow.delivered(within_s=60).holds
    with flow.load():
        worker = system.workers[0]
        for child in worker.children():
            os.kill(child, signal.SIGKILL)
        worker.kill()
        worker.start()
    assert flow.delivered().holds


def kafka_away(kafka: ApacheKafka, flow: Flow) -> None:
    kafka.stop()
    flow.append(20)
    eventually(lambda: flow.connector.error is not None, within_s=60)
    kafka.start()
    assert flow.delivered(within_s=60).holds


def a_lost_redis(server: RedisServer, flow: Flow) -> None:
    server.kill()
    flow.append(20)
    eventually(lambda: flow.connector.error is not None, within_s=60)
    server.start()
    assert flow.delivered(within_s=60).holds


def the_database_away(database: StandIn, flow: Flow) -> None:
    database.kill()
    database.start()
    flow.append(20)
    assert flow.delivered(within_s=60).holds


def the_api(port: int) -> str:
    """What it answers to who may not read settings, and the list to who may."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        answers = [client.get("/connectors"), client.get("/connectors", auth=("admin", WRONG_API_PASSWORD))]
        answers.append(client.post("/connectors/x", json={"settings": {}}, auth=("admin", API_PASSWORD)))
        answers.append(client.get("/connectors", auth=("admin", API_PASSWORD)))
        answers.append(client.get("/metrics", auth=("admin", API_PASSWORD)))
    assert [each.status_code for each in answers] == [403, 401, 400, 200, 200]
    return "\n".join(each.text for each in answers)


def the_command_line(system: System, port: int) -> str:
    """What commands print at DEBUG: with a right password, a wrong one, and URLs that are none."""
    said = ""
    for password in (API_PASSWORD, WRONG_API_PASSWORD):
        url = f"http://admin:{password}@127.0.0.1:{port}"
        said += printed(system, "connectors", "list", SINKWORKER_API_URL=url)
    said += printed(system, "connectors", "list", SINKWORKER_API_URL=f"http://admin:{WRONG_API_PASSWORD}@127.0.0.1:1")
    for arguments in (["config", "show"], ["config", "show", "--json"], ["--help"], ["scheduler", "--help"]):
        said += printed(system, *arguments)
    for wrong in (f"redis://:{REDIS_PASSWORD}#@h/0", f"redis://h/0?password={REDIS_PASSWORD}"):
        said += printed(system, "config", "show", REDIS_URL=wrong)
    return said + misread(system)


def misread(system: System) -> str:
    """What a role says that cannot make sense of its database's address."""
    wrong = f"kurrentdb://admin:{DATABASE_PASSWORD}@h?tls=perhaps"
    role = system.another("misreading", ["sinkworker", "coordinator"], KURRENTDB_URI=wrong)
    role.start()
    try:
        eventually(lambda: role.said("is not understood"), within_s=30)
        return role.log.read_text()
    finally:
        role.destroy()


def printed(system: System, *arguments: str, **environ: str) -> str:
    role = system.another("command", ["sinkworker", *arguments], **environ)
    done = subprocess.run(
        [sys.executable, "-m", "sinkworker", *arguments],
        env=role.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


def titles(role: Role) -> list[str]:
    """How the process and its children call themselves to whoever lists processes."""
    return [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in (role.pid, *role.children())]
