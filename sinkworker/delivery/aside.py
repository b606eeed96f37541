"""Activations that Kafka keeps waiting go on beside the tasks: no connector's Kafka may delay another's records."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sinkworker.errors import Unavailable
from sinkworker.ledger.contract import Activation, Enqueue
from sinkworker.model import Epoch, LaneNumber

PATIENCE_S = 1.0
"""How long the process waits together with an activation that hears nothing from Kafka."""

LEAST_PATIENCE_S = 0.2
"""The same, where the last activation waited in vain."""

LOOK_S = 0.05


class Awaited(Protocol):
    """A delivery, as far as it is waited for."""

    @property
    def silent_s(self) -> float:
        """How long it has been waiting for Kafka without a word; 0 while it is not."""


class _Run(threading.Thread):
    """One activation, in a thread of its own from its beginning: whether it has to wait is not known before."""

    def __init__(self, connector: str, work: Callable[[], dict[str, Any]], ended: Callable[[_Run], None]) -> None:
        super().__init__(name=f"activation-{connector}", daemon=True)
        self.connector = connector
        self.ended = threading.Event()
        self.result: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.owed: dict[LaneNumber, tuple[Epoch, Activation]] = {}
        """What came in while it went on beside, and is sent again when it has ended."""
        self._work = work
        self._on_end = ended

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as exc:  # raised again by whoever waits
            self.error = exc
        self._on_end(self)


class Aside:
    """The activations of one process that go on beside its tasks, at most one for each connector."""

    def __init__(self, enqueue: Enqueue) -> None:
        self._enqueue = enqueue
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        self._silent: set[str] = set()
        """Connectors whose last activation waited for Kafka in vain."""

    def takes(self, connector: str, epoch: Epoch, activations: Sequence[Activation]) -> bool:
        """Whether the connector has one. Then these activations have to wait until it ends, and are sent again."""
        with self._lock:
            run = self._runs.get(connector)
            if run is not None:
                run.owed |= {activation.lane: (epoch, activation) for activation in activations}
            return run is not None

    def run(self, connector: str, delivery: Awaited, work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """What the work answers or raises; None where it waits for Kafka, and goes on beside."""
        run = _Run(connector, work, self._ended)
        run.start()
        patience_s = LEAST_PATIENCE_S if connector in self._silent else PATIENCE_S
        while not run.ended.wait(LOOK_S):
            if delivery.silent_s > patience_s and self._leave(run):
                self._silent.add(connector)
                return None
        if run.error is not None:
            raise run.error
        return run.result

    def close(self, timeout_s: float) -> None:
        """Wait until each has let go, which it does by itself once the process has been told to stop."""
        for run in list(self._runs.values()):
            run.join(timeout_s)

    def _leave(self, run: _Run) -> bool:
        """Wait for it no longer, unless it has ended."""
        with self._lock:
            if not run.ended.is_set():
                self._runs[run.connector] = run
            return not run.ended.is_set()

    def _ended(self, run: _Run) -> None:
        with self._lock:
            run.ended.set()
            self._runs.pop(run.connector, None)
            if run.error is None:  # Kafka was only slow
                self._silent.discard(run.connector)
        for epoch, activation in run.owed.values():
            with contextlib.suppress(Unavailable):  # the reaper finds the lane waiting
                self._enqueue(run.connector, epoch, [activation])
