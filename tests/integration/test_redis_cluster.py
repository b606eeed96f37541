"""The ledger in a Redis Cluster, Celery's queue beside it: connectors of every master, and a master that dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sinkworker import logs
from sinkworker.config import Secret
from sinkworker.errors import Misconfigured, RedisUnavailable, RedisUntrusted
from sinkworker.ledger import redis_client
from sinkworker.ledger.contract import Claim
from sinkworker.ledger.redis_client import Lease, Listener
from sinkworker.ledger.redis_ledger import RedisLedger
from sinkworker.metrics.recorder import Recorder, recorded
from sinkworker.metrics.series import PRODUCED
from sinkworker.model import Epoch
from tests.builders import batch, cursor, tenure
from tests.processes import eventually
from tests.redis_cluster import MASTERS, PASSWORD, RedisCluster, system_over
from tests.system import PARTITIONS, QUICK, Flow, System
from tests.tls import Authority

pytestmark = pytest.mark.long

EVERYWHERE = tuple("abcdefgh")
"""Connectors whose keys are on every master."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[RedisCluster]:
    running = RedisCluster(folder / "nodes", replicas=True)
    yield running
    running.destroy()


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "authority")


@pytest.fixture(scope="module")
def encrypted(folder: Path, authority: Authority) -> Iterator[RedisCluster]:
    """Another, over TLS."""
    running = RedisCluster(folder / "encrypted", authority=authority)
    yield running
    running.destroy()


@pytest.fixture(params=["cluster", "encrypted"])
def any_cluster(request: pytest.FixtureRequest) -> RedisCluster:
    found: RedisCluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def system(folder: Path, cluster: RedisCluster) -> Iterator[System]:
    with system_over(folder, cluster) as running:
        yield running


def test_leases_counts_and_bells_work_for_connectors_of_every_master(any_cluster: RedisCluster) -> None:
    client = redis_client.connect(Secret(any_cluster.url))
    assert len({any_cluster.master_of(f"sink:{{{connector}}}:state").port for connector in EVERYWHERE}) == MASTERS
    woken: set[str] = set()
    changed, stop = threading.Event(), threading.Event()
    listener = Listener(client, woken.add, changed.set, stop, logs.Role())
    listener.start()
    recorder = Recorder(client)
    recorder.start()
    try:
        for connector in EVERYWHERE:
            first, second = Lease(client, connector, 8.0), Lease(client, connector, 8.0)
            assert (first.acquire(), second.acquire()) == (True, False)
            first.release()
            assert second.acquire()
            recorder.tally.count(connector, PRODUCED, 3)
        ledgers = {connector: RedisLedger(client, connector, 60_000) for connector in EVERYWHERE}
        claims = {connector: claimed(ledger) for connector, ledger in ledgers.items()}
        eventually(lambda: _rung(ledgers, claims, woken) == set(EVERYWHERE))
        redis_client.poke(client, "a")
        eventually(changed.is_set)
    finally:
        stop.set()
        listener.join()
        recorder.close()
    assert [recorded(client, connector)[0][PRODUCED.name] for connector in EVERYWHERE] == [3.0] * len(EVERYWHERE)
    client.close()


def claimed(ledger: RedisLedger) -> Claim:
    """A lane with a batch in it, in the first epoch."""
    taken = ledger.takeover(tenure(), cursor(0), {})
    survey = ledger.dispatch(Epoch(1), taken.counter, cursor(1), [batch(0, 0, 1)])
    return ledger.claim(Epoch(1), survey.activations[0], "token").claim


def _rung(ledgers: Mapping[str, RedisLedger], claims: Mapping[str, Claim], woken: set[str]) -> set[str]:
    """Who has been woken, now that each was rung for once more: whoever listens later does not hear the first time."""
    for connector, ledger in ledgers.items():
        ledger.complain(claims[connector], "{}")
    return woken


def test_one_master_that_evicts_is_enough_to_be_refused(cluster: RedisCluster) -> None:
    client = redis_client.connect(Secret(cluster.url))
    with cluster.nodes[1].client() as node:
        node.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(Misconfigured, match="allkeys-lru"):
            RedisLedger(client, "evicted", 1000).takeover(tenure(), cursor(0), {})
        node.config_set("maxmemory-policy", "noeviction")
    RedisLedger(client, "evicted", 1000).takeover(tenure(), cursor(0), {})
    client.close()


