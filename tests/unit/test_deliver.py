"""One activation, against the in-memory ledger and a broker that does what the test says."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

import pytest
from confluent_kafka import KafkaError

from sinkworker.delivery import deliver
from sinkworker.delivery.deliver import Bounds, Delivery
from sinkworker.delivery.idempotent import IdempotentWork
from sinkworker.delivery.window import InFlight
from sinkworker.errors import (
    Exhausted,
    Misconfigured,
    OtherRelease,
    SinkworkerError,
    Transient,
    Unavailable,
    Undeliverable,
)
from sinkworker.ledger.contract import Activation, Batch, Claim, Granted, Survey
from sinkworker.ledger.memory import MemoryLedger
from sinkworker.model import Cursor, Epoch, LaneNumber, Layout, Position, Revision
from sinkworker.outgoing import Link, Origin, Outgoing, Refusal, Unfit
from tests.builders import cursor, tenure

EPOCH = Epoch(1)
QUICK = Bounds(activation_s=5, delivery_timeout_s=0.3, drain_timeout_s=0.2, lease_s=3.0)


class Broker:
    """Takes records in order and remembers them; one fault at a time, as told."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.most_unconfirmed_on_new_partition = 0
        self.refuses: dict[str, int] = {}
        """Record id to the KafkaError code that it is always answered with."""
        self.refuses_requests = False
        """As Kafka does: a refusal is of all that waits, and names the first of it."""
        self.breaks_once: set[str] = set()
        """Record ids at which the producer fails once, for a reason that is not theirs."""
        self.silent = False
        self.delay_s = 0.0
        """How long its answers take."""
        self.room: int | None = None
        """Most records that wait in a producer's queue; None: any number."""


class Producer:
    """What `LaneProducer` shows to `Delivery`, over `Broker` instead of a network."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.waiting: list[tuple[InFlight, Outgoing]] = []
        self._primed: set[tuple[str, int]] = set()
        self.refusal: Refusal | None = None
        self.link = Link()
        self.confirmations = 0

    def primed(self, record: Outgoing) -> bool:
        return (record.topic, record.partition) in self._primed

    def send(self, flight: InFlight, record: Outgoing) -> bool:
        if self.refusal is not None or len(self.waiting) == self._broker.room:
            return False
        if not self.primed(record):
            place = record.topic, record.partition
            on_it = 1 + sum((each.topic, each.partition) == place for _, each in self.waiting)
            self._broker.most_unconfirmed_on_new_partition = max(on_it, self._broker.most_unconfirmed_on_new_partition)
        flight.outstanding += 1
        self.waiting.append((flight, record))
        return True

    def poll(self, timeout_s: float, *, at_once: bool = False) -> None:
        time.sleep(self._broker.delay_s)
        if self._broker.silent:
            return
        if self._broker.refuses_requests:
            codes = [self._broker.refuses.get(record.record_id) for _, record in self.waiting]
            if (code := next((each for each in codes if each is not None), None)) is not None:
                self._refuse(code)
                return
        while self.waiting:
            flight, record = self.waiting[0]
            code = self._broker.refuses.get(record.record_id)
            if record.record_id in self._broker.breaks_once:
                self._broker.breaks_once.discard(record.record_id)
                code = KafkaError._FATAL
            if code is not None:
                self._refuse(code)
                return
            self.waiting.pop(0)
            self._broker.taken.append(record.record_id)
            flight.outstanding -= 1
            self.confirmations += 1
            self._primed.add((record.topic, record.partition))

    def _refuse(self, code: int) -> None:
        flight, record = self.waiting.pop(0)
        flight.unconfirmed.append(record.place)
        self.refusal = Refusal(flight.batch.lane, record, KafkaError(code))

    def purge(self) -> None:
        for flight, record in self.waiting:
            flight.unconfirmed.append(record.place)
        self.waiting.clear()


class Aside:
    """A dead-letter topic on a broker of its own."""

    topic = "dead"

    def __init__(self) -> None:
        self.broker = Broker()
        self.missing = False
        self.held: Producer | None = None

    @property
    def producer(self) -> Producer:
        if self.missing:
            raise Misconfigured("The topic 'dead' does not exist.", code="topic-missing")
        if self.held is None:
            self.held = Producer(self.broker)
        return self.held


class Outlet:
    """A batch's payload is the ids of its records, with commas between. They go to `loans`, `other/id` to `other`."""

    def __init__(self, broker: Broker, in_flight_batches: int = 4) -> None:
        self.in_flight_batches = in_flight_batches
        self.has_many_topics = False
        self.failures = 0
        self.discards = 0
        self.outgrown = False
        self.renewals = 0
        self.small_topics: set[str] = set()
        """Topics that need another producer, once they are met."""
        self.missing_topics: set[str] = set()
        self.unbuildable: set[str] = set()
        self.foreign: set[str] = set()
        """First records of batches that only another release can read."""
        self.gone = False
        self.vanished = False
        self.dead_letters: Aside | None = None
        self._broker = broker
        self._producer: Producer | None = None

    @property
    def producer(self) -> Producer:
        if self.gone:
            raise Unavailable("Kafka does not answer.")
        if self.vanished and self._producer is None:
            raise Misconfigured("The topic does not exist.", code="topic-missing")
        if self._producer is None:
            self._producer = Producer(self._broker)
        return self._producer

    def work(self, delivery: Delivery) -> IdempotentWork:
        return IdempotentWork(delivery, self)  # type: ignore[arg-type]  # the parts of a producer that it uses

    def discard(self) -> None:
        self.discards += 1
        if self._producer is not None:
            self._producer.purge()
        self._producer = None
        if self.dead_letters is not None:
            self.dead_letters.held = None

    def renew(self) -> None:
        if self.producer.refusal is None and self.producer.waiting:
            pytest.fail("R5: a producer is closed with something on its way")
        self.renewals += 1
        self.outgrown = False
        self._producer = None

    def letter(self, batch: Batch, origin: Origin, reason: Undeliverable, aimed_at: str | None = None) -> Outgoing:
        return Outgoing(*origin, b"k", b"{}", [("why", reason.code.encode())], 0.0, "dead", 0)

    def cursors(self, batch: Batch) -> Iterator[Cursor]:
        """All records of a batch have its position, as those of an old explicit transaction have."""
        for index, record_id in enumerate(batch.payload.decode().split(",")):
            yield Cursor(batch.last.commit, Position(index), Revision(index), record_id)

    def messages(self, batch: Batch, layout: Layout) -> Iterator[Outgoing | Unfit]:
        position = int(batch.last.commit)
        for record_id in batch.payload.decode().split(","):
            if record_id in self.foreign:
                raise OtherRelease("A batch has another version.")
            if record_id in self.unbuildable:
                reason = Undeliverable(f"record {record_id} cannot be built", position=batch.last.commit)
                if self.dead_letters is None:
                    raise reason
                yield Unfit(Origin(record_id, "loan-1", "Requested", position), reason)
                continue
            topic = record_id.rpartition("/")[0] or "loans"
            if topic in self.missing_topics:
                raise Misconfigured(
                    f"The topic {topic!r} does not exist.", code="topic-missing", position=batch.last.commit
                )
            if topic in self.small_topics:
                self.small_topics.remove(topic)
                self.outgrown = True
            yield Outgoing(record_id, "loan-1", "Requested", position, b"k", b"{}", [], 0.0, topic, int(batch.lane))


