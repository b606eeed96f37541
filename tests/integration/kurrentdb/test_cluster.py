"""What the database is to us where it is a cluster: the leader decides, the preferred node is read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from kurrentdbclient import NewEvent

from sinkworker.bell import SocketBell
from sinkworker.config import Secret
from sinkworker.database import Database
from sinkworker.errors import KurrentDBUnavailable, Unavailable
from sinkworker.model import Cursor, Record, Revision
from sinkworker.source.filters import WITHOUT_SYSTEM_EVENTS
from sinkworker.source.readers import Reader, subscribe
from sinkworker.source.subscription import LetGo, Subscription
from tests.kurrentdb_cluster import KurrentDBCluster
from tests.processes import eventually


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KurrentDBCluster]:
    running = KurrentDBCluster(tmp_path_factory.mktemp("cluster"))
    yield running
    running.destroy()


@pytest.fixture(params=["", "Follower"])
def database(request: pytest.FixtureRequest, cluster: KurrentDBCluster) -> Iterator[Database]:
    options = {"nodePreference": request.param} if request.param else {}
    with closing(Database(Secret(cluster.uri(**options)))) as opened:
        yield opened


def event() -> NewEvent:
    return NewEvent(type="LoanRequested", data=b"{}")


def append(database: Database, stream: str) -> None:
    last = database.last_event(stream)
    database.append(stream, None if last is None else last.revision, [event()])


def test_what_decides_is_asked_of_the_leader(cluster: KurrentDBCluster, database: Database) -> None:
    with cluster.lagging(*cluster.followers):
        append(database, "Loan-lag")
        last = database.last_event("Loan-lag")
        assert last is not None
        assert database.head() == last.commit
        append(database, "Loan-lag")
        assert database.event_at("Loan-lag", Revision(last.revision + 1)) is not None
        assert database.record_at(last.commit) == last


def test_the_leader_is_found_again(cluster: KurrentDBCluster, database: Database) -> None:
    for _ in range(3):
        leader = cluster.followers[-1]
        cluster.elect(leader)
        append(database, "Loan-moves")
        assert database.endpoint().target.endswith(f":{leader.port}")


def test_without_a_leader_a_call_is_refused_and_may_be_made_again(
    cluster: KurrentDBCluster, database: Database
) -> None:
    append(database, "Loan-waits")
    leader = cluster.leader
    assert leader is not None
    cluster.depose()
    try:
        with pytest.raises(KurrentDBUnavailable, match="no node of the cluster leads"):
            database.head()
        with pytest.raises(KurrentDBUnavailable, match=r"not ready|no node of the cluster leads"):
            database.append("Loan-waits", Revision(0), [event(), event()])
    finally:
        cluster.elect(leader)
    append(database, "Loan-waits")


def test_a_node_named_alone_that_does_not_lead_says_what_to_name(cluster: KurrentDBCluster) -> None:
    follower = cluster.followers[0]
    with (
        closing(Database(Secret(f"kurrentdb://127.0.0.1:{follower.port}?tls=false"))) as database,
        pytest.raises(KurrentDBUnavailable, match=r"does not lead its cluster.* name every node"),
    ):
        database.head()


def test_the_leader_is_found_from_any_node_that_a_name_stands_for(cluster: KurrentDBCluster) -> None:
    for member in cluster.members:
        uri = f"kurrentdb+discover://127.0.0.1:{member.port}?tls=false"
        with closing(Database(Secret(uri))) as database:
            append(database, "Loan-discovered")


@pytest.fixture(params=Reader)
def read(request: pytest.FixtureRequest) -> Iterator[Callable[[Database, Cursor], Subscription]]:
    bell = SocketBell()
    opened: list[Subscription] = []

    def read(database: Database, after: Cursor) -> Subscription:
        opened.append(subscribe(database, request.param, WITHOUT_SYSTEM_EVENTS, after, bell))
        return opened[-1]

    yield read
    for each in opened:
        each.close()
    bell.close()


def records(subscription: Subscription) -> list[Record]:
    subscription.wait(0.01)
    return [item for item in subscription.read(100) if isinstance(item, Record)]


def test_a_preferred_follower_is_read_from_and_may_lag(
    cluster: KurrentDBCluster, read: Callable[[Database, Cursor], Subscription]
) -> None:
    """The cursor may lie beyond its head; what comes after it is brought once the follower has it."""
    with closing(Database(Secret(cluster.uri(nodePreference="follower")))) as database:
        append(database, "Loan-read")
        with cluster.lagging(*cluster.followers):
            append(database, "Loan-read")
            subscription = read(database, database.head_cursor())
            append(database, "Loan-read")
            assert records(subscription) == []
        last = database.last_event("Loan-read")
        assert last is not None
        assert [each.record_id for each in eventually(lambda: records(subscription))] == [last.id]


def test_a_subscription_follows_the_leader(
    cluster: KurrentDBCluster, read: Callable[[Database, Cursor], Subscription]
) -> None:
    """It would stay open at the old one, and end only with it."""
    with closing(Database(Secret(cluster.uri()))) as database:
        subscription = read(database, database.head_cursor())
        cluster.elect(cluster.followers[0])
        append(database, "Loan-follows")
        with pytest.raises(Unavailable):
            eventually(lambda: records(subscription) and None)


@pytest.mark.long
def test_a_follower_that_the_others_have_lost_is_left(
    cluster: KurrentDBCluster, read: Callable[[Database, Cursor], Subscription]
) -> None:
    with closing(Database(Secret(cluster.uri(nodePreference="follower")))) as database:
        lost, other = cluster.followers
        cluster.kill(other)
        subscription = read(database, database.head_cursor())
        cluster.revive(other)
        with cluster.cut_off(lost), pytest.raises(LetGo):
            eventually(lambda: records(subscription) and None)


@pytest.mark.long
def test_a_dead_follower_is_not_chosen_and_without_any_the_leader_is_read_from(
    cluster: KurrentDBCluster, read: Callable[[Database, Cursor], Subscription]
) -> None:
    with closing(Database(Secret(cluster.uri(nodePreference="follower")))) as database:
        dead = cluster.followers
        cluster.kill(dead[0])
        for _ in range(5):  # the choice is random
            read(database, database.head_cursor())
        cluster.kill(dead[1])
        read(database, database.head_cursor())
        for killed in dead:
            cluster.revive(killed)