def test_scripts_are_loaded_again_on_a_node_that_forgot_them(any_cluster: RedisCluster) -> None:
    client = redis_client.connect(Secret(any_cluster.url))
    ledgers = [RedisLedger(client, f"forgotten-{connector}", 1000) for connector in EVERYWHERE]
    for ledger in ledgers:
        ledger.takeover(tenure(), cursor(0), {})
    for node in any_cluster.masters:
        with node.client() as each:
            each.script_flush()
    assert all(ledger.watermark() is not None for ledger in ledgers)
    client.close()


def test_a_cluster_that_is_away_is_waited_for() -> None:
    client = redis_client.connect(Secret("redis+cluster://127.0.0.1:1,127.0.0.1:2"))
    ledger, lease = RedisLedger(client, "a", 1000), Lease(client, "a", 8.0)
    for call in (ledger.watermark, lease.acquire, lambda: redis_client.check(client)):
        with pytest.raises(RedisUnavailable):
            call()
    lease.release()
    client.close()


def test_a_wrong_password_is_said_to_be_one(any_cluster: RedisCluster) -> None:
    client = redis_client.connect(Secret(any_cluster.url_as("sinkworker:another@")))
    with pytest.raises(Misconfigured, match="Check the user and password"):
        redis_client.check(client)
    client.close()


def test_a_client_that_trusts_another_authority_is_told_so(
    encrypted: RedisCluster, authority: Authority, folder: Path
) -> None:
    stranger = Authority(folder, "stranger")
    client = redis_client.connect(Secret(encrypted.url.replace(str(authority.file), str(stranger.file))))
    for call in (RedisLedger(client, "a", 1000).watermark, Lease(client, "a", 8.0).acquire):
        with pytest.raises(RedisUntrusted, match="certificate is not to be trusted"):
            call()
    client.close()


def test_a_client_without_a_certificate_is_not_answered(encrypted: RedisCluster) -> None:
    client = redis_client.connect(Secret(encrypted.url.partition("&ssl_certfile")[0]))
    with pytest.raises(RedisUnavailable):
        redis_client.check(client)
    client.close()


def test_an_expired_certificate_of_a_cluster_is_named_and_a_new_one_is_found(
    encrypted: RedisCluster, authority: Authority, folder: Path
) -> None:
    (folder / "over-tls").mkdir()
    with system_over(folder / "over-tls", encrypted) as system:
        flow = system.flow()
        with flow.load():
            encrypted.show(authority.issue("expired", ends_in_days=-1))
            for name in ("scheduler", "coordinator"):
                eventually(lambda name=name: system.roles[name].said("certificate has expired"), within_s=30)  # type: ignore[misc]
            error = eventually(lambda: flow.connector.error, within_s=30)
            encrypted.show(authority.issue("renewed"))
            before = flow.position
            eventually(lambda: flow.position > before, within_s=30)
        assert error is not None
        assert error.code == RedisUntrusted.code
        judge(flow)
        for role in system.roles.values():
            assert not role.said("Traceback")
            assert not role.said(PASSWORD)


def test_a_master_that_dies_costs_no_record_and_no_order(system: System, cluster: RedisCluster) -> None:
    """Another connector, whose keys are on another master, goes on as well."""
    flow, other = system.flow(), system.flow()
    with flow.load(), other.load():
        epoch, before = flow.connector.epoch, flow.position
        cluster.master_of(f"sink:{{{flow.id}}}:state").kill()
        eventually(lambda: flow.connector.epoch > epoch, within_s=30)  # R10
        eventually(lambda: flow.position > before, within_s=30)
    for each in (flow, other):
        judge(each)
    for role in system.roles.values():
        assert role.alive
        assert not role.said("Traceback")
        assert not role.said(PASSWORD)
        assert not role.said("no permissions")


def judge(flow: Flow) -> None:
    verdict = flow.delivered()
    assert verdict.holds, verdict
    assert verdict.duplicates <= PARTITIONS * 16 * int(QUICK["SINKWORKER_BATCH_RECORDS"])  # full mailboxes
    flow.stop()
