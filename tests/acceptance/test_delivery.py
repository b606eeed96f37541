"""A51-A53, A56, A59: what is guaranteed of delivery while something is broken (contract §7.4, §8)."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest
from kurrentdbclient import RecordedEvent

from sinkworker.demo.topic import create
from sinkworker.ledger.redis_ledger import RedisLedger
from tests.acceptance.product import WITHIN_S, Product, Sink, json_event, unique
from tests.acceptance.test_checkpoints import append, numbers, over
from tests.acceptance.wire import Wire
from tests.oracle import judge
from tests.processes import eventually
from tests.system import BROKER, QUICK, Role

BATCH_RECORDS = int(QUICK["SINKWORKER_BATCH_RECORDS"])
BY_STREAM = {"partitionKeyExtraction__enabled": "true", "partitionKeyExtraction__source": "stream"}


@dataclass
class Restarted:
    """Connectors over the same streams, after every role but the API was killed in mid-stream and started again."""

    runs: Sink
    """It had delivered some, and went on."""
    failed: Sink
    """Its topic did not exist then, and does now."""
    stopped: Sink
    events: list[RecordedEvent]


@pytest.fixture(scope="module")
def restarted(product: Product) -> Restarted:
    system = product.system
    prefix = unique("restart-")
    (first,) = append(product, prefix, 0)
    runs = product.running(over(prefix, **BY_STREAM), partitions=6)
    stopped = product.running(over(prefix))
    failed = product.sink(over(prefix), topic=unique("not-yet-there-"))
    failed.start()
    stopped.reaches(first)
    stopped.stop()
    assert failed.fails()["code"] == "topic-missing"
    create(system.servers, failed.topic, 1)

    killed = threading.Event()

    def append_on() -> None:
        for number in itertools.count():
            product.append(f"{prefix}{number % 30}", *(json_event("Counted", number) for _ in range(10)))
            if number >= 150 and killed.is_set():
                break

    appending = threading.Thread(target=append_on)
    appending.start()
    eventually(lambda: runs.position > first)
    for role in system.roles.values():
        role.kill()
    killed.set()
    for key in system.redis.scan_iter("sink:*:scheduler"):
        system.redis.delete(key)  # the dead one's leases, which only cost time
    for role in system.roles.values():
        role.start()
    appending.join()
    events = system.client.read_all(filter_include=[f"{prefix}.*"], filter_by_stream_name=True)
    return Restarted(runs, failed, stopped, list(events))


@pytest.mark.check("A51")
def test_a_kill_of_everything_in_mid_stream_loses_nothing(restarted: Restarted) -> None:
    events = restarted.events
    assert len(events) > 1500
    restarted.runs.reaches(events[-1].commit_position)
    verdict = judge(events, restarted.runs.messages(len(events)))  # duplicates are allowed
    assert verdict.holds, verdict


@pytest.mark.check("A59")
def test_after_a_restart_running_and_failed_connectors_return_and_stopped_ones_do_not(restarted: Restarted) -> None:
    last = restarted.events[-1].commit_position
    for sink in (restarted.runs, restarted.failed):
        sink.reaches(last)
        assert sink.state == "RUNNING"
        assert "errorDetails" not in sink.listed
    assert judge(restarted.events, restarted.failed.messages(len(restarted.events))).holds
    assert restarted.stopped.state == "STOPPED"
    assert numbers(restarted.stopped, 1) == [0]


@contextlib.contextmanager
def asleep(workers: Sequence[Role]) -> Iterator[None]:
    """Inside, no worker does anything."""
    children = [child for worker in workers for child in worker.children()]
    for child in children:
        os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGCONT)


@dataclass
class Paused:
    """What was seen of two connectors while the broker was paused, by their `waitForBrokerAck`."""

    events: list[str]
    """The ids of the records to deliver, in the order of the log."""
    sinks: Mapping[str, Sink]
    sent: Mapping[str, list[str]]
    """The ids of those that had left for the broker."""
    mailboxes: Mapping[str, int]
    """Batches in the lane's mailbox."""
    positions: tuple[Mapping[str, int], Mapping[str, int]]
    """Before the pause and at its end."""
    last: int
    """Position of the last event."""


