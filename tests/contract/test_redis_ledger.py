"""What only the Redis ledger has to keep: a real server that forgets, fills up, restarts or refuses."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sinkworker.errors import Full, Misconfigured, OtherRelease, Stale, Unavailable
from sinkworker.ledger.contract import Claim, OlderFormat, Reaped, Survey
from sinkworker.ledger.redis_ledger import KEYS, REFUSALS, TRANSITIONS, RedisLedger
from sinkworker.ledger.scripts import script
from sinkworker.model import Cursor, Epoch, LaneNumber, Position
from tests.builders import batch, cursor, tenure
from tests.contract.worlds import LEASE_MS, RedisWorld
from tests.redis_server import RedisServer

EPOCH = Epoch(1)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis with an append-only file that the test may kill."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def work(ledger: RedisLedger) -> tuple[Survey, Claim]:
    """An epoch in the middle: one batch acknowledged, two waiting, a lane held."""
    taken = ledger.takeover(tenure(), cursor(0), {})
    survey = ledger.dispatch(
        EPOCH, taken.counter, cursor(3), [batch(2, 0, 1), batch(2, 1, 2), batch(0, 2, 3, payload=b"\x00\xff\r\n")]
    )
    claim = ledger.claim(EPOCH, next(each for each in survey.activations if each.lane == 2), "token").claim
    ledger.ack(claim, 1)
    return survey, claim


# -- the scripts


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_every_word_that_a_script_may_answer_is_known(transition: str) -> None:
    text = script(transition)
    words = {word.encode() for word in re.findall(r"\{'([A-Z]+)'", text)}
    words |= {word.encode() for word in re.findall(r"nil, nil, '([A-Z]+)'", text)}
    assert words - {b"OK", b"FORMAT"} <= set(REFUSALS)


def test_all_keys_of_a_connector_are_in_one_slot(redis_world: RedisWorld) -> None:
    keys = redis_world.redis_ledger.keys
    assert tuple(keys) == KEYS
    assert len({key.partition("{")[2].partition("}")[0] for key in keys.values()}) == 1


def test_scripts_are_loaded_again_after_redis_forgot_them(redis_world: RedisWorld) -> None:
    work(redis_world.redis_ledger)
    redis_world.client.script_flush()
    assert redis_world.ledger.watermark() is not None


def test_a_takeover_leaves_nothing_of_an_older_epoch(redis_world: RedisWorld) -> None:
    work(redis_world.redis_ledger)
    redis_world.ledger.takeover(tenure(2, generation="other"), cursor(0), {})
    keys = redis_world.redis_ledger.keys
    assert redis_world.client.exists(keys["batches"], keys["payloads"], keys["progress"]) == 0


@pytest.mark.parametrize("transition", ["ack", "release", "complain", "fail", "condemn"])
def test_progress_of_a_worker_wakes_who_waits_for_it(redis_world: RedisWorld, transition: str) -> None:
    ledger = redis_world.redis_ledger
    _, claim = work(ledger)
    with redis_world.client.pubsub(ignore_subscribe_messages=True) as waiting:  # type: ignore[no-untyped-call]
        waiting.subscribe(ledger.wake_channel)
        waiting.get_message(timeout=5)
        args = {"ack": (2,), "complain": ("{}",), "fail": (0,), "condemn": ("{}",)}.get(transition, ())
        getattr(ledger, transition)(claim, *args)
        message = waiting.get_message(timeout=5)
    assert message is not None
    assert message["data"] == transition.encode()


def test_a_failure_that_an_older_release_noted_stops_all(redis_world: RedisWorld) -> None:
    """It knows of no limit, and hands out nothing after a failure."""
    ledger = redis_world.redis_ledger
    survey, claim = work(ledger)
    state = ledger.keys["state"]
    redis_world.client.hset(state, "failure", '{"code": "no"}')
    redis_world.client.hdel(state, "limit", "condemned")
    with pytest.raises(Stale):
        ledger.claim(EPOCH, next(each for each in survey.activations if each.lane == 0), "other")
    assert ledger.next(claim, 0, 9) == []
    seen = ledger.advance(EPOCH, survey.counter, cursor(4))
    assert (seen.failure, seen.limit) == ('{"code": "no"}', Cursor.BEGINNING)


# -- R1: a server that loses data


def test_an_emptied_redis_is_noticed_and_taken_over(redis_world: RedisWorld) -> None:
    ledger = redis_world.redis_ledger
    survey, claim = work(ledger)
    redis_world.client.flushall()
    assert ledger.watermark() is None
    for call in (
        lambda: ledger.dispatch(EPOCH, survey.counter, cursor(4), [batch(0, 3, 4)]),
        lambda: ledger.advance(EPOCH, survey.counter, cursor(4)),
        lambda: ledger.close(EPOCH),
        lambda: ledger.next(claim, 0, 1),
        lambda: ledger.ack(claim, 2),
    ):
        with pytest.raises(Stale):
            call()
    ledger.takeover(tenure(2), cursor(1), {})
    assert ledger.watermark() is not None


def test_a_redis_that_was_rolled_back_is_noticed_at_the_next_dispatch(redis_world: RedisWorld) -> None:
    ledger = redis_world.redis_ledger
    survey, _ = work(ledger)
    restore = redis_world.snapshot()
    survey = ledger.dispatch(EPOCH, survey.counter, cursor(9), [batch(1, 3, 9)])
    restore()
    with pytest.raises(Stale, match="counts other dispatches"):
        ledger.advance(EPOCH, survey.counter, cursor(10))


def test_a_restart_of_redis_with_its_file_loses_nothing(own_server: RedisServer) -> None:
    with own_server.client() as client:
        ledger = RedisLedger(client, "c", LEASE_MS)
        survey, claim = work(ledger)
        own_server.kill()
        own_server.start()
        assert [each.number for each in ledger.next(claim, 1, 9)] == [2]
        ledger.ack(claim, 2)
        survey = ledger.dispatch(EPOCH, survey.counter, cursor(9), [batch(1, 3, 9)])
        assert survey.mailboxes == {LaneNumber(0): 1, LaneNumber(1): 1}
        assert ledger.close(EPOCH).watermark == cursor(2)


def test_a_restart_of_redis_without_its_file_is_noticed(own_server: RedisServer, tmp_path: Path) -> None:
    with own_server.client() as client:
        ledger = RedisLedger(client, "c", LEASE_MS)
        survey, _ = work(ledger)
        own_server.kill()
        for file in (tmp_path / "appendonlydir").iterdir():
            file.unlink()
        own_server.start()
        assert ledger.watermark() is None
        with pytest.raises(Stale):
            ledger.advance(EPOCH, survey.counter, cursor(9))


# -- a server that refuses


def test_an_evicting_redis_is_refused_at_takeover(own_server: RedisServer) -> None:
    with own_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(Misconfigured, match="noeviction"):
            RedisLedger(client, "c", LEASE_MS).takeover(tenure(), cursor(0), {})


def test_a_full_redis_can_be_drained_and_refuses_only_new_work(own_server: RedisServer) -> None:
    with own_server.client() as client:
        ledger = RedisLedger(client, "c", LEASE_MS)
        survey, claim = work(ledger)
        client.config_set("maxmemory", 1)
        with pytest.raises(Full):
            ledger.dispatch(EPOCH, survey.counter, cursor(9), [batch(1, 3, 9), batch(0, 3, 9)])
        other = next(each for each in survey.activations if each.lane == 0)
        ledger.ack(ledger.claim(EPOCH, other, "other").claim, 1)
        assert [each.number for each in ledger.next(claim, 0, 9)] == [2]
        ledger.ack(claim, 2)
        ledger.release(claim)
        ledger.reap()
        # What was refused left nothing behind.
        assert ledger.advance(EPOCH, survey.counter, cursor(3)).mailboxes == {}


def test_an_epoch_can_be_ended_in_a_full_redis(own_server: RedisServer) -> None:
    with own_server.client() as client:
        ledger = RedisLedger(client, "c", LEASE_MS)
        survey, claim = work(ledger)
        client.config_set("maxmemory", 1)
        ledger.complain(claim, "{}")
        assert ledger.advance(EPOCH, survey.counter, cursor(3)).trouble == "{}"
        ledger.condemn(claim, "no", None, Position(2))
        assert ledger.advance(EPOCH, survey.counter + 1, cursor(3)).failure == "no"
        ledger.quiesce(EPOCH)
        assert ledger.close(EPOCH).failure == "no"


def test_a_full_redis_can_be_taken_over(own_server: RedisServer) -> None:
    with own_server.client() as client:
        ledger = RedisLedger(client, "c", LEASE_MS)
        work(ledger)
        client.config_set("maxmemory", 1)
        ledger.takeover(tenure(2), cursor(0), {})


def test_a_redis_that_is_gone_is_unavailable(own_server: RedisServer) -> None:
    with redis.Redis(port=own_server.port, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)) as client:
        ledger = RedisLedger(client, "c", LEASE_MS)
        own_server.kill()
        with pytest.raises(Unavailable):
            ledger.watermark()
        with pytest.raises(Unavailable):
            ledger.takeover(tenure(), cursor(0), {})


def test_a_redis_that_does_not_answer_in_time_is_unavailable(own_server: RedisServer) -> None:
    with (
        own_server.client() as busy,
        redis.Redis(
            port=own_server.port, socket_timeout=1, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        ) as client,
    ):
        ledger = RedisLedger(client, "c", LEASE_MS)
        ledger.watermark()
        busy.client_pause(10_000)
        with pytest.raises(Unavailable):
            ledger.takeover(tenure(), cursor(0), {})


def test_a_replica_is_unavailable(own_server: RedisServer) -> None:
    with own_server.client() as client:
        ledger = RedisLedger(client, "c", LEASE_MS)
        work(ledger)
        client.config_set("replica-serve-stale-data", "yes")
        client.replicaof("127.0.0.1", own_server.port)
        with pytest.raises(Unavailable):
            ledger.takeover(tenure(2), cursor(0), {})


def test_wrong_credentials_are_a_misconfiguration(own_server: RedisServer) -> None:
    with own_server.client() as client, redis.Redis(port=own_server.port, password="wrong") as stranger:
        client.config_set("requirepass", "secret")
        with pytest.raises(Misconfigured):
            RedisLedger(stranger, "c", LEASE_MS).watermark()


def test_missing_rights_are_a_misconfiguration(own_server: RedisServer) -> None:
    with own_server.client() as client:
        client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get", "+info"])
        with (
            redis.Redis(port=own_server.port, username="reader", password="pw") as reader,
            pytest.raises(Misconfigured),
        ):
            RedisLedger(reader, "c", LEASE_MS).takeover(tenure(), cursor(0), {})


def test_few_rights_are_enough(own_server: RedisServer) -> None:
    with own_server.client() as client:
        client.acl_setuser(
            "sinkworker",
            enabled=True,
            passwords=["+pw"],
            keys=["sink:*"],
            channels=["sink:*"],
            categories=["+@read", "+@write", "+@scripting", "+@pubsub", "+@connection"],
            commands=["+info", "+time"],
        )
        with redis.Redis(port=own_server.port, username="sinkworker", password="pw") as limited:
            work(RedisLedger(limited, "c", LEASE_MS))


def test_a_ledger_of_a_newer_release_is_left_to_it(redis_world: RedisWorld) -> None:
    ledger, client = redis_world.redis_ledger, redis_world.client
    survey, claim = work(ledger)
    client.hset(ledger.keys["state"], "format", "2")
    before = {key: client.dump(key) for key in ledger.keys.values()}
    for refused in (
        ledger.watermark,
        lambda: ledger.takeover(tenure(2), cursor(0), {}),
        lambda: ledger.claim(EPOCH, survey.activations[0], "another"),
    ):
        with pytest.raises(OtherRelease, match="has format 2, this release knows 1"):
            refused()
    for stale in (
        lambda: ledger.dispatch(EPOCH, survey.counter, cursor(9), [batch(1, 3, 9)]),
        lambda: ledger.ack(claim, 2),
        lambda: ledger.next(claim, 0, 1),
        lambda: ledger.release(claim),
        lambda: ledger.fail(claim, 0),
        lambda: ledger.condemn(claim, "{}"),
        lambda: ledger.quiesce(EPOCH),
        lambda: ledger.close(EPOCH),
    ):
        with pytest.raises(Stale):
            stale()
    assert ledger.reap() == Reaped()
    assert {key: client.dump(key) for key in ledger.keys.values()} == before


def test_a_takeover_discards_the_ledger_of_an_older_release(redis_world: RedisWorld) -> None:
    ledger = redis_world.redis_ledger
    survey, _ = work(ledger)
    redis_world.client.hset(ledger.keys["state"], "format", "0")
    with pytest.raises(OlderFormat, match="has format 0"):
        ledger.watermark()
    with pytest.raises(OlderFormat):
        ledger.claim(EPOCH, survey.activations[0], "another")
    assert ledger.takeover(tenure(2), cursor(0), {}).progress == {}
    found = ledger.watermark()
    assert found is not None
    assert (found.epoch, found.cursor, found.in_flight_batches) == (2, cursor(0), 0)


# -- many at once


def test_of_many_who_claim_a_lane_at_once_one_gets_it(redis_server: RedisServer, redis_world: RedisWorld) -> None:
    ledger = redis_world.redis_ledger
    taken = ledger.takeover(tenure(), Cursor.BEGINNING, {})
    survey = ledger.dispatch(EPOCH, taken.counter, cursor(3), [batch(2, 0, 1)])
    granted: list[str] = []
    start = threading.Barrier(8)

    def claim(token: str) -> None:
        start.wait()
        try:
            ledger.claim(EPOCH, survey.activations[0], token)
        except Stale:
            return
        granted.append(token)

    threads = [threading.Thread(target=claim, args=(f"token-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 1


@pytest.mark.parametrize("key", ["state", "lanes", "batches", "payloads", "progress"])
@pytest.mark.parametrize("damage", ["another type", "garbage in every field"])
def test_a_damaged_ledger_is_noticed_and_taken_over_as_an_empty_one(
    redis_world: RedisWorld, key: str, damage: str
) -> None:
    ledger, name = redis_world.redis_ledger, redis_world.redis_ledger.keys[key]
    survey, _ = work(ledger)
    if damage == "another type":
        redis_world.client.delete(name)
        redis_world.client.set(name, "garbage")
    else:
        for field in redis_world.client.hkeys(name):
            redis_world.client.hset(name, field, "garbage")
    watermark = ledger.watermark()
    assert watermark is None or watermark.cursor == cursor(1)
    for call in (
        lambda: ledger.dispatch(EPOCH, survey.counter, cursor(9), [batch(1, 3, 9)]),
        lambda: ledger.close(EPOCH),
    ):
        with contextlib.suppress(Stale):
            call()
    taken = ledger.takeover(tenure(9), cursor(5), {})
    assert ledger.dispatch(Epoch(9), taken.counter, cursor(9), [batch(1, 5, 9)]).mailboxes == {1: 1}
    found = ledger.watermark()
    assert found is not None
    assert found.cursor == cursor(5)
