"""Three nodes of KurrentDB under load: another one leads, none does, followers lag. P1, P2 and P7 hold.

In one world the roles name no preferred node, in one they read from followers, in one with the other reader.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sinkworker.connectors.lifecycle import State
from sinkworker.scheduling.scheduler import LEASE_S
from tests.chaos.witness import Arrivals
from tests.faults.midflow import GOES_ON_WITHIN_S, arrives, lasts, repeats, watched
from tests.kurrentdb_cluster import KurrentDBCluster
from tests.ports import free_port
from tests.processes import clean_environment, eventually
from tests.system import IN_FLIGHT, UNHURRIED_S, Flow, System

pytestmark = pytest.mark.long

ELECTION_S = 5.0
OUTLASTS_LEASES_S = LEASE_S + 4
MORE = 100
"""Records: so many that some come from whoever leads by then."""

ROLES = ("scheduler", "coordinator", "worker-0", "worker-1")
WORLDS = {
    "leader": ("libcurl", {}),
    "followers": ("libcurl", {"nodePreference": "follower"}),
    "kurrentdbclient": ("kurrentdbclient", {}),
}


@dataclass
class World:
    system: System
    cluster: KurrentDBCluster
    uri: str
    """As the roles have it."""


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    reader, options = WORLDS[request.param]
    cluster = KurrentDBCluster(tmp_path_factory.mktemp("cluster"))
    try:
        uri = cluster.uri(**options)
        of_roles = {role: {"KURRENTDB_URI": uri, "SINKWORKER_READER": reader} for role in ROLES}
        last_first = ",".join(reversed(cluster.targets))  # the test's own client asks the first that answers, no other
        own = f"kurrentdb://{last_first}?tls=false"
        with System(
            tmp_path_factory.mktemp("system"), of_roles, KURRENTDB_URI=own, SINKWORKER_CLAIM_LEASE_S=UNHURRIED_S
        ) as system:
            yield World(system, cluster, uri)
    finally:
        cluster.destroy()


@pytest.fixture
def flow(world: World) -> Iterator[Flow]:
    flow = world.system.flow()
    yield flow
    flow.stop()


def test_leaders_that_change_repeat_nothing(world: World, flow: Flow) -> None:
    cluster = world.cluster
    with watched(flow) as arrivals:
        for _ in range(5):
            cluster.elect(cluster.followers[0])
            goes_on(flow, arrivals)
    assert repeats(arrivals) == 0  # no epoch ends for it
    assert all(role.alive for role in world.system.roles.values())


def test_leaders_that_change_faster_than_anybody_follows(world: World, flow: Flow) -> None:
    cluster = world.cluster
    with watched(flow) as arrivals:
        for _ in range(20):
            cluster.elect(cluster.followers[0])
            lasts(0.2)
        goes_on(flow, arrivals)
    assert repeats(arrivals) <= IN_FLIGHT  # P3


def test_a_leader_that_is_killed_and_comes_back_as_a_follower(world: World, flow: Flow) -> None:
    cluster = world.cluster
    with watched(flow) as arrivals:
        for _ in range(2):
            killed = cluster.leader
            assert killed is not None
            cluster.kill(killed)
            lasts(ELECTION_S / 2)  # the others still name it to whoever asks
            cluster.elect(cluster.followers[0])
            goes_on(flow, arrivals)
            cluster.revive(killed)
            goes_on(flow, arrivals)
    assert repeats(arrivals) <= IN_FLIGHT  # P3


def test_followers_that_are_killed_cost_nothing(world: World, flow: Flow) -> None:
    """Each has a turn: the one that is read from is among them. Both at once leave the leader."""
    cluster = world.cluster
    with watched(flow) as arrivals:
        first, second = cluster.followers
        for killed in ([first], [second], [first, second]):
            for member in killed:
                cluster.kill(member)
            goes_on(flow, arrivals)
            for member in killed:
                cluster.revive(member)
    assert repeats(arrivals) == 0


def test_a_time_without_a_leader_is_waited_for(world: World, flow: Flow, tmp_path: Path) -> None:
    cluster, system = world.cluster, world.system
    url = f"http://127.0.0.1:{free_port()}"
    own = {"SINKWORKER_API_PORT": url.rpartition(":")[2], "KURRENTDB_URI": world.uri}
    another = system.another("scheduler", ["sinkworker", "scheduler"], KURRENTDB_URI=world.uri)
    api = system.another("api", ["sinkworker", "api"], **own)
    another.start()  # it stands by
    api.start()
    try:
        eventually(lambda: answer(url)[0] == 200, within_s=30)
        with watched(flow) as arrivals:
            before = flow.connector.epoch
            cluster.depose()
            status, said = answer(url)
            listed = connectors_list(url, tmp_path)
            lasts(OUTLASTS_LEASES_S)
            cluster.elect(cluster.followers[0])
            goes_on(flow, arrivals)
        assert (status, listed.returncode) == (503, 3)
        for sentence in (said, listed.stderr):
            assert "no node of the cluster leads" in sentence
        assert flow.connector.epoch == before  # whoever ran it goes on, though its lease has run out
        assert repeats(arrivals) == 0
        eventually(lambda: answer(url)[0] == 200, within_s=GOES_ON_WITHIN_S)
        assert another.alive
    finally:
        another.destroy()
        api.destroy()


def test_a_leader_that_is_cut_off_from_the_others_is_left(world: World, flow: Flow) -> None:
    """Clients reach it all the same, first of all nodes, and a subscription to it stays open and says nothing."""
    cluster = world.cluster
    first = cluster.members[0]
    with watched(flow) as arrivals:
        for _ in range(2):
            cluster.elect(first)
            goes_on(flow, arrivals)
            with cluster.cut_off(first):
                cluster.elect(cluster.followers[0])
                world.system.client.reconnect()  # by itself the test's client would stay
                goes_on(flow, arrivals)
    assert repeats(arrivals) == 0


def test_a_scheduler_that_takes_over_while_followers_lag_reads_what_the_leader_has(world: World, flow: Flow) -> None:
    """Neither epoch (R4) nor generation and checkpoint (R3), nor where the log ends (R8), are asked of a follower."""
    cluster, system = world.cluster, world.system
    with watched(flow) as arrivals:
        goes_on(flow, arrivals)
        with cluster.lagging(*cluster.followers):
            before = flow.connector.epoch
            reached = flow.position
            eventually(lambda: flow.position > reached or reads_from_followers(world))
            system.roles["scheduler"].kill()
            system.roles["scheduler"].start()
            eventually(lambda: flow.connector.epoch > before, within_s=GOES_ON_WITHIN_S)
            eventually(lambda: flow.connector.state is State.RUNNING, within_s=GOES_ON_WITHIN_S)
            lasts(2)
            assert flow.connector.error is None
            assert flow.position >= reached
        goes_on(flow, arrivals)
    assert repeats(arrivals) <= IN_FLIGHT  # P3


def test_a_follower_that_lags_behind_what_is_delivered_is_waited_for(world: World, flow: Flow) -> None:
    """The cursor lies beyond its head, which is no reason to take the database for another one (R8)."""
    cluster = world.cluster
    with watched(flow) as arrivals:
        read, lags = cluster.followers
        for _ in range(2):
            with cluster.lagging(lags):
                lasts(1) if reads_from_followers(world) else goes_on(flow, arrivals)
                cluster.kill(read)
                lasts(3)
                assert flow.connector.error is None
            goes_on(flow, arrivals)
            cluster.revive(read)
            read, lags = lags, read
    assert repeats(arrivals) == 0


def test_a_start_at_the_end_while_followers_lag_delivers_what_follows_alone(world: World) -> None:
    flow = Flow(world.system, world.system.topic())
    flow.create(**{"subscription:initialPosition": "latest"})
    with world.cluster.lagging(*world.cluster.followers):
        flow.append(100)
        flow.start()
        eventually(lambda: flow.connector.generation is not None and flow.connector.state is State.RUNNING)
        flow.append(100)
    verdict = flow.delivered(since=100)
    assert verdict.holds, verdict
    assert verdict.duplicates == 0
    flow.stop()


def goes_on(flow: Flow, arrivals: Arrivals) -> None:
    """What is appended from now on arrives before long, and checkpoints follow."""
    due = flow.appended + MORE
    eventually(lambda: flow.appended >= due, within_s=GOES_ON_WITHIN_S)
    reached = flow.position
    arrives(flow, arrivals, GOES_ON_WITHIN_S)
    eventually(lambda: flow.position > reached, within_s=GOES_ON_WITHIN_S)


def reads_from_followers(world: World) -> bool:
    return "nodePreference" in world.uri


def answer(url: str) -> tuple[int, str]:
    """What the API answers to a list of connectors; 0 where it does not listen."""
    try:
        with urllib.request.urlopen(f"{url}/connectors", timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode()
    except urllib.error.URLError:
        return 0, ""


def connectors_list(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sinkworker", "connectors", "list"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=clean_environment(SINKWORKER_API_URL=url),
        check=False,
    )