class World:
    """A ledger with batches in some lanes, and what an activation of them needs."""

    def __init__(self, **lanes: list[str]) -> None:
        """`lane0=["a,b", "c"]`: two batches in lane 0, of the records a and b, and c."""
        self.now_ms = 0
        self.ledger = MemoryLedger(lambda: self.now_ms)
        self.broker = Broker()
        self.outlet = Outlet(self.broker)
        self.stopping = False
        self.buried: list[tuple[str, str]] = []
        self.ledger.takeover(tenure(EPOCH), Cursor.BEGINNING, {})
        positions = count(1)
        batches = []
        for lane, payloads in lanes.items():
            for payload in payloads:
                at = next(positions)
                batches.append(
                    Batch(
                        LaneNumber(int(lane.removeprefix("lane"))),
                        cursor(at - 1),
                        cursor(at),
                        payload.count(",") + 1,
                        payload.encode(),
                    )
                )
        self.survey: Survey = self.ledger.dispatch(EPOCH, 0, cursor(next(positions)), batches)

    def activate(
        self, ledger: MemoryLedger | None = None, bounds: Bounds = QUICK, again: Sequence[Activation] = ()
    ) -> Delivery:
        delivery = Delivery(
            ledger or self.ledger,
            lambda _: self.outlet,  # type: ignore[arg-type, return-value]  # the parts of a producer that delivery uses
            bounds,
            lambda: self.stopping,
            put_aside=lambda reason, topic: self.buried.append((reason.code, topic)),
        )
        self.delivery = delivery
        delivery.run(EPOCH, again or self.survey.activations)
        return delivery

    def with_dead_letters(self) -> Aside:
        self.outlet.dead_letters = Aside()
        return self.outlet.dead_letters

    @property
    def left(self) -> dict[int, int]:
        return {int(lane): state.depth for lane, state in self.ledger.state.lanes.items() if state.depth}

    @property
    def progress(self) -> dict[int, str]:
        """By lane, the id of the last record that is known to be delivered."""
        return {int(lane): cursor.record_id for lane, cursor in self.ledger.state.progress.items()}

    @property
    def held(self) -> int:
        return sum(1 for state in self.ledger.state.lanes.values() if state.token)


