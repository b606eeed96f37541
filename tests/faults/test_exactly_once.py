"""Exactly once on Apache Kafka, whatever dies: a reader of what is committed sees every record once, in order (P4)."""

from __future__ import annotations

import base64
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # a public name, but there is no __all__
from kurrentdbclient import NewEvent, StreamState

from sinkworker.connectors.deployment import deployment_name
from sinkworker.connectors.lifecycle import State
from sinkworker.connectors.settings import SinkSettings
from sinkworker.crashpoints import CrashPoint
from sinkworker.delivery.exact_outlet import ExactKafkaOutlet, Life
from sinkworker.delivery.outlet import Errand
from sinkworker.errors import KafkaUnavailable, Stale
from sinkworker.exactly_once import transactions
from sinkworker.exactly_once.guard import Guard
from sinkworker.exactly_once.marks import Lineage, Mark
from sinkworker.exactly_once.transactions import Broken, LaneTransactions, TransactionalKafka
from sinkworker.ledger.contract import Claim, Granted
from sinkworker.model import Cursor, Epoch, Generation, LaneNumber, Layout, SettingsId
from sinkworker.outgoing import Outgoing
from tests.apache_kafka import ApacheKafka, given, ours, running, running_unless_given
from tests.builders import cursor
from tests.faults.conftest import RECORDS
from tests.faults.midflow import asleep, expired_lanes, outcome
from tests.oracle import consume, judge
from tests.processes import eventually
from tests.routed import KINDS, Routed
from tests.system import DATABASE, REDIS, Flow, System

EXACTLY_ONCE = {"delivery:guarantee": "exactlyOnce"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka | None]:
    with running_unless_given(tmp_path_factory.mktemp("apache-kafka")) as broker:
        yield broker


@pytest.fixture
def kafka(broker: ApacheKafka | None) -> ApacheKafka:
    return ours(broker)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, broker: ApacheKafka | None) -> Iterator[System]:
    servers = broker.servers if broker else given()
    with System(tmp_path_factory.mktemp("system"), KAFKA_BOOTSTRAP_SERVERS=servers) as running:
        yield running


@pytest.fixture
def flow(system: System) -> Iterator[Flow]:
    """A connector that delivers exactly once, in mid-flow."""
    flow = system.flow(**EXACTLY_ONCE)
    flow.appending = flow.append_in_background(RECORDS)
    eventually(lambda: flow.position > 0, within_s=40)  # the broker makes the topics of its transactions only now
    yield flow
    flow.stop()


def once(flow: Flow) -> None:
    """Everything arrives, once."""
    assert outcome(flow).duplicates == 0  # P4


def test_every_record_is_there_once(flow: Flow) -> None:
    once(flow)


def test_a_lane_stays_with_the_worker_that_has_it_open(system: System, flow: Flow) -> None:
    """There are two. Without homes every other task would find a lane elsewhere: to open it takes ten transactions."""
    once(flow)
    homes = system.redis.hgetall(f"sink:{{{flow.id}}}:homes")
    assert homes
    for _ in range(20):
        flow.append(1, per_append=1)
        eventually(lambda: int(system.redis.hget(f"sink:{{{flow.id}}}:state", "acked_records") or 0) == flow.appended)
    assert homes.items() <= system.redis.hgetall(f"sink:{{{flow.id}}}:homes").items()


@pytest.mark.long
@pytest.mark.parametrize("name", ["scheduler", "coordinator", "worker-0"])
def test_a_killed_role_repeats_nothing(system: System, flow: Flow, name: str) -> None:
    system.roles[name].kill()
    system.roles[name].start()
    once(flow)


@pytest.mark.parametrize("point", [CrashPoint.CONFIRMED, CrashPoint.ACKNOWLEDGED])
def test_a_worker_that_dies_around_an_acknowledgement_repeats_nothing(
    system: System, flow: Flow, point: CrashPoint
) -> None:
    armed = system.arm(point)

    def is_met() -> bool:
        flow.append(20)
        return not armed.exists()

    eventually(is_met)
    once(flow)


