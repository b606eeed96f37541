"""A stop that nobody completed, where the last scheduler had not come to the ledger."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sinkworker.connectors.lifecycle import Connector, GenerationInfo
from sinkworker.errors import Stale
from sinkworker.ledger.memory import MemoryLedger
from sinkworker.model import Cursor, Epoch, Generation, Layout
from sinkworker.scheduling import endings
from tests.builders import batch, cursor, stopped_connector, tenure


@pytest.mark.parametrize(
    ("begun", "generation_id", "is_settled"),
    [(5, "generation-0", True), (7, "generation-0", False), (5, "generation-1", False)],
    ids=["the last one", "an older one", "another generation's"],
)
def test_whatever_epoch_the_ledger_is_of_is_ended(
    begun: int, generation_id: str, is_settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`begun`: the last epoch in the database; the ledger is of epoch 5."""
    ledger = MemoryLedger(lambda: 0)
    ledger.takeover(tenure(5), Cursor.BEGINNING, {})
    survey = ledger.dispatch(Epoch(5), 0, cursor(2), [batch(0, 0, 1)])
    generation = GenerationInfo(
        Generation(generation_id), Cursor.BEGINNING, Layout(4, 4, "k"), "", "", stopped_connector().created_at
    )
    settings = {"instanceTypeName": "kafka-sink", "topic": "loans"}
    before = replace(stopped_connector(), epoch=Epoch(begun), generation=generation, active_settings=settings)
    settled: list[Epoch] = []
    stopped: list[Epoch] = []

    def settle(_means: Any, _connector: Connector, epoch: Epoch, *_: Any) -> None:
        settled.append(epoch)

    monkeypatch.setattr(endings, "settle", settle)
    registry = SimpleNamespace(
        get=lambda _: before,
        take_over=lambda *_: replace(before, epoch=Epoch(9)),
        report_stopped=lambda _, epoch: stopped.append(epoch),
    )
    means: Any = SimpleNamespace(ledger=ledger, registry=registry, instance="here", drain_timeout_s=0.1)
    endings.finish_stop(means, "loans-sink")
    with pytest.raises(Stale):
        ledger.claim(Epoch(5), survey.activations[0], "token")
    assert stopped == [9]
    assert settled == ([9] if is_settled else [])