def test_everything_in_the_mailboxes_is_delivered_in_order_and_acknowledged() -> None:
    world = World(lane0=["a,b", "c", "d"], lane1=["x", "y,z"])
    done = world.activate().done
    assert [each for each in world.broker.taken if each in "abcd"] == list("abcd")
    assert [each for each in world.broker.taken if each in "xyz"] == list("xyz")
    assert world.left == {}
    assert world.held == 0
    assert (done.batches, done.records) == (5, 7)


def test_nothing_is_acknowledged_before_its_last_record_is_confirmed() -> None:
    world = World(lane0=["a,b,c"])
    world.broker.silent = True
    with pytest.raises(Transient):
        world.activate()
    assert world.left == {0: 1}


def test_the_first_record_of_a_new_producer_goes_to_its_partition_alone() -> None:
    world = World(lane0=["a,b,c,d"])
    world.activate()
    assert world.broker.most_unconfirmed_on_new_partition == 1  # R6


def test_the_first_record_to_a_partition_of_each_topic_goes_alone() -> None:
    world = World(lane0=["a", "north/b,south/c", "north/d,south/e"])
    world.activate()
    assert world.broker.most_unconfirmed_on_new_partition == 1  # R6
    assert world.broker.taken == ["a", "north/b", "south/c", "north/d", "south/e"]


def test_a_topic_that_needs_another_producer_gets_it_once_all_before_it_is_confirmed() -> None:
    world = World(lane0=["a,b,c", "d,small/e,f"])
    world.outlet.producer._primed.add(("loans", 0))
    world.outlet.small_topics.add("small")
    world.activate()
    assert world.broker.taken == ["a", "b", "c", "d", "small/e", "f"]  # in order, and each once
    assert (world.outlet.renewals, world.outlet.discards) == (1, 0)
    assert world.left == {}


def test_a_missing_topic_of_a_record_stops_the_connector_behind_all_that_precedes_the_record() -> None:
    world = World(lane0=["a", "b", "c,nowhere/d,e"])
    world.outlet.missing_topics.add("nowhere")
    with pytest.raises(Misconfigured):
        world.activate()
    assert world.broker.taken == ["a", "b", "c"]
    assert world.left == {0: 1}
    assert json.loads(world.ledger.state.failure)["code"] == "topic-missing"


def test_a_silent_broker_costs_the_producer_and_frees_the_lane_for_later() -> None:
    world = World(lane0=["a"])
    world.broker.silent = True
    with pytest.raises(Transient, match="has not confirmed anything"):
        world.activate()
    assert world.outlet.discards == 1  # R5
    assert world.held == 0
    assert world.ledger.reap().activations == ()  # not yet: back-off
    world.now_ms += deliver.FIRST_BACK_OFF_MS
    assert [each.lane for each in world.ledger.reap().activations] == [0]


def test_a_refused_record_is_named_and_what_precedes_it_is_delivered_and_nothing_after_it() -> None:
    world = World(lane0=["a,b,poison,c", "d"])
    world.broker.refuses["poison"] = KafkaError.MSG_SIZE_TOO_LARGE
    with pytest.raises(Undeliverable, match="poison"):
        world.activate()
    assert set(world.broker.taken) == {"a", "b"}
    assert world.left == {0: 2}
    assert world.held == 0
    reason = json.loads(world.ledger.state.failure)
    assert reason["code"] == "MSG_SIZE_TOO_LARGE"
    assert "poison" in reason["message"]


def test_a_refused_request_is_tried_record_by_record_before_one_is_blamed() -> None:
    world = World(lane0=["a,b,poison,c"])
    world.outlet.producer._primed.add(("loans", 0))
    world.broker.refuses["poison"] = KafkaError.RECORD_LIST_TOO_LARGE
    world.broker.refuses_requests = True
    with pytest.raises(Undeliverable, match="poison"):  # R7
        world.activate()
    assert set(world.broker.taken) == {"a", "b"}


def test_a_refused_record_is_found_however_slow_the_broker_is() -> None:
    world = World(lane0=["a,poison"])
    world.broker.refuses["poison"] = KafkaError.MSG_SIZE_TOO_LARGE
    world.broker.delay_s = 0.02
    with pytest.raises(Undeliverable, match="poison"):
        world.activate(bounds=replace(QUICK, activation_s=0.01))
    assert world.ledger.state.failure


@pytest.mark.parametrize("requests", [False, True])
def test_what_is_confirmed_before_a_refused_record_is_not_sent_again(requests: bool) -> None:
    """Neither on the way to the guilty one nor, by what the ledger is told, after the stop (P3)."""
    world = World(lane0=["a,b", "c,d,poison,e", "f"], lane1=["x"])
    world.broker.refuses["poison"] = KafkaError.MSG_SIZE_TOO_LARGE
    world.broker.refuses_requests = requests
    with pytest.raises(Undeliverable, match="poison"):
        world.activate()
    assert sorted(world.broker.taken) == ["a", "b", "c", "d", "x"]
    assert world.progress == {0: "d", 1: "id-4"}
    assert world.left == {0: 2}  # the watermark stays before the whole batch (P1)