@pytest.mark.long
def test_a_worker_that_sleeps_past_its_lease_repeats_nothing(system: System, flow: Flow) -> None:
    expired = expired_lanes(system)
    with asleep(flow):
        eventually(lambda: expired_lanes(system) > expired)
    once(flow)


@pytest.mark.long
def test_a_redis_that_lost_everything_repeats_nothing(system: System, flow: Flow) -> None:
    system.redis.flushall()
    once(flow)


@pytest.mark.long
@pytest.mark.parametrize("part", [REDIS, DATABASE])
def test_a_killed_server_repeats_nothing(system: System, flow: Flow, part: str) -> None:
    os.kill(system.part(part), signal.SIGKILL)
    once(flow)


@pytest.mark.long
def test_a_killed_broker_repeats_nothing(kafka: ApacheKafka, flow: Flow) -> None:
    kafka.kill()
    kafka.start()
    once(flow)


@pytest.mark.long
def test_a_template_has_each_record_once_in_its_topic_whatever_dies(system: System) -> None:
    flow, dead = Routed(system), system.topic(partitions=1)
    for kind, partitions in KINDS.items():
        flow.create_topic(kind, partitions)
    aside = {"errors:policy": "deadLetter", "errors:deadLetterTopic": dead}
    flow.create(**EXACTLY_ONCE, **aside, **{"delivery:progressTopic": system.topic(partitions=1)})
    flow.start()
    appending = Thread(target=flow.append_kinds, args=(2400, *KINDS, "Order Paid"))  # the last is no topic's name
    appending.start()
    for disturb in (system.workers[0].kill, system.roles["scheduler"].kill, system.redis.flushall):
        reached = flow.position
        eventually(lambda reached=reached: flow.position > reached, within_s=40)  # type: ignore[misc]
        disturb()
        for role in system.roles.values():
            if not role.alive:
                role.start()
    appending.join()
    flow.await_checkpoint()
    unnameable = [str(event.id) for event in flow.log() if event.type == "Order Paid"]
    assert flow.duplicates(aside=len(unnameable)) == 0  # P4
    assert sorted(each.record_id for each in consume(system.servers, dead)) == sorted(unnameable)  # X3
    flow.stop()


# -- what Kafka itself promises

LANE = LaneNumber(0)


class Lanes:
    """A topic, and the lanes of one generation over it."""

    def __init__(self, system: System) -> None:
        self.topic = system.topic()
        self.options = SinkSettings(topic=self.topic).producer_options("loans", system.servers)
        self.kafka = TransactionalKafka(self.options)
        self.lineage = Lineage(deployment_name(system.database), "loans", Generation(str(uuid.uuid4())))
        self.guard = Guard(self.kafka, self.lineage, 2, self.kafka.place(self.topic))
        self._opened: list[LaneTransactions] = []

    def lane(self) -> LaneTransactions:
        """One more producer of lane 0."""
        lane = self.kafka.lane(self.lineage.name(LANE), LANE, self.topic)
        self._opened.append(lane)
        return lane

    def opened(self) -> LaneTransactions:
        lane = self.lane()
        lane.open(10)
        return lane

    def outgoing(self, value: bytes) -> Outgoing:
        headers = [("esdb-record-id", value), ("esdb-record-log-position", b"1")]
        return Outgoing(value.decode(), "loan-1", "T", 1, b"k", value, headers, 0.0, self.topic, 0)

    def send(self, lane: LaneTransactions, value: bytes) -> None:
        lane.begin()
        assert lane.send(self.outgoing(value))
        eventually(lambda: lane.poll(0.1, at_once=True) or not lane.outstanding)  # type: ignore[func-returns-value]

    def close(self) -> None:
        for lane in self._opened:
            lane.close()


@pytest.fixture
def lanes(system: System) -> Iterator[Lanes]:
    made = Lanes(system)
    made.guard.begin(cursor(1))
    yield made
    made.close()