@pytest.fixture(scope="module")
def paused(product: Product) -> Iterator[Paused]:
    """Two connectors of one lane each, and many events while the broker accepts bytes and answers nothing.

    Seen on the wire. A third connector, which delivers nothing, shows that checkpoints are written all the while.
    """
    wire = Wire(product.system.servers)
    prefix = unique("paused-")
    by_wire = {"bootstrapServers": wire.address, "compression:type": "none"}
    sinks = {wait: product.running({**over(prefix, waitForBrokerAck=wait), **by_wire}) for wait in ("true", "false")}
    idle = product.running(over(unique("nothing-")))

    def everybody_has_produced() -> bool:
        """Every worker to both topics: the first record of a producer goes alone, in either mode."""
        (warm,) = append(product, prefix, 0)
        for sink in sinks.values():
            sink.reaches(warm)
        return all(wire.producers(sink.id) == len(product.system.workers) for sink in sinks.values())

    eventually(everybody_has_produced, within_s=WITHIN_S)
    idle.runs()

    def sent(wait: str) -> list[str]:
        return [each for each in wire.records(sinks[wait].id) if each in new]

    def positions() -> dict[str, int]:
        return {wait: sink.position for wait, sink in sinks.items()}

    def mailbox(wait: str) -> int:
        watermark = RedisLedger(product.system.redis, sinks[wait].id, 1000).watermark()
        return 0 if watermark is None else watermark.in_flight_batches

    before = positions()
    broker = product.system.part(BROKER)
    os.kill(broker, signal.SIGSTOP)
    try:
        events = [json_event("Counted", number) for number in range(16 * BATCH_RECORDS)]
        new = {str(event.id) for event in events}
        with asleep(product.system.workers):  # so that each finds many batches when it first looks
            last = product.append(f"{prefix}1", *events)
            eventually(lambda: min(map(mailbox, sinks)) > 8)
        eventually(lambda: len(sent("false")) > BATCH_RECORDS and sent("true"))
        product.append(unique("traffic-"), *(json_event("Passing", number) for number in range(600)))
        eventually(lambda: idle.position > last, within_s=WITHIN_S)
        seen = {wait: sent(wait) for wait in sinks}
        mailboxes = {wait: mailbox(wait) for wait in sinks}
        after = positions()
    finally:
        os.kill(broker, signal.SIGCONT)
    yield Paused([str(event.id) for event in events], sinks, seen, mailboxes, (before, after), last)
    wire.close()


@pytest.mark.check("A52")
def test_no_position_moves_until_the_broker_has_confirmed(paused: Paused) -> None:
    before, after = paused.positions
    assert after == before
    for sink in paused.sinks.values():
        sink.reaches(paused.last)
        eventually(lambda sink=sink: set(paused.events) <= {each.record_id for each in sink.messages()})  # type: ignore[misc]


@pytest.mark.check("A53")
def test_waiting_for_the_broker_lets_one_batch_of_a_lane_out_and_not_waiting_several(paused: Paused) -> None:
    """A batch has at most `BATCH_RECORDS` records. Both lanes had more batches waiting than left."""
    waiting, other = paused.sent["true"], paused.sent["false"]
    assert 0 < len(waiting) <= BATCH_RECORDS < len(other)
    assert waiting == paused.events[: len(waiting)]
    assert other == paused.events[: len(other)]
    assert min(paused.mailboxes.values()) > 8


@pytest.mark.check("A56")
def test_a_record_that_kafka_never_takes_stops_the_connector_until_it_runs_again(product: Product) -> None:
    prefix = unique("oversize-")
    append(product, prefix, 1)
    oversize = product.append(f"{prefix}1", json_event("Counted", "x" * 1_000_100))
    append(product, prefix, 2)
    topic = product.system.topic(1, {"max.message.bytes": "1000"})
    sink = product.sink(over(prefix), topic=topic)
    sink.start()
    reason = sink.fails()
    assert reason["code"] == "MSG_SIZE_TOO_LARGE"
    assert f"position {oversize}" in reason["message"]
    assert sink.position < oversize
    assert set(numbers(sink, 1)) == {1}
    sink.do(f"start/{oversize}")
    sink.runs()
    assert "errorDetails" not in sink.listed
    eventually(lambda: numbers(sink, 1)[-1] == 2)
