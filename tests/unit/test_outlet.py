"""What a worker keeps of the topics of a template, over brokers that describe any topic."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

import pytest

from sinkworker.connectors.settings import parse
from sinkworker.delivery import outlet
from sinkworker.delivery.deliver import Bounds, Delivery
from sinkworker.delivery.exact_outlet import ExactKafkaOutlet, Life
from sinkworker.delivery.outlet import Errand, KafkaOutlet, Outlets
from sinkworker.errors import KurrentDBUnavailable
from sinkworker.ledger import payload
from sinkworker.ledger.memory import MemoryLedger
from sinkworker.model import Generation, Layout, SettingsId
from sinkworker.outgoing import Outgoing
from sinkworker.topics import Topic
from tests.builders import batch
from tests.unit.test_messages import event


class Brokers:
    """Every topic is there, and takes as much as its name says."""

    def __init__(self) -> None:
        self.described: list[str] = []

    def check(self) -> None:
        """They answer."""

    def topic(self, name: str) -> Topic:
        self.described.append(name)
        return Topic(name, 3, int(name.rpartition("-")[2]))


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    made = Brokers()
    monkeypatch.setattr(outlet, "Brokers", type("", (), {"check": Brokers.check, "__new__": lambda *_: made}))
    return made


@pytest.fixture
def template(brokers: Brokers) -> Iterator[KafkaOutlet]:
    settings = parse({"instanceTypeName": "kafka-sink", "topic": "users-{metadata.limit}"})
    options = {"bootstrap.servers": "127.0.0.1:1", "enable.idempotence": True}
    made = KafkaOutlet(Errand("users", settings, options, 4, 1.0, lambda _s, _n: None))
    yield made
    made.close()


def messages(of: KafkaOutlet, *limits: int) -> list[Outgoing]:
    """Those of a batch whose records go to topics that take so much."""
    raw = []
    for number, limit in enumerate(limits):
        answer = outlet._ReadResp()
        answer.event.event.CopyFrom(event(b"{}", number, metadata=b'{"limit": %d}' % limit))
        raw.append(answer.SerializeToString())
    made = of.messages(batch(0, 0, 1, count=len(raw), payload=payload.pack(raw)), Layout(0, 32, "k"))
    return [each for each in made if isinstance(each, Outgoing)]


def outgrown_by(of: KafkaOutlet, *limits: int) -> bool:
    """Whether the producer is, once there are such messages."""
    messages(of, *limits)
    return of.outgrown


def test_each_topic_is_described_once_until_something_goes_wrong(template: KafkaOutlet, brokers: Brokers) -> None:
    found = messages(template, 2000000, 3000000, 2000000)
    assert [each.topic for each in found] == ["users-2000000", "users-3000000", "users-2000000"]
    assert all(each.partition < 3 for each in found)
    messages(template, 3000000)
    template.renew()
    messages(template, 3000000)
    assert brokers.described == ["users-2000000", "users-3000000"]
    template.discard()
    messages(template, 3000000)
    assert brokers.described == ["users-2000000", "users-3000000", "users-3000000"]


def test_a_producer_is_outgrown_by_a_topic_with_another_limit_and_the_next_suits_all(template: KafkaOutlet) -> None:
    assert template.producer.suits(1_048_588)
    assert not outgrown_by(template, 1_048_588)
    for limit in (2_000, 9_000_000):
        assert outgrown_by(template, limit)  # R7
        template.renew()
        assert template.producer.suits(limit)
        assert not outgrown_by(template, limit)
    assert template.producer.suits(2_000)


def test_no_more_topics_are_remembered_than_there_is_room_for(
    template: KafkaOutlet, brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MOST_TOPICS", 3)
    messages(template, 2001, 2002, 2003)
    assert template.producer.suits(2002)
    assert not outgrown_by(template, 2003)
    assert outgrown_by(template, 2002, 2004)  # P6
    messages(template, 2001)
    assert brokers.described.count("users-2001") == 2


class Kept(KafkaOutlet):
    """Says whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True
        super().close()


