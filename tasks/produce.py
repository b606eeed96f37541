"""The one task: deliver what is in some lanes' mailboxes. Calls delivery and puts its outcome into Celery's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import signals
from kombu.exceptions import OperationalError

from sinkworker.delivery.worker import Worker
from sinkworker.errors import SinkworkerError, Unavailable
from sinkworker.ledger.contract import Activation
from sinkworker.model import Epoch, LaneNumber
from tasks.app import app, stopping

TASK = "sinkworker.deliver"

_worker: Worker | None = None
"""This process's worker, made by its first activation: producers and connections do not survive a fork."""


@app.task(name=TASK, throws=(SinkworkerError,))  # type: ignore[untyped-decorator]  # Celery ships no annotations
def deliver(connector: str, epoch: int, lanes: list[list[int]]) -> dict[str, Any]:
    """One activation: `lanes` are [lane, activation] pairs. The result counts what was delivered; no bodies in either.

    Safe to run twice at any time: the ledger lets one run claim a lane.
    """
    global _worker
    if _worker is None:
        from sinkworker import config
        from sinkworker.local import addresses

        _worker = Worker(addresses.resolve_now(config.load(config.environment())), enqueue, stopping)
    activations = [Activation(LaneNumber(lane), number) for lane, number in lanes]
    return _worker.activate(connector, Epoch(epoch), activations)


def enqueue(connector: str, epoch: Epoch, activations: Sequence[Activation]) -> None:
    """`sinkworker.ledger.contract.Enqueue`, over Celery."""
    lanes = [[activation.lane, activation.number] for activation in activations]
    try:
        app.send_task(TASK, kwargs={"connector": connector, "epoch": epoch, "lanes": lanes}, retry=False)
    except OperationalError as exc:
        raise Unavailable(f"The task queue does not answer: {exc}.") from exc


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _close(**_: Any) -> None:
    if _worker is not None:
        _worker.close()