def commit(lane: LaneTransactions, position: int) -> None:
    eventually(lambda: lane.commit(Mark(cursor(position))))


def test_a_lane_s_mark_is_committed_with_its_records(system: System, lanes: Lanes) -> None:
    lane = lanes.opened()
    lanes.send(lane, b"given-up")
    assert lane.abort(10)
    lanes.send(lane, b"kept")
    commit(lane, 7)
    again = lanes.opened()
    assert again.mark == Mark(cursor(7))
    assert again.mark.cursor.record_id == "id-7"
    assert [each.value for each in consume(system.servers, lanes.topic)] == [b"kept"]


def test_a_lane_that_is_opened_fences_its_last_owner_before_it_reads_the_mark(lanes: Lanes) -> None:
    first, second = lanes.opened(), lanes.lane()
    lanes.send(first, b"late")
    read = second._read

    def read_late(reader: Consumer, timeout_s: float) -> Mark | None:
        with pytest.raises(Broken):  # X2: nobody can change any more what is read here
            commit(first, 9)
        return read(reader, timeout_s)

    second._read = read_late  # type: ignore[method-assign]
    second.open(10)
    assert second.mark == Mark(cursor(1))


def test_no_call_outlasts_a_claim_while_the_broker_is_silent(kafka: ApacheKafka, lanes: Lanes) -> None:
    lane = lanes.opened()
    lanes.send(lane, b"waits")
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert [lane.commit(Mark(cursor(5))) for _ in range(4)] == [False] * 4
        assert time.monotonic() - begun < 5  # or a worker could not renew its claims
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
    commit(lane, 5)
    assert lanes.guard.read()[LANE] == Mark(cursor(5))


@pytest.fixture
def outlet(lanes: Lanes) -> Iterator[ExactKafkaOutlet]:
    life = Life(lanes.lineage, lanes.kafka.place(lanes.topic))
    errand = Errand("loans", SinkSettings(topic=lanes.topic), lanes.options, 4, 5.0, lambda _s, _n: None)
    made = ExactKafkaOutlet(errand, lambda _id, _generation: life, lambda _lane: None)
    yield made
    made.close()


@pytest.fixture
def granted(lanes: Lanes) -> Granted:
    """Lane 0, handed to a worker."""
    return Granted(Claim(Epoch(1), LANE, "token"), lanes.lineage.generation, Layout(6, 2, "k"), SettingsId("s"))


@pytest.mark.long
def test_a_producer_that_was_cut_off_is_not_waited_for(
    kafka: ApacheKafka, outlet: ExactKafkaOutlet, granted: Granted
) -> None:
    cut_off = outlet.lane(granted)
    outlet.open_all([granted])
    assert outlet.lane(granted) is cut_off
    kafka.kill()
    eventually(cut_off.cut_off)
    kafka.start()
    outlet.open_all([granted])
    assert outlet.lane(granted) is not cut_off