def test_what_is_confirmed_before_a_record_that_cannot_be_built_is_not_sent_again() -> None:
    world = World(lane0=["a", "b,c,bad,d"], lane1=["x"])
    world.outlet.unbuildable.add("bad")
    with pytest.raises(Undeliverable, match="bad"):
        world.activate()
    assert sorted(world.broker.taken) == ["a", "b", "c"]
    assert world.progress == {0: "c"}


def test_what_was_put_aside_before_the_stop_is_not_put_aside_again() -> None:
    world = World(lane0=["a,bad,poison,b"])
    aside = world.with_dead_letters()
    world.outlet.unbuildable.add("bad")
    world.broker.refuses["poison"] = KafkaError.MSG_SIZE_TOO_LARGE
    aside.broker.refuses["poison"] = KafkaError.MSG_SIZE_TOO_LARGE
    with pytest.raises(Undeliverable, match="dead-letter topic"):
        world.activate()
    assert (world.broker.taken, aside.broker.taken) == (["a"], ["bad"])
    assert world.progress == {0: "bad"}


def test_a_topic_that_vanishes_costs_nothing_that_is_confirmed() -> None:
    """The new producer does not find it: each lane says how far it got with the old one."""
    world = World(lane0=["a,b"], lane1=["x,y,z"])
    world.broker.breaks_once.add("y")
    fresh = world.outlet.producer

    def vanished(timeout_s: float, *, at_once: bool = False) -> None:
        Producer.poll(fresh, timeout_s, at_once=at_once)
        world.outlet.vanished = fresh.refusal is not None

    fresh.poll = vanished  # type: ignore[method-assign]
    with pytest.raises(Misconfigured, match=r"The first record that waits is y at position 2\.$"):
        world.activate()
    assert sorted(world.broker.taken) == ["a", "b", "x"]
    assert world.progress == {0: "b", 1: "x"}


def test_how_far_a_lane_got_is_known_while_its_records_are_gone_through_again() -> None:
    """Another lane's record stops the connector, while this one is only at the batch before."""
    world = World(lane0=["a,b", "c,d"], lane1=["x"])
    world.broker.refuses |= {"d": KafkaError.TOPIC_AUTHORIZATION_FAILED, "x": KafkaError.TOPIC_AUTHORIZATION_FAILED}
    with pytest.raises(Undeliverable):
        world.activate()
    assert world.broker.taken == ["a", "b", "c"]
    assert world.progress == {0: "c"}  # P3


def test_records_that_the_producer_did_not_report_on_are_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Producer, "purge", lambda _: None)
    world = World(lane0=["a,b,c"])
    world.broker.breaks_once.add("b")
    world.activate()
    assert world.broker.taken == ["a", "a", "b", "c"]  # P1 before P3


def test_a_lane_without_fault_is_freed_when_another_is_condemned() -> None:
    world = World(lane0=["poison"], lane1=["x"])
    world.broker.refuses["poison"] = KafkaError.TOPIC_AUTHORIZATION_FAILED
    with pytest.raises(Undeliverable):
        world.activate()
    assert world.held == 0


@pytest.mark.parametrize("unbuildable", [False, True])
def test_a_lane_goes_on_though_another_is_condemned_and_only_up_to_that_record(unbuildable: bool) -> None:
    world = World(lane1=["x", "y,z"], lane0=["a,poison,b", "c"], lane2=["later"])
    world.outlet.in_flight_batches = 1
    if unbuildable:
        world.outlet.unbuildable.add("poison")
    else:
        world.broker.refuses["poison"] = KafkaError.MSG_SIZE_TOO_LARGE
    with pytest.raises(Undeliverable, match="poison"):
        world.activate(again=world.survey.activations[1:2])
    world.activate()
    assert sorted(world.broker.taken) == ["a", "x", "y", "z"]
    assert world.left == {0: 2, 2: 1}
    assert world.held == 0


def test_of_lanes_that_share_an_activation_each_goes_as_far_as_it_can() -> None:
    world = World(lane1=["u,v", "w"], lane0=["a,poison"], lane2=["toxin,x", "y"])
    world.broker.refuses |= {"poison": KafkaError.MSG_SIZE_TOO_LARGE, "toxin": KafkaError.MSG_SIZE_TOO_LARGE}
    with pytest.raises(Undeliverable):
        world.activate()
    assert [each for each in world.broker.taken if each in "uvw"] == ["u", "v", "w"]
    assert "poison" in json.loads(world.ledger.state.failure)["message"]
    assert world.left == {0: 1, 2: 2}