class Worker:
    """Outlets of connectors, each of which runs with some settings or none, at a time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.running: dict[str, SettingsId] = {}
        self.busy: set[str] = set()
        self.asked: list[str] = []
        self.away = False
        settings = parse({"instanceTypeName": "kafka-sink", "topic": "loans"})
        self.outlets = Outlets(
            lambda *_: settings, 4, "127.0.0.1:1", 1.0, make=Kept, runs=self._runs, clock=lambda: self.now_s
        )

    def _runs(self, connector: str, settings: SettingsId) -> bool:
        self.asked.append(connector)
        if self.away:
            raise KurrentDBUnavailable("away")
        return self.running.get(connector) == settings

    def use(self, connector: str, settings: str = "first") -> Kept:
        self.running[connector] = SettingsId(settings)
        found = self.outlets.get(connector, SettingsId(settings))
        assert isinstance(found, Kept)
        return found

    def tidied(self, after_s: float = outlet.UNUSED_S) -> str | None:
        self.now_s += after_s
        return self.outlets.tidy(self.busy.__contains__)


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_the_outlet_of_a_connector_that_stopped_is_closed_once_it_is_not_used(worker: Worker) -> None:
    stopped, other = worker.use("stopped"), worker.use("other")
    del worker.running["stopped"]
    worker.now_s += outlet.UNUSED_S / 2
    worker.use("other")
    assert worker.tidied(outlet.UNUSED_S / 3) is None  # another worker may have lanes of its yet
    assert worker.tidied(outlet.UNUSED_S / 3) == "stopped"  # P6
    assert (stopped.closed, other.closed) == (True, False)
    assert worker.use("stopped") is not stopped


def test_an_outlet_is_kept_while_its_connector_runs_however_rarely_it_is_used(worker: Worker) -> None:
    kept = worker.use("rare")
    assert [worker.tidied() for _ in range(3)] == [None] * 3
    assert not kept.closed
    assert worker.use("rare") is kept
    worker.running["rare"] = SettingsId("second")  # it was started again, and other workers have its lanes
    assert worker.tidied() == "rare"
    assert kept.closed


def test_an_outlet_that_is_in_use_or_may_be_needed_is_kept(worker: Worker) -> None:
    kept = worker.use("silent")
    worker.running.clear()
    worker.busy.add("silent")
    assert worker.tidied() is None
    worker.busy.clear()
    worker.away = True
    assert worker.tidied() is None  # nobody knows
    assert not kept.closed
    worker.away = False
    assert worker.tidied() == "silent"


def test_of_many_connectors_one_is_asked_about_at_a_time_and_each_in_its_turn(worker: Worker) -> None:
    names = [f"connector-{number}" for number in range(5)]
    for name in names:
        worker.use(name)
    worker.tidied()
    worker.tidied(outlet.ASKED_EVERY_S / 2)
    assert len(worker.asked) == 1
    for _ in names:
        worker.tidied(outlet.ASKED_EVERY_S)
    assert sorted(worker.asked) == names


@pytest.mark.parametrize("make", [KafkaOutlet, lambda errand: ExactKafkaOutlet(errand, no_life, lambda _lane: None)])
def test_claims_are_held_while_a_transformation_runs(make: Callable[[Errand], KafkaOutlet]) -> None:
    source = base64.b64encode(b"function transform(record) { while (true); }").decode()
    function = {"transformer:enabled": "true", "transformer:function": source}
    settings = parse({"instanceTypeName": "kafka-sink", "topic": "users", **function})
    made = make(Errand("users", settings, {"bootstrap.servers": "127.0.0.1:1"}, 4, 1.0, lambda _s, _n: None))
    delivery = Delivery(MemoryLedger(lambda: 0), lambda _: made, Bounds())
    made.work(delivery)
    assert made._builder._transformer is not None
    assert made._builder._transformer.meanwhile == delivery.hold_claims


def no_life(_connector: str, _generation: Generation) -> Life:
    raise AssertionError("no lane is opened")
