"""Redis over TLS, as a user with no more rights than the README lists: the system works, and says what is wrong."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sinkworker.config import Secret
from sinkworker.ledger import redis_client
from sinkworker.ledger.redis_client import Lease
from tests.ports import free_port
from tests.processes import eventually
from tests.redis_server import RedisServer, least_rights
from tests.system import Role, System
from tests.tls import Authority, TlsProxy

pytestmark = pytest.mark.long

PASSWORD = "the-password-of-redis#1"
WRONG = "another-password-of-redis"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redis-access")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "authority")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RedisServer]:
    """A Redis that knows the user of the README, by the very command that stands there."""
    running = RedisServer(folder)
    with running.client() as client:
        client.execute_command("ACL", "SETUSER", "sinkworker", *least_rights(PASSWORD))
    yield running
    running.kill()


@pytest.fixture(scope="module")
def proxy(server: RedisServer, authority: Authority) -> Iterator[TlsProxy]:
    with TlsProxy(server.port, authority.issue("redis")) as running:
        yield running


def url(proxy: TlsProxy, trusted: Authority, password: str = PASSWORD) -> str:
    quoted = password.replace("#", "%23")
    return f"rediss://sinkworker:{quoted}@127.0.0.1:{proxy.port}/0?ssl_ca_certs={trusted.file}"


@pytest.fixture(scope="module")
def system(folder: Path, proxy: TlsProxy, authority: Authority) -> Iterator[System]:
    with System(folder, workers=1, REDIS_URL=url(proxy, authority)) as running:
        yield running


def refusals(server: RedisServer) -> list[Any]:
    """What Redis has refused its users."""
    with server.client() as client:
        return list(client.acl_log())


def test_a_scheduler_stands_by_with_the_least_rights(server: RedisServer) -> None:
    access = redis_client.connect(Secret(f"redis://sinkworker:{PASSWORD.replace('#', '%23')}@127.0.0.1:{server.port}"))
    first, second = Lease(access, "loans-sink", 8.0), Lease(access, "loans-sink", 8.0)
    assert (first.acquire(), second.acquire()) == (True, False)
    first.release()
    assert second.acquire()
    second.release()
    access.close()


def test_every_process_works_with_the_least_rights(system: System, server: RedisServer) -> None:
    port, flower_port = free_port(), free_port()
    flower_argv = ["celery", "-A", "tasks", "flower", "--address=127.0.0.1", f"--port={flower_port}"]
    api = system.another("api", ["sinkworker", "api"], SINKWORKER_API_PORT=str(port))
    flower = system.another("flower", flower_argv, FLOWER_UNAUTHENTICATED_API="true")
    try:
        for role in (api, flower):
            role.start()
        eventually(lambda: flower.said("Connected to"), within_s=30)
        flow = system.flow()
        flow.append(300)
        assert flow.delivered().holds
        eventually(lambda: asked(flower_port, "api/tasks?state=SUCCESS") not in ("", "{}"))
        eventually(lambda: "registered" in asked(flower_port, "api/workers?refresh=1"))
        queues = json.loads(asked(flower_port, "api/queues/length"))["active_queues"]
        (own,) = {queue["name"] for queue in queues} - {"sinkworker"}
        assert own.startswith("sinkworker.worker-")
        eventually(lambda: flow.id in asked(port, "metrics"))
        flow.stop()
    finally:
        for role in (api, flower):
            role.destroy()
    assert refusals(server) == []
    assert not system.workers[0].said("insecure")


def asked(port: int, path: str) -> str:
    """What a process answers over HTTP; nothing while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""


def test_a_connection_over_tls_can_be_lost_like_any(system: System, proxy: TlsProxy) -> None:
    flow = system.flow()
    with flow.load():
        proxy.drop()
    assert flow.delivered().holds
    flow.stop()


def test_an_expired_certificate_is_named_and_a_new_one_is_found(
    system: System, proxy: TlsProxy, authority: Authority
) -> None:
    flow = system.flow()
    flow.append(20)
    assert flow.delivered().holds
    proxy.show(authority.issue("expired", ends_in_days=-1))
    proxy.drop()
    try:
        eventually(lambda: all("certificate has expired" in role.log.read_text() for role in system.roles.values()))
        assert eventually(lambda: flow.connector.error) is not None
    finally:
        proxy.show(authority.issue("renewed"))
    for name in ("scheduler", "coordinator"):
        said = system.roles[name].log.read_text()
        assert "No TLS connection to Redis: its certificate is not to be trusted (certificate has expired)" in said
        assert "Check the certificate of Redis, and ssl_ca_certs in REDIS_URL." in said
    flow.append(20)
    assert flow.delivered().holds
    assert flow.connector.error is None
    flow.stop()


ROLES = {
    "scheduler": ["sinkworker", "scheduler"],
    "coordinator": ["sinkworker", "coordinator"],
    "worker": ["celery", "-A", "tasks", "worker"],
}


@pytest.mark.parametrize("name", ROLES)
def test_a_redis_of_an_unknown_authority_is_not_talked_to(
    system: System, proxy: TlsProxy, folder: Path, name: str
) -> None:
    stranger = Authority(folder, f"stranger-{name}")
    said = what_is_said(system, name, url(proxy, stranger), "get local issuer certificate")
    assert "redis" in said.lower()


@pytest.mark.parametrize("name", ROLES)
def test_a_wrong_password_is_said_and_not_shown(
    system: System, proxy: TlsProxy, authority: Authority, name: str
) -> None:
    said = what_is_said(system, name, url(proxy, authority, WRONG), "username-password pair")
    assert WRONG not in said
    if name != "worker":
        assert "Check the user and password in REDIS_URL." in said


def what_is_said(system: System, name: str, redis_url: str, expected: str) -> str:
    """The log of another role with that URL, once it has said what is expected."""
    role: Role = system.another(f"{name}-refused", ROLES[name], REDIS_URL=redis_url, SINKWORKER_LOG_LEVEL="DEBUG")
    flow = system.flow()  # which the role would look after
    role.start()
    try:
        eventually(lambda: role.said(expected), within_s=30)
        flow.append(5)
        assert flow.delivered().holds  # the others go on
        flow.stop()
        return role.log.read_text()
    finally:
        role.destroy()


def test_no_process_has_logged_the_password(system: System, folder: Path) -> None:
    logs = list(folder.rglob("*.log"))
    assert {"scheduler.log", "worker-0.log", "another-flower.log", "another-worker-refused.log"} <= {
        log.name for log in logs
    }
    for log in logs:
        text = log.read_text()
        for secret in (PASSWORD, PASSWORD.replace("#", "%23"), WRONG):
            assert secret not in text, log