def test_what_is_in_flight_is_purged_before_the_connector_is_condemned() -> None:
    world = World(lane0=["a"], lane1=["x"])

    def shut_out(timeout_s: float, *, at_once: bool = False) -> None:
        raise Misconfigured("Kafka refuses the connection.")

    world.outlet.producer.poll = shut_out  # type: ignore[method-assign]
    with pytest.raises(Misconfigured, match="The first record that waits is a at position 1"):
        world.activate()
    assert world.outlet.discards == 1  # R5
    assert "is a at position 1" in json.loads(world.ledger.state.failure)["message"]
    assert world.held == 0


def test_a_bug_stops_the_connector_with_its_name_and_leaves_nothing_held_or_in_flight() -> None:
    world = World(lane0=["a"], lane1=["x"])

    def bug(timeout_s: float, *, at_once: bool = False) -> None:
        raise RuntimeError("nobody foresaw this")

    world.outlet.producer.poll = bug  # type: ignore[method-assign]
    with pytest.raises(SinkworkerError, match="nobody foresaw this"):
        world.activate()
    assert "RuntimeError" in json.loads(world.ledger.state.failure)["message"]  # P5
    assert world.outlet.discards == 1  # R5
    assert world.held == 0


@pytest.mark.parametrize(
    "shortage", [OSError(errno.EMFILE, "no more files"), RuntimeError("can't start new thread"), MemoryError()]
)
def test_a_machine_that_has_no_more_of_something_is_waited_for(shortage: Exception) -> None:
    world = World(lane0=["a"])

    def short(timeout_s: float, *, at_once: bool = False) -> None:
        raise shortage

    world.outlet.producer.poll = short  # type: ignore[method-assign]
    with pytest.raises(Exhausted):
        world.activate()
    assert not world.ledger.state.failure
    assert world.outlet.discards == 1  # R5
    assert world.held == 0
    assert world.ledger.state.trouble is not None
    assert json.loads(world.ledger.state.trouble[1])["code"] == "machine-exhausted"


def test_what_the_lanes_wait_for_is_said_once_while_they_wait_and_when_they_are_let_go_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliver, "COMPLAINT_S", 0.0)
    world = World(lane0=["a"], lane1=["x"])
    world.broker.silent = True
    said: list[tuple[int, str]] = []
    monkeypatch.setattr(world.ledger, "complain", lambda claim, trouble: said.append((claim.lane, trouble)))
    with pytest.raises(Transient):
        world.activate()
    assert [(lane, json.loads(trouble)["code"]) for lane, trouble in said] == [(0, "kafka-unavailable")]
    assert world.ledger.state.trouble is not None
    assert "has not confirmed anything" in json.loads(world.ledger.state.trouble[1])["message"]


def test_a_full_queue_is_waited_for() -> None:
    world = World(lane0=["a,b,c,d", "e,f,g"])
    world.broker.room = 2
    world.activate()
    assert world.broker.taken == list("abcdefg")


def test_a_full_queue_before_a_silent_broker_ends_as_silence_does() -> None:
    world = World(lane0=["a,b,c,d"])
    world.outlet.producer._primed.add(("loans", 0))
    world.broker.room, world.broker.silent = 2, True
    with pytest.raises(Transient, match="has not confirmed anything"):
        world.activate()
    assert world.held == 0


def test_lanes_rest_longer_each_time_that_kafka_is_not_there() -> None:
    world = World(lane0=["a"])
    world.outlet.gone = True
    rests = []
    again: Sequence[Activation] = ()
    for _ in range(3):
        with pytest.raises(Unavailable):
            world.activate(again=again)
        rests.append(world.ledger.state.lanes[LaneNumber(0)].due_ms - world.now_ms)
        world.now_ms += rests[-1]
        again = world.ledger.reap().activations
    assert rests == [deliver.FIRST_BACK_OFF_MS, 2 * deliver.FIRST_BACK_OFF_MS, 4 * deliver.FIRST_BACK_OFF_MS]


def test_a_record_is_not_blamed_for_what_happens_once() -> None:
    world = World(lane0=["a,b,c", "d"])
    world.broker.breaks_once.add("b")
    world.activate()
    assert world.broker.taken == ["a", "b", "c", "d"]  # in order, and none twice
    assert world.outlet.discards == 1
    assert world.left == {}


def test_a_record_that_cannot_be_built_stops_the_connector_after_what_precedes_it() -> None:
    world = World(lane0=["a", "b,bad,c"])
    world.outlet.unbuildable.add("bad")
    with pytest.raises(Undeliverable, match="bad"):
        world.activate()
    assert world.broker.taken == ["a", "b"]
    assert world.left == {0: 1}
    assert world.ledger.state.failure


