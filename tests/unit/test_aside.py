"""What a process does with an activation that Kafka keeps waiting: it goes on beside, and nothing that came is lost."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from typing import Any

import pytest

from sinkworker.delivery import aside
from sinkworker.delivery.aside import Aside
from sinkworker.errors import Transient
from sinkworker.ledger.contract import Activation
from sinkworker.model import Epoch, LaneNumber
from tests.processes import eventually

EPOCH = Epoch(3)
LANE = Activation(LaneNumber(1), 7)


class Delivery:
    """One that ends when it is told to."""

    def __init__(self, silent_s: float) -> None:
        self.silent_s = silent_s
        self.told_to_end = threading.Event()

    def work(self) -> dict[str, Any]:
        assert self.told_to_end.wait(10)
        return {"records": 5}


Sent = list[tuple[str, Epoch, list[Activation]]]


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def beside(sent: Sent) -> Aside:
    return Aside(lambda connector, epoch, activations: sent.append((connector, epoch, list(activations))))


def test_what_ends_is_waited_for(beside: Aside) -> None:
    delivery = Delivery(silent_s=0.0)
    threading.Timer(0.2, delivery.told_to_end.set).start()
    assert beside.run("loans", delivery, delivery.work) == {"records": 5}
    assert not beside.takes("loans", EPOCH, [LANE])


def test_what_it_raises_is_raised(beside: Aside) -> None:
    def fail() -> dict[str, Any]:
        raise Transient("not now")

    with pytest.raises(Transient):
        beside.run("loans", Delivery(silent_s=0.0), fail)


def test_a_silent_one_goes_on_beside_and_what_came_meanwhile_is_sent_again(beside: Aside, sent: Sent) -> None:
    delivery = Delivery(silent_s=aside.PATIENCE_S + 1)
    assert beside.run("loans", delivery, delivery.work) is None
    assert beside.takes("loans", EPOCH, [LANE])
    assert beside.takes("loans", EPOCH, [LANE])
    assert not beside.takes("other", EPOCH, [LANE])
    assert not sent
    delivery.told_to_end.set()
    assert beside.close(10)
    eventually(lambda: not beside.takes("loans", EPOCH, [LANE]))
    eventually(lambda: sent)
    assert sent[0] == ("loans", EPOCH, [LANE])


def test_another_worker_has_its_chance_while_it_waits(beside: Aside, sent: Sent) -> None:
    """Of each lane the newest activation, whatever comes late, and one task for each epoch."""
    delivery = Delivery(silent_s=aside.PATIENCE_S + 1)
    assert beside.run("loans", delivery, delivery.work) is None
    other, newer, late = Activation(LaneNumber(2), 5), Activation(LaneNumber(1), 1), Activation(LaneNumber(1), 9)
    assert beside.takes("loans", EPOCH, [LANE, other])
    assert beside.takes("loans", Epoch(EPOCH + 1), [newer])
    assert beside.takes("loans", EPOCH, [late])
    eventually(lambda: len(sent) == 2)
    assert sorted(sent) == [("loans", EPOCH, [other]), ("loans", Epoch(EPOCH + 1), [newer])]
    assert beside.takes("loans", EPOCH, [LANE])
    eventually(lambda: len(sent) == 3)
    delivery.told_to_end.set()


def test_the_end_of_a_process_waits_no_longer_than_it_is_told(beside: Aside) -> None:
    deliveries = [Delivery(silent_s=aside.PATIENCE_S + 1) for _ in range(5)]
    for number, each in enumerate(deliveries):
        assert beside.run(f"loans-{number}", each, each.work) is None
    begun = time.monotonic()
    assert not beside.close(0.2)
    assert time.monotonic() - begun < 0.2 * len(deliveries)
    for each in deliveries:
        each.told_to_end.set()
    assert beside.close(10)


def test_what_no_task_waits_for_any_more_says_its_bug(beside: Aside, caplog: pytest.LogCaptureFixture) -> None:
    delivery = Delivery(silent_s=aside.PATIENCE_S + 1)

    def fail() -> dict[str, Any]:
        delivery.work()
        raise ZeroDivisionError

    assert beside.run("loans", delivery, fail) is None
    delivery.told_to_end.set()
    eventually(lambda: "ZeroDivisionError" in caplog.text)


def test_an_error_keeps_nothing_in_memory(beside: Aside) -> None:
    """P6: what failed has records in its frames."""

    class Records:
        pass

    def fail() -> dict[str, Any]:
        records = Records()
        kept.append(weakref.ref(records))
        raise Transient("not now")

    kept: list[weakref.ref[Records]] = []
    gc.disable()
    try:
        with contextlib.suppress(Transient):
            beside.run("loans", Delivery(silent_s=0.0), fail)
        assert kept[0]() is None
    finally:
        gc.enable()


def test_a_kafka_that_was_waited_for_in_vain_is_waited_for_less_until_it_answers(beside: Aside) -> None:
    def in_vain() -> dict[str, Any]:
        silent.work()
        raise Transient("nothing was confirmed")

    short_s = (aside.LEAST_PATIENCE_S + aside.PATIENCE_S) / 2
    silent = Delivery(silent_s=aside.PATIENCE_S + 1)
    assert beside.run("loans", silent, in_vain) is None
    silent.told_to_end.set()
    eventually(lambda: not beside.has("loans"))
    slow = Delivery(silent_s=short_s)
    assert beside.run("loans", slow, slow.work) is None
    slow.told_to_end.set()
    eventually(lambda: not beside.has("loans"))
    patient = Delivery(silent_s=short_s)
    threading.Timer(0.2, patient.told_to_end.set).start()
    assert beside.run("loans", patient, patient.work) == {"records": 5}
