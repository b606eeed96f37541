"""How to go over from an original connector to its copy: by what is known of the original."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sinkworker.commands.importing import Original, switch_over

EARLIEST = {"Subscription:InitialPosition": "Earliest"}


def steps(state: str, position: int | None, settings: Mapping[str, str] = EARLIEST) -> list[str]:
    original = Original("loans-sink", "Loans", state, position, settings)
    return switch_over(original, "loans-copy", "https://db:2113")


def test_a_stopped_one_goes_on_after_its_position() -> None:
    (step,) = steps("STOPPED", 16829)
    assert step.endswith("sinkworker connectors start loans-copy --position 16829")


def test_a_running_one_is_stopped_first_and_its_position_read_after_that() -> None:
    stop, read, start, _ = steps("RUNNING", 16829)
    assert "-X POST https://db:2113/connectors/loans-sink/stop" in stop
    assert "CONNECTOR_STATE_STOPPED" in read
    assert "https://db:2113/connectors?connectorId=loans-sink" in read
    assert start.endswith("sinkworker connectors start loans-copy --position P")


@pytest.mark.parametrize("state", ["STOPPED", "RUNNING"])
def test_one_without_a_position_begins_where_its_initial_position_says(state: str) -> None:
    assert steps(state, None)[-1].endswith("start loans-copy")
    assert "earliest" in steps(state, None)[-1]
    assert "latest" in " ".join(steps(state, None, {}))


def test_a_running_one_without_a_position_and_from_latest_is_not_stopped_before_it_has_one() -> None:
    first, second, *_ = steps("RUNNING", None, {})
    assert "Wait until it has one there" in first
    assert second.startswith("Stop it there")