def test_a_batch_of_another_release_is_left_to_another_worker_and_nothing_before_it_is_sent_again() -> None:
    world = World(lane0=["x", "y"], lane1=["a", "b,c", "new", "d"])
    world.outlet.foreign.add("new")
    world.broker.delay_s = 0.02  # so that several batches are in flight when it is met
    with pytest.raises(OtherRelease):
        world.activate()
    assert sorted(world.broker.taken) == ["a", "b", "c", "x", "y"]
    assert world.left == {1: 2}
    assert world.held == 0
    assert "other-release" in str(world.ledger.state.trouble)
    assert not world.ledger.state.failure

    world.outlet.foreign.clear()  # the worker of that release
    world.now_ms += deliver.FIRST_BACK_OFF_MS
    world.activate(again=world.ledger.reap().activations)
    assert [each for each in world.broker.taken if each not in "xy"] == ["a", "b", "c", "new", "d"]
    assert world.left == {}
    assert world.ledger.state.trouble is None


def test_a_refused_record_is_put_aside_and_delivery_goes_on_behind_it() -> None:
    world = World(lane0=["a,poison,b", "c"], lane1=["x"])
    aside = world.with_dead_letters()
    world.broker.refuses["poison"] = KafkaError.MSG_SIZE_TOO_LARGE
    world.activate()
    assert [each for each in dict.fromkeys(world.broker.taken) if each != "x"] == ["a", "b", "c"]  # P2, with a gap
    assert aside.broker.taken == ["poison"]
    assert world.buried == [("MSG_SIZE_TOO_LARGE", "dead")]
    assert world.left == {}
    assert world.delivery.done.records == 4


def test_several_in_a_batch_are_each_put_aside_once_and_nothing_is_sent_a_third_time() -> None:
    world = World(lane0=["a,bad,b,poison,c,venom,d,unfit"])
    aside = world.with_dead_letters()
    world.outlet.unbuildable |= {"bad", "unfit"}
    world.broker.refuses |= {"poison": KafkaError.MSG_SIZE_TOO_LARGE, "venom": KafkaError.INVALID_RECORD}
    world.activate()
    assert [*dict.fromkeys(world.broker.taken)] == ["a", "b", "c", "d"]
    assert max(world.broker.taken.count(each) for each in "abcd") <= 2
    assert (aside.broker.taken.count("poison"), aside.broker.taken.count("venom")) == (1, 1)
    assert set(aside.broker.taken) == {"bad", "poison", "venom", "unfit"}
    assert world.left == {}


def test_a_batch_of_nothing_but_dead_letters_is_acknowledged() -> None:
    world = World(lane0=["bad,worse"])
    aside = world.with_dead_letters()
    world.outlet.unbuildable |= {"bad", "worse"}
    world.activate()
    assert (aside.broker.taken, world.broker.taken, world.left) == (["bad", "worse"], [], {})


@pytest.mark.parametrize(
    "code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._AUTHENTICATION]
)
def test_what_is_no_fault_of_the_record_stops_the_connector_all_the_same(code: int) -> None:
    world = World(lane0=["a"])
    aside = world.with_dead_letters()
    world.broker.refuses["a"] = code
    with pytest.raises(Undeliverable):
        world.activate()
    assert aside.broker.taken == []
    assert (world.left, world.held) == ({0: 1}, 0)


def test_no_record_is_put_aside_for_a_refusal_that_others_shared() -> None:
    world = World(lane0=["a,poison,b,c"])
    aside = world.with_dead_letters()
    world.outlet.producer._primed.add(("loans", 0))
    world.broker.refuses["poison"] = KafkaError.RECORD_LIST_TOO_LARGE
    world.broker.refuses_requests = True
    world.broker.room = 2  # so that the refusal is met while others are still being sent
    world.activate()  # R7
    assert (world.broker.taken, aside.broker.taken) == (["a", "b", "c"], ["poison"])


@pytest.mark.parametrize("unbuildable", [False, True])
def test_a_dead_letter_that_is_refused_too_stops_the_connector_with_both_reasons(unbuildable: bool) -> None:
    world = World(lane0=["a", "b,poison,c"])
    aside = world.with_dead_letters()
    aside.broker.refuses["poison"] = KafkaError.MSG_SIZE_TOO_LARGE
    if unbuildable:
        world.outlet.unbuildable.add("poison")
    else:
        world.broker.refuses["poison"] = KafkaError.INVALID_RECORD
    with pytest.raises(Undeliverable, match=r"poison.*dead-letter topic 'dead' does not take it either"):
        world.activate()
    assert set(world.broker.taken) == {"a", "b"}
    assert (world.left, world.held) == ({0: 1}, 0)
    assert json.loads(world.ledger.state.failure)["code"] == "dead-letter-refused"
    assert world.outlet.discards  # R5


def test_a_missing_dead_letter_topic_stops_the_connector_with_both_reasons() -> None:
    world = World(lane0=["a,poison"])
    world.with_dead_letters().missing = True
    world.outlet.unbuildable.add("poison")
    with pytest.raises(Undeliverable, match=r"poison cannot be built.*The topic 'dead' does not exist"):
        world.activate()
    assert world.broker.taken == ["a"]
    assert world.left == {0: 1}


