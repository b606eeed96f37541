"""What a process does with an activation that Kafka keeps waiting: it goes on beside, and nothing that came is lost."""

from __future__ import annotations

import threading
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


@pytest.fixture
def sent() -> list[tuple[str, Epoch, list[Activation]]]:
    return []


@pytest.fixture
def beside(sent: list[tuple[str, Epoch, list[Activation]]]) -> Aside:
    return Aside(lambda connector, epoch, activations: sent.append((connector, epoch, list(activations))))


def test_what_ends_is_waited_for(beside: Aside) -> None:
    delivery = Delivery(silent_s=0.0)
    threading.Timer(4 * aside.LOOK_S, delivery.told_to_end.set).start()
    assert beside.run("loans", delivery, delivery.work) == {"records": 5}
    assert not beside.takes("loans", EPOCH, [LANE])


def test_what_it_raises_is_raised(beside: Aside) -> None:
    def fail() -> dict[str, Any]:
        raise Transient("not now")

    with pytest.raises(Transient):
        beside.run("loans", Delivery(silent_s=0.0), fail)


def test_a_silent_one_goes_on_beside_and_what_came_meanwhile_is_sent_again(
    beside: Aside, sent: list[tuple[str, Epoch, list[Activation]]]
) -> None:
    delivery = Delivery(silent_s=aside.PATIENCE_S + 1)
    assert beside.run("loans", delivery, delivery.work) is None
    assert beside.takes("loans", EPOCH, [LANE])
    assert beside.takes("loans", EPOCH, [LANE])
    assert not beside.takes("other", EPOCH, [LANE])
    assert not sent
    delivery.told_to_end.set()
    eventually(lambda: sent)
    beside.close(10)
    assert sent == [("loans", EPOCH, [LANE])]
    assert not beside.takes("loans", EPOCH, [LANE])


def test_a_kafka_that_was_waited_for_in_vain_is_waited_for_less_until_it_answers(beside: Aside) -> None:
    def in_vain() -> dict[str, Any]:
        silent.work()
        raise Transient("nothing was confirmed")

    short_s = (aside.LEAST_PATIENCE_S + aside.PATIENCE_S) / 2
    silent = Delivery(silent_s=aside.PATIENCE_S + 1)
    assert beside.run("loans", silent, in_vain) is None
    silent.told_to_end.set()
    beside.close(10)
    slow = Delivery(silent_s=short_s)
    assert beside.run("loans", slow, slow.work) is None
    slow.told_to_end.set()
    beside.close(10)
    patient = Delivery(silent_s=short_s)
    threading.Timer(4 * aside.LOOK_S, patient.told_to_end.set).start()
    assert beside.run("loans", patient, patient.work) == {"records": 5}
