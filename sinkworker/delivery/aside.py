"""Activations that Kafka keeps waiting go on beside the tasks: no connector's Kafka may delay another's records."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Protocol

from sinkworker.errors import SinkworkerError, Unavailable
from sinkworker.ledger.contract import Activation, Enqueue
from sinkworker.model import Epoch, LaneNumber

log = logging.getLogger(__name__)

PATIENCE_S = 2.5
"""How long the process waits together with an activation that hears nothing from Kafka. The first word of brokers that
are well may take more than a second."""

LEAST_PATIENCE_S = 0.2
"""The same, where the last activation waited in vain."""

RETURN_S = 1.0
"""How long the process keeps what came for a connector that has one. Then another worker may have more luck."""

MOST = 16
"""Activations of one process at a time, since each has records in memory (P6). One more waits until another ends."""


class Awaited(Protocol):
    """A delivery, as far as it is waited for."""

    @property
    def silent_s(self) -> float:
        """How long it has been waiting for Kafka without a word; 0 while it is not."""


class Aside:
    """The activations of one process that go on beside its tasks, at most one for each connector.

    `takes`, `run`, `has` and `close` are for one thread.
    """

    def __init__(self, enqueue: Enqueue) -> None:
        self._enqueue = enqueue
        # Each activation is in a thread from its beginning: whether it has to wait is not known before.
        self._threads = ThreadPoolExecutor(MOST, "activation")
        self._runs: dict[str, Future[dict[str, Any]]] = {}
        self._silent: set[str] = set()
        """Connectors whose last activation waited for Kafka in vain."""
        self._lock = threading.Lock()
        self._owed: dict[str, dict[LaneNumber, tuple[Epoch, int]]] = {}
        """What came for a connector that has one: of each lane the newest activation."""

    def takes(self, connector: str, epoch: Epoch, activations: Sequence[Activation]) -> bool:
        """Whether the connector has one. Then these activations have to wait, and are sent again in a moment."""
        if connector not in self._runs:
            return False
        with self._lock:
            if connector not in self._owed:
                self._owed[connector] = {}
                timer = threading.Timer(RETURN_S, self._return, [connector])
                timer.daemon = True
                timer.start()
            owed = self._owed[connector]
            for each in activations:
                owed[each.lane] = max(owed.get(each.lane, (epoch, each.number)), (epoch, each.number))
        return True

    def run(self, connector: str, delivery: Awaited, work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """What the work answers or raises; None where it waits for Kafka, and goes on beside."""
        run = self._threads.submit(work)
        patience_s = LEAST_PATIENCE_S if connector in self._silent else PATIENCE_S
        while not run.done():
            left_s = patience_s - delivery.silent_s
            if left_s <= 0:
                self._silent.add(connector)
                self._runs[connector] = run
                run.add_done_callback(partial(self._ended, connector))
                return None
            wait([run], left_s)
        try:
            summary = run.result()
            self._silent.discard(connector)
            return summary
        finally:
            del run  # an error that holds it would keep the records of its frames in memory

    def has(self, connector: str) -> bool:
        """Whether an activation of the connector goes on beside."""
        return connector in self._runs

    def close(self, timeout_s: float) -> bool:
        """Wait until all have let go, as each does once the process has been told to stop. Whether they have.

        What is owed is left to the reaper.
        """
        return not wait(list(self._runs.values()), timeout_s).not_done

    def _ended(self, connector: str, run: Future[dict[str, Any]]) -> None:
        error = run.exception()
        if error is None:  # Kafka was only slow
            self._silent.discard(connector)
        elif not isinstance(error, SinkworkerError):  # nobody else will say it
            log.error("a bug ended an activation", exc_info=error, extra={"connector": connector})
        del self._runs[connector]

    def _return(self, connector: str) -> None:
        with self._lock:
            owed = self._owed.pop(connector)
        for epoch in {epoch for epoch, _ in owed.values()}:
            again = [Activation(lane, number) for lane, (of, number) in owed.items() if of == epoch]
            with contextlib.suppress(Unavailable):  # the reaper finds the lanes waiting
                self._enqueue(connector, epoch, again)