def test_a_batch_is_not_acknowledged_before_its_dead_letter_is_confirmed() -> None:
    world = World(lane0=["a,poison,b"])
    aside = world.with_dead_letters()
    world.outlet.unbuildable.add("poison")
    aside.broker.silent = True
    with pytest.raises(Transient, match="has not confirmed anything"):
        world.activate()
    assert world.left == {0: 1}  # P1
    assert world.broker.taken == ["a"]
    assert (world.held, aside.held) == (0, None)  # R5: what was on its way there is purged, too
    assert world.buried == []


def test_a_claim_is_renewed_while_a_dead_letter_is_awaited() -> None:
    world = World(lane0=["poison"])
    world.with_dead_letters().broker.silent = True
    world.outlet.unbuildable.add("poison")
    ledger = Renewals(lambda: 0)
    ledger.restore(world.ledger.snapshot())
    with pytest.raises(Transient):
        world.activate(ledger, replace(QUICK, lease_s=0.3, delivery_timeout_s=1.0))
    assert ledger.renewals >= 2


def test_a_second_copy_of_the_task_delivers_nothing_twice() -> None:
    world = World(lane0=["a"])
    world.activate()
    again = world.activate().done
    assert again.batches == 0
    assert world.broker.taken == ["a"]


class Overtaken(MemoryLedger):
    """A ledger that begins another epoch while a worker has something in flight."""

    def ack_and_next(self, claim: Claim, numbers: list[int], after: int, limit: int) -> list[Batch]:  # type: ignore[override]
        if numbers and self.state.tenure is not None and self.state.tenure.epoch == EPOCH:
            self.takeover(tenure(EPOCH + 1), Cursor.BEGINNING, {})
        return super().ack_and_next(claim, numbers, after, limit)


def test_a_worker_that_meets_a_newer_epoch_purges_and_lets_go_without_a_word() -> None:
    world = World(lane0=["a,b"])
    overtaken = Overtaken(lambda: 0)
    overtaken.restore(world.ledger.snapshot())
    done = world.activate(overtaken).done
    assert done.batches == 0
    assert world.outlet.discards == 1  # R5
    assert overtaken.state.progress == {}


class ClaimsOnce(MemoryLedger):
    """A ledger that does not answer the second claim."""

    claims = 0

    def claim(self, epoch: Epoch, activation: Activation, token: str) -> Granted:
        self.claims += 1
        if self.claims == 2:
            raise Unavailable("Redis does not answer.")
        return super().claim(epoch, activation, token)


def test_a_claim_that_fails_leaves_no_other_lane_held() -> None:
    world = World(lane0=["a"], lane1=["x"])
    ledger = ClaimsOnce(lambda: 0)
    ledger.restore(world.ledger.snapshot())
    with pytest.raises(Unavailable):
        world.activate(ledger)
    assert [lane for lane in ledger.state.lanes.values() if lane.token] == []


class AcksLate(MemoryLedger):
    """A ledger that is away for a while, just when everything is confirmed."""

    refusals = 0

    def ack_and_next(self, claim: Claim, numbers: list[int], after: int, limit: int) -> list[Batch]:  # type: ignore[override]
        if numbers and self.refusals < 8:
            self.refusals += 1
            time.sleep(0.1)
            raise Unavailable("Redis does not answer.")
        return super().ack_and_next(claim, numbers, after, limit)


def test_silence_of_the_ledger_is_not_blamed_on_kafka() -> None:
    world = World(lane0=["a"])
    ledger = AcksLate(lambda: 0)
    ledger.restore(world.ledger.snapshot())
    world.activate(ledger)  # longer than `delivery_timeout_s`, shorter than the lease
    assert ledger.state.batches == {}
    assert world.outlet.discards == 0


class SlowOutlet(Outlet):
    """Making a message takes longer than Kafka may be silent, as does making the producer."""

    def __init__(self, world: World) -> None:
        super().__init__(world.broker)
        self._world = world
        self.silences: list[float] = []

    @property
    def producer(self) -> Producer:
        if self._producer is None:
            time.sleep(QUICK.delivery_timeout_s + 0.1)
            self.silences.append(self._world.delivery.silent_s)
        return super().producer

    def messages(self, batch: Batch, layout: Layout) -> Iterator[Outgoing | Unfit]:
        time.sleep(QUICK.delivery_timeout_s + 0.1)
        return super().messages(batch, layout)


def test_the_time_that_a_message_takes_is_not_blamed_on_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(lane0=["a", "b"])
    world.outlet = SlowOutlet(world)
    polls = count(1)

    def first_in_vain(self: Producer, timeout_s: float, *, at_once: bool = False) -> None:
        if next(polls) > 1:
            poll(self, timeout_s, at_once=at_once)

    poll = Producer.poll
    monkeypatch.setattr(Producer, "poll", first_in_vain)
    world.activate()
    assert world.broker.taken == ["a", "b"]
    assert world.outlet.discards == 0


