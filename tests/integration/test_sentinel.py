"""Redis behind sentinels: the master dies, a replica takes its place, and the system goes on with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.processes import eventually
from tests.redis_server import RedisServer
from tests.system import System

pytestmark = pytest.mark.long

PASSWORD = "the-password-of-every-node"
WATCH_PASSWORD = "the-password-of-the-sentinels"


class Watched:
    """A master, a replica and three sentinels that agree when two of them miss the master."""

    def __init__(self, folder: Path) -> None:
        access = {"requirepass": PASSWORD, "masterauth": PASSWORD, "repl-diskless-sync-delay": "0"}
        self.nodes = [RedisServer(_made(folder / "one"), password=PASSWORD, **access)]
        master = f"127.0.0.1 {self.nodes[0].port}"
        self.nodes.append(RedisServer(_made(folder / "two"), password=PASSWORD, **access, replicaof=master))
        self.sentinels = [Sentinel(_made(folder / f"sentinel-{number}"), master) for number in range(3)]
        eventually(lambda: all(each.sees_all() for each in self.sentinels), within_s=30)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"sentinel://:{PASSWORD}@{hosts}/0?master_name=cache&sentinel_password={WATCH_PASSWORD}"

    def destroy(self) -> None:
        for each in (*self.sentinels, *self.nodes):
            each.kill()


class Sentinel(RedisServer):
    """One sentinel. It keeps what it learns in its configuration file."""

    def __init__(self, folder: Path, master: str) -> None:
        lines = (
            f"sentinel monitor cache {master} 2",
            f"sentinel auth-pass cache {PASSWORD}",
            f"requirepass {WATCH_PASSWORD}",
            f"sentinel sentinel-pass {WATCH_PASSWORD}",
            "sentinel down-after-milliseconds cache 1500",
            "sentinel failover-timeout cache 5000",
        )
        file = folder / "sentinel.conf"
        file.write_text("\n".join([*lines, ""]))
        super().__init__(folder, arguments=(str(file), "--sentinel"), password=WATCH_PASSWORD)

    def sees_all(self) -> bool:
        with self.client() as client:
            state = client.sentinel_master("cache")
        return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sentinel")


@pytest.fixture(scope="module")
def watched(folder: Path) -> Iterator[Watched]:
    running = Watched(folder)
    yield running
    running.destroy()


@pytest.fixture(scope="module")
def system(folder: Path, watched: Watched) -> Iterator[System]:
    with System(folder, workers=2, REDIS_URL=watched.url) as running:
        yield running


def test_a_lost_master_costs_no_record_and_no_order(system: System, watched: Watched) -> None:
    flow = system.flow()
    with flow.load():
        epoch, before = flow.connector.epoch, flow.position
        watched.nodes[0].kill()
        eventually(lambda: role_of(watched.nodes[1]) == "master", within_s=30)
        # R10: what the replica lacks is noticed, and whoever lost the connection takes over from the checkpoint.
        eventually(lambda: flow.connector.epoch > epoch, within_s=30)
        eventually(lambda: flow.position > before, within_s=30)
    verdict = flow.delivered()
    assert verdict.holds
    assert verdict.duplicates <= in_flight(system)
    assert all(role.alive and not role.said("Traceback") for role in system.roles.values())
    flow.stop()


def test_a_master_that_is_moved_on_purpose_costs_no_record_and_no_order(system: System, watched: Watched) -> None:
    """The old one lives on as a replica, which refuses writes over the connections that it had as a master."""
    watched.nodes[0].start()
    eventually(lambda: role_of(watched.nodes[0]) == "slave", within_s=30)
    eventually(lambda: synchronized(watched.nodes[0]), within_s=30)
    flow = system.flow()
    with flow.load():
        before = flow.position
        with watched.sentinels[0].client() as client:
            eventually(lambda: fails_over(client), within_s=30)
        eventually(lambda: role_of(watched.nodes[0]) == "master", within_s=30)
        eventually(lambda: flow.position > before, within_s=30)
    verdict = flow.delivered()
    assert verdict.holds
    assert verdict.duplicates <= in_flight(system)
    flow.stop()


def test_no_process_has_logged_a_password(system: System, folder: Path) -> None:
    for role in system.roles.values():
        for secret in (PASSWORD, WATCH_PASSWORD):
            assert secret not in role.log.read_text()


def role_of(node: RedisServer) -> str:
    with node.client() as client, contextlib.suppress(redis.ConnectionError):
        return str(client.info("replication")["role"])
    return ""


def synchronized(node: RedisServer) -> bool:
    with node.client() as client:
        return bool(client.info("replication")["master_link_status"] == "up")


def fails_over(client: redis.Redis) -> bool:
    try:
        client.execute_command("SENTINEL", "FAILOVER", "cache")  # type: ignore[no-untyped-call]
    except redis.ResponseError:
        return False  # it has not seen a replica that is good enough, or was at it lately
    return True


def in_flight(system: System) -> int:
    """Most records that can have been dispatched and not acknowledged: full mailboxes of every lane."""
    return 6 * 16 * 50
