"""Tests of the tests: an activation that breaks a rule of producing must fail the tests of one activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sinkworker.delivery.deliver import Delivery
from sinkworker.delivery.idempotent import IdempotentWork
from sinkworker.delivery.window import InFlight
from sinkworker.errors import Undeliverable
from tests.unit import test_deliver as suite


class LetsGoWithoutPurging(Delivery):
    """R5: what the producer may still send stays on its way."""

    def _free_all(self, delay_ms: int, reason: Any = None) -> None:
        self._outlet, kept = None, self._outlet
        super()._free_all(delay_ms, reason)
        self._outlet = kept


class CondemnsWithoutPurging(Delivery):
    """R5."""

    def _condemn_all(self, reason: Any) -> None:
        self._outlet, kept = None, self._outlet
        super()._condemn_all(reason)
        self._outlet = kept


class Unawaited(suite.Producer):
    """R6: the first record to a partition is not awaited."""

    def primed(self, record: Any) -> bool:
        return True


class BlamesTheFirst(IdempotentWork):
    """R7: the record that a refusal names is blamed, though Kafka refuses whole requests."""

    def _after_refusal(self) -> None:
        self._careful = True
        super()._after_refusal()


class RenewsUnawaited(IdempotentWork):
    """R5: a producer is closed for another while it has something on its way."""

    def _await_all(self) -> None:
        pass


class BuriesUnawaited(IdempotentWork):
    """P1: a batch counts as delivered though its dead letter is not confirmed."""

    def _send_aside(self, producer: Any, flight: Any, letter: Any) -> None:
        producer.send(InFlight(flight.batch), letter)


class BuriesTheNext(IdempotentWork):
    """R7: a record goes aside when Kafka refuses, whichever it refused, and with whichever others."""

    def _guilt(self) -> Any:
        return Undeliverable("refused")


class LeavesTheLetter(suite.Outlet):
    """R5: letting go purges the producer of records alone."""

    def discard(self) -> None:
        aside, self.dead_letters = self.dead_letters, None
        super().discard()
        self.dead_letters = aside


class TakesRefusalForConfirmation(Delivery):
    """P1: how far a lane got is where it was stopped."""

    def remember_confirmed(self, held: Any) -> None:
        for flight in held.window.in_flight:
            flight.unconfirmed.clear()
            flight.outstanding = 0
        super().remember_confirmed(held)


BROKEN: dict[str, tuple[object, str, type, Callable[[], None]]] = {
    "lets go without purging": (
        suite,
        "Delivery",
        LetsGoWithoutPurging,
        suite.test_a_silent_broker_costs_the_producer_and_frees_the_lane_for_later,
    ),
    "condemns without purging": (
        suite,
        "Delivery",
        CondemnsWithoutPurging,
        suite.test_what_is_in_flight_is_purged_before_the_connector_is_condemned,
    ),
    "does not await the first record": (
        suite,
        "Producer",
        Unawaited,
        suite.test_the_first_record_of_a_new_producer_goes_to_its_partition_alone,
    ),
    "blames the first record of a refused request": (
        suite,
        "IdempotentWork",
        BlamesTheFirst,
        suite.test_a_refused_request_is_tried_record_by_record_before_one_is_blamed,
    ),
    "renews a producer with something on its way": (
        suite,
        "IdempotentWork",
        RenewsUnawaited,
        suite.test_a_topic_that_needs_another_producer_gets_it_once_all_before_it_is_confirmed,
    ),
    "does not await a dead letter": (
        suite,
        "IdempotentWork",
        BuriesUnawaited,
        suite.test_a_batch_is_not_acknowledged_before_its_dead_letter_is_confirmed,
    ),
    "leaves a dead letter on its way": (
        suite,
        "Outlet",
        LeavesTheLetter,
        suite.test_a_batch_is_not_acknowledged_before_its_dead_letter_is_confirmed,
    ),
    "takes a refused record for a confirmed one": (
        suite,
        "Delivery",
        TakesRefusalForConfirmation,
        suite.test_what_was_put_aside_before_the_stop_is_not_put_aside_again,
    ),
    "puts a record aside that did not go alone": (
        suite,
        "IdempotentWork",
        BuriesTheNext,
        suite.test_no_record_is_put_aside_for_a_refusal_that_others_shared,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, part, broken, test = BROKEN[name]
    test()
    monkeypatch.setattr(module, part, broken)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test()