def test_asking_the_brokers_for_the_topic_is_waiting_for_kafka() -> None:
    world = World(lane0=["a"])
    outlet = world.outlet = SlowOutlet(world)
    world.activate()
    assert [each > QUICK.delivery_timeout_s for each in outlet.silences] == [True]
    assert world.delivery.silent_s == 0


class Renewals(MemoryLedger):
    """Counts how often a claim is renewed while nothing is asked for."""

    renewals = 0

    def next(self, claim: Claim, after: int, limit: int) -> list[Batch]:
        self.renewals += limit == 0
        return super().next(claim, after, limit)


def test_a_claim_is_renewed_while_kafka_is_awaited() -> None:
    world = World(lane0=["a"])
    world.broker.silent = True
    ledger = Renewals(lambda: 0)
    ledger.restore(world.ledger.snapshot())
    with pytest.raises(Transient):
        world.activate(ledger, replace(QUICK, lease_s=0.3, delivery_timeout_s=1.0))
    assert ledger.renewals >= 2


class Transforming(Outlet):
    """A transformation that takes longer than a claim lasts by itself, in which it is heard of now and then."""

    def __init__(self, world: World) -> None:
        super().__init__(world.broker)
        self._world = world
        self.loses_claim = False

    def messages(self, batch: Batch, layout: Layout) -> Iterator[Outgoing | Unfit]:
        delivery, ledger = self._world.delivery, self._world.ledger
        if self.loses_claim:
            self._world.now_ms += 60_000
            (activation,) = ledger.reap().activations
            ledger.claim(EPOCH, activation, "another")
        time.sleep(delivery.bounds.lease_s / 2)
        delivery.hold_claims()
        yield from super().messages(batch, layout)


def test_a_claim_is_renewed_while_messages_are_made() -> None:
    world = World(lane0=["a"])
    world.outlet = Transforming(world)
    ledger = Renewals(lambda: 0)
    ledger.restore(world.ledger.snapshot())
    world.activate(ledger, replace(QUICK, lease_s=0.3))
    assert ledger.renewals == 1
    assert world.broker.taken == ["a"]


def test_a_claim_that_is_lost_while_messages_are_made_is_found_out_before_they_are_sent() -> None:
    world = World(lane0=["a"])
    world.outlet = outlet = Transforming(world)
    outlet.loses_claim = True
    world.activate(bounds=replace(QUICK, lease_s=0.3))
    assert world.broker.taken == []  # R5


class Flaky(MemoryLedger):
    """A ledger that does not answer every other call."""

    calls = 0

    def ack_and_next(self, claim: Claim, numbers: list[int], after: int, limit: int) -> list[Batch]:  # type: ignore[override]
        self.calls += 1
        if self.calls % 2:
            raise Unavailable("Redis does not answer.")
        return super().ack_and_next(claim, numbers, after, limit)


class SlowToBuild(Outlet):
    """A transformation that takes longer than a claim lasts; the lane has another owner by then."""

    def __init__(self, world: World) -> None:
        super().__init__(world.broker)
        self._world = world

    def messages(self, batch: Batch, layout: Layout) -> Iterator[Outgoing | Unfit]:
        time.sleep(0.2)
        self._world.ledger.takeover(tenure(2), Cursor.BEGINNING, {})
        return super().messages(batch, layout)


def test_a_lane_lost_while_a_message_was_made_gets_none() -> None:
    world = World(lane0=["a,b"])
    world.outlet = SlowToBuild(world)
    world.activate(bounds=replace(QUICK, lease_s=0.5))
    assert world.broker.taken == []  # R5


def test_a_ledger_that_is_away_for_a_moment_costs_nothing() -> None:
    world = World(lane0=["a,b", "c"])
    flaky = Flaky(lambda: 0)
    flaky.restore(world.ledger.snapshot())
    assert world.activate(flaky).done.batches == 2
    assert world.broker.taken == ["a", "b", "c"]


def test_a_stopping_worker_takes_nothing_more_and_hands_the_rest_on() -> None:
    world = World(lane0=["a", "b"])
    world.stopping = True
    done = world.activate().done
    assert world.broker.taken == []
    assert [each.lane for each in done.again] == [0]
    assert world.held == 0


def test_one_activation_has_an_end() -> None:
    world = World(lane0=[f"r{number}" for number in range(deliver.BATCHES_PER_ACTIVATION + 3)])
    done = world.activate().done
    assert done.batches == deliver.BATCHES_PER_ACTIVATION
    assert done.again == [Activation(LaneNumber(0), 2)]


def test_the_summary_counts_and_shows_no_bodies() -> None:
    world = World(lane0=["a,b"])
    summary = world.activate().done.summary()
    assert summary == {"lanes": [0], "batches": 1, "records": 2, "first_position": 1, "last_position": 1}