def test_a_producer_whose_progress_is_not_noted_is_given_up_with_all_that_are_as_old(
    kafka: ApacheKafka, lanes: Lanes, outlet: ExactKafkaOutlet, granted: Granted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart of the broker it may wait for ever, and each of the others with it."""
    monkeypatch.setattr(transactions, "PATIENCE_S", 0.5)
    all_granted = [granted, replace(granted, claim=replace(granted.claim, lane=LaneNumber(1)))]
    old = [outlet.lane(each) for each in all_granted]
    lanes.send(old[0], b"waits")
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Broken):
            commit(old[0], 5)
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
    outlet.close_lane(granted)
    new = [outlet.lane(each) for each in all_granted]
    assert not set(map(id, new)) & set(map(id, old))
    assert [each.mark for each in new] == [Mark(cursor(1))] * 2


def test_a_question_that_is_answered_too_late_harms_nobody(kafka: ApacheKafka, lanes: Lanes) -> None:
    """The client library's administrator would end the process."""
    os.kill(kafka.pid, signal.SIGSTOP)
    impatient = TransactionalKafka(lanes.options, 0.5)
    try:
        with pytest.raises(KafkaUnavailable):
            impatient.marks({LANE: lanes.lineage.name(LANE)}, lanes.topic)
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
    eventually(lambda: lanes.guard.read()[LANE] == Mark(cursor(1)))


def test_a_transaction_that_nobody_finishes_keeps_no_epoch_from_beginning(lanes: Lanes) -> None:
    """Its producer is gone, once its progress was noted: until the brokers abort it they do not tell the mark."""
    gone = lanes.opened()
    lanes.send(gone, b"unfinished")
    eventually(lambda: gone.commit(Mark(cursor(5))) or gone._prepared)
    assert lanes.guard.read()[LANE] == Mark(cursor(1))
    with pytest.raises(Broken):
        commit(gone, 5)


def test_a_closed_lane_is_not_delivered(lanes: Lanes, outlet: ExactKafkaOutlet, granted: Granted) -> None:
    assert outlet.lane(granted).mark == Mark(cursor(1))
    outlet.close_lane(granted)
    lanes.guard.close(None)
    with pytest.raises(Stale):  # X4
        outlet.lane(granted)
    lanes.guard.restore({LANE: cursor(3)}, lambda: True)
    assert outlet.lane(granted).mark == Mark(cursor(3))


def test_a_lane_that_is_ahead_keeps_its_generation_open(lanes: Lanes) -> None:
    lane = lanes.opened()
    lanes.send(lane, b"ahead")
    commit(lane, 9)
    with pytest.raises(Exception, match="ahead of the checkpoint"):
        lanes.guard.close(cursor(8))
    assert lanes.guard.read()[LANE] == Mark(cursor(9))
    lanes.guard.close(cursor(9))
    assert lanes.guard.read() == {LANE: Mark(cursor(9), closed=True), LaneNumber(1): Mark(cursor(1), closed=True)}


def test_an_epoch_that_is_over_restores_nothing(lanes: Lanes) -> None:
    lanes.guard.close(None)
    with pytest.raises(Stale):
        lanes.guard.restore({LANE: Cursor.BEGINNING}, lambda: False)
    assert lanes.guard.read()[LANE] == Mark(cursor(1), closed=True)


# -- where it cannot hold


def stopped_for(flow: Flow) -> str:
    """The code of the reason that the connector stopped for."""
    eventually(lambda: flow.connector.state is State.STOPPED and flow.connector.error is not None, within_s=40)
    assert flow.connector.error is not None
    return flow.connector.error.code


@pytest.mark.long
def test_progress_that_was_deleted_stops_the_connector_at_its_next_start(system: System, flow: Flow) -> None:
    once(flow)
    for role in system.roles.values():
        role.kill()
    generation = flow.connector.generation
    assert generation is not None
    lineage = Lineage(deployment_name(system.database), flow.id, generation.id)
    names = [lineage.name(LaneNumber(lane)) for lane in range(generation.layout.lanes)]
    for deleted in system.admin.delete_consumer_groups(names).values():
        deleted.result(10)
    system.redis.flushall()
    for role in system.roles.values():
        role.start()
    assert stopped_for(flow) == "progress-lost"  # X5
    flow.start(0)
    eventually(lambda: flow.connector.state is State.RUNNING)


FORGETFUL = """\
offsets.retention.minutes=1
offsets.retention.check.interval.ms=500
"""


@pytest.mark.long
def test_lanes_that_are_idle_for_longer_than_kafka_remembers_are_still_known_after_a_crash(tmp_path: Path) -> None:
    with (
        running(tmp_path, properties=FORGETFUL) as kafka,
        System(tmp_path, KAFKA_BOOTSTRAP_SERVERS=kafka.servers) as system,
    ):
        flow = system.flow(**EXACTLY_ONCE)
        flow.append(200)
        flow.delivered()
        bystander = Consumer({"bootstrap.servers": kafka.servers, "group.id": "bystander", "enable.auto.commit": False})
        bystander.commit(offsets=[TopicPartition(flow.topic, 0, 1)], asynchronous=False)

        def forgotten() -> bool:
            flow.append(10, streams=1)  # one lane stays busy
            (found,) = bystander.committed([TopicPartition(flow.topic, 0)], 10)
            return found.offset < 0

        eventually(forgotten, within_s=150, every_s=2)
        bystander.close()
        for role in system.roles.values():
            role.kill()
        system.redis.flushall()
        for role in system.roles.values():
            role.start()
        flow.appending = flow.append_in_background(RECORDS)
        once(flow)
        flow.stop()


@pytest.mark.long
def test_a_topic_that_is_gone_stops_the_connector_before_time_is_up(tmp_path: Path, kafka: ApacheKafka) -> None:
    """A worker as it comes has more patience with a silent Kafka than the test has with it."""
    with System(tmp_path, KAFKA_BOOTSTRAP_SERVERS=kafka.servers, SINKWORKER_DELIVERY_TIMEOUT_S="60") as system:
        flow = system.flow(**EXACTLY_ONCE)
        flow.append(100)
        assert flow.delivered().duplicates == 0
        for deleted in system.admin.delete_topics([flow.topic]).values():
            deleted.result(10)
        flow.append(100)
        assert stopped_for(flow) in ("topic-missing", "UNKNOWN_TOPIC_OR_PART")


@pytest.mark.long
def test_a_topic_that_was_created_again_stops_the_connector(system: System, flow: Flow) -> None:
    once(flow)
    for deleted in system.admin.delete_topics([flow.topic]).values():
        deleted.result(10)

    def created() -> bool:
        (future,) = system.admin.create_topics([NewTopic(flow.topic, 6)]).values()
        return future.exception(10) is None

    eventually(created)
    flow.append(100)
    assert stopped_for(flow) in ("topic-recreated", "progress-lost", "UNKNOWN_TOPIC_OR_PART")
    flow.start()
    assert stopped_for(flow) == "topic-recreated"
    flow.start(0)
    eventually(lambda: flow.connector.state is State.RUNNING)


@pytest.mark.long
def test_another_number_of_lanes_goes_on_without_a_gap_or_a_repetition(system: System, flow: Flow) -> None:
    once(flow)
    flow.stop()
    system.registry.reconfigure(flow.id, {"lanes:count": "3"})
    flow.start()
    flow.append(500)
    once(flow)
    generation = flow.connector.generation
    assert generation is not None
    assert generation.layout.lanes == 3


@pytest.mark.long
def test_a_failing_transformation_stops_after_what_precedes_it_and_goes_on_exactly_there(system: System) -> None:
    """Poison, without and with a dead-letter topic: in either case all else is there once (X3)."""
    flow = Flow(system, system.topic())
    fails = base64.b64encode(b"function transform(r) { if (r.value.poison) throw new Error('poison') }").decode()
    flow.create(**EXACTLY_ONCE, **{"transformer:enabled": "true", "transformer:function": fails})
    flow.append(300)
    poisonous = NewEvent(type="LoanRequested", data=b'{"poison": true}')
    system.client.append_to_stream(f"{flow.prefix}-0", current_version=StreamState.ANY, events=[poisonous])
    flow.append(300)
    flow.start()
    stopped_for(flow)
    assert flow.connector.error is not None
    assert str(poisonous.id) in flow.connector.error.message

    dead = system.topic(partitions=1)
    system.registry.reconfigure(flow.id, {"errors:policy": "deadLetter", "errors:deadLetterTopic": dead})
    flow.start()
    log = flow.log()
    eventually(lambda: flow.position >= log[-1].commit_position, within_s=40)
    rest = [event for event in log if event.id != poisonous.id]
    verdict = judge(rest, consume(system.servers, flow.topic), lambda _event, _message: False)
    assert (verdict.missing, verdict.unexpected, verdict.out_of_order, verdict.duplicates) == ([], [], [], 0)
    assert [each.record_id for each in consume(system.servers, dead)] == [str(poisonous.id)]
    flow.stop()
