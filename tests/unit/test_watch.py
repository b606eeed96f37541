"""What a coordinator does for connectors while one of its servers is away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sinkworker import logs
from sinkworker.checkpoint.coordinator import Coordinator
from sinkworker.checkpoint.store import Checkpoint
from sinkworker.checkpoint.watch import Watch
from sinkworker.config import Config, Secret
from sinkworker.connectors.lifecycle import GenerationInfo
from sinkworker.errors import KurrentDBUnavailable
from sinkworker.ledger.contract import LONGEST_RESEND_MS, Activation, Enqueue
from sinkworker.ledger.memory import MemoryLedger
from sinkworker.metrics.series import COMMIT_S
from sinkworker.metrics.tally import Tally
from sinkworker.model import Cursor, Epoch, Generation, Layout, Revision
from tests.builders import batch, cursor, stopped_connector, tenure


class Away:
    """A store of checkpoints whose database does not answer."""

    def load(self) -> Any:
        raise KurrentDBUnavailable("It does not answer.")


class Stored:
    """A store that has a checkpoint already, and takes every other."""

    def __init__(self, cursor: Cursor) -> None:
        self._stands = Checkpoint(cursor, Revision(0))

    def load(self) -> Checkpoint:
        return self._stands

    def advance(self, _seen: Checkpoint, cursor: Cursor, _epoch: Epoch) -> Checkpoint:
        return Checkpoint(cursor, Revision(1))


def watching(ledger: MemoryLedger, store: Any, enqueue: Enqueue = lambda *_: None, tally: Tally | None = None) -> Watch:
    generation = GenerationInfo(
        Generation("generation-0"), Cursor.BEGINNING, Layout(4, 4, "k"), "", "", stopped_connector().created_at
    )
    settings = {"instanceTypeName": "kafka-sink", "topic": "loans"}
    connector = replace(stopped_connector(), generation=generation, active_settings=settings)
    return Watch(connector, ledger, store, enqueue, logs.Role(), tally or Tally())


def test_what_a_scheduler_has_committed_is_not_told_with_the_next_checkpoint() -> None:
    ledger = MemoryLedger(lambda: 0)
    ledger.takeover(tenure(1), Cursor.BEGINNING, {})
    survey = ledger.dispatch(Epoch(1), 0, cursor(2), [])
    tally = Tally()
    watch = watching(ledger, Stored(cursor(2)), tally=tally)
    watch.commit(0.0)
    ledger.advance(Epoch(1), survey.counter, cursor(4))
    watch.commit(100.0)
    watch.commit(200.0, last=True)
    counts = tally.drain()["loans-sink"]
    assert sum(value for name, value in counts.items() if not name.endswith("|sum")) == 1
    assert counts[f"{COMMIT_S.name}|sum"] <= 100.0


def test_lanes_are_revived_while_the_database_is_away() -> None:
    now_ms = 0
    ledger = MemoryLedger(lambda: now_ms)
    ledger.takeover(tenure(1), Cursor.BEGINNING, {})
    ledger.dispatch(Epoch(1), 0, cursor(2), [batch(0, 0, 1)])
    sent: list[Sequence[Activation]] = []
    watch = watching(ledger, Away(), lambda _id, _epoch, activations: sent.append(activations))
    assert not watch.commit(0.0)
    now_ms = LONGEST_RESEND_MS
    assert watch.reap()
    assert [each.lane for (each,) in sent] == [0]


def test_a_connector_whose_server_is_silent_comes_last_the_next_time() -> None:
    """So that each has its turn, though a pass ends at the first that meets one."""
    config = Config(
        redis_url=Secret("redis://127.0.0.1:1"),
        kurrentdb_uri=Secret("kurrentdb://127.0.0.1:1?tls=false"),
        kafka_bootstrap_servers="127.0.0.1:1",
    )
    coordinator = Coordinator(config, lambda *_: None)
    coordinator._watches = {name: name for name in "abcd"}  # type: ignore[misc]
    turns: list[list[str]] = []
    for _ in range(3):
        turns.append([])

        def step(watch: Any, turn: list[str] = turns[-1]) -> bool:
            turn.append(watch)
            return bool(watch != "b")

        coordinator._for_each(step)
    assert turns == [["a", "b"], ["a", "c", "d", "b"], ["a", "c", "d", "b"]]
