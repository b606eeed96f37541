"""One connector on this scheduler: hold its lease, run one tenure after another, and tell the registry how it ends."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from sinkworker import logs
from sinkworker.bell import SocketBell
from sinkworker.connectors.lifecycle import Connector, State
from sinkworker.errors import (
    Exhausted,
    KafkaUnavailable,
    OtherRelease,
    RedisUnavailable,
    Restored,
    SinkworkerError,
    Stale,
    Transient,
    exhausted,
)
from sinkworker.metrics.series import ERRORS, FAULTS
from sinkworker.model import Revision
from sinkworker.scheduling.endings import finish_stop
from sinkworker.scheduling.halt import Condemned
from sinkworker.scheduling.means import Means
from sinkworker.scheduling.tenure import ActiveTenure

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
STAND_BY_S = 1.0
STANDING_BY = "another scheduler runs the connector: standing by"
STEADY_S = 5.0
"""An epoch that ends sooner is taken for the same trouble again: each takeover is an event in the database."""


class Lease(Protocol):
    """The right to be the one scheduler of a connector. Politeness: safety rests on the epoch (P7)."""

    @property
    def held(self) -> bool:
        """Whether it was when it was last acquired or kept: it may have run out since."""

    def acquire(self) -> bool:
        """Take it, or keep it; whether it is held now. Raises Unavailable."""

    def keep(self) -> None:
        """Acquire it where it was held, also if it has run out and nobody has it. Raises Unavailable."""

    def release(self) -> None:
        """Let another scheduler have it at once. Never raises: it runs out by itself."""


class Runner(threading.Thread):
    """Runs one activation of a connector until it is stopped, fails, or this scheduler stops."""

    def __init__(
        self,
        means: Means,
        lease: Lease,
        may_take_over: Callable[[], bool],
        connector_id: str,
        activation: Revision | None,
        role: logs.Role,
    ) -> None:
        """`may_take_over`: whether a lease may be taken that another scheduler had, or may want back."""
        super().__init__(name=f"connector-{connector_id}", daemon=True)
        self.activation = activation
        self.bell = SocketBell()
        """Rings when the ledger has news for this connector."""
        self.failed = False
        """It ended for a reason that only a person can remove."""
        self.seen_to_fail = False
        """This activation failed before. What goes on since goes on elsewhere."""
        self._means = means
        self._lease = lease
        self._may_take_over = may_take_over
        self._id = connector_id
        self._told_to_stop = threading.Event()
        self._stood_by = False
        self._troubles = logs.Troubles(log, role, connector=connector_id)
        self._unsaid: SinkworkerError | None = None
        """What the connector waits for, until it says so itself."""

    def stop(self) -> None:
        """End in order; the thread ends soon after."""
        self._told_to_stop.set()
        self.bell.set()

    def keep_lease(self) -> None:
        """Called now and then by whoever started the runner. Raises Unavailable."""
        if self.is_alive():
            self._lease.keep()

    def run(self) -> None:
        pause_s = FIRST_PAUSE_S
        ended_by: SinkworkerError | None = None
        try:
            while not self._told_to_stop.is_set():
                began, ended_by = time.monotonic(), None
                try:
                    if self._attempt():
                        return
                    pause_s = STAND_BY_S
                except SinkworkerError as exc:  # R10: whatever it is, nothing is lost by trying again
                    ended_by = exc
                    self._say(exc)
                    steady = time.monotonic() - began > STEADY_S
                    pause_s = FIRST_PAUSE_S if steady else min(pause_s * 2, LONGEST_PAUSE_S)
                    if isinstance(exc, OtherRelease | Exhausted | KafkaUnavailable):
                        self._lease.release()  # a scheduler that can go on may be standing by
                self._told_to_stop.wait(pause_s)
        finally:
            if not isinstance(ended_by, RedisUnavailable):  # else it runs out, and nobody waits for Redis once more
                self._lease.release()
            self.bell.close()

    def _attempt(self) -> bool:
        """One tenure, if it is this scheduler's turn. Whether there is nothing left to do.

        Raises what ended the tenure, or kept it from beginning, and may pass.
        """
        if self._lease.held:
            self._means.registry.get(self._id)  # who does not reach the database does not keep it
        elif not self._may_take_over():
            return False
        if not self._lease.acquire():
            self._stand_by()
            return False
        connector = self._means.registry.get(self._id)
        if connector is None or connector.deleted:
            return True
        if connector.should_run:
            self.failed = connector.state is State.STOPPED and (self._stood_by or self.seen_to_fail)
            return self.failed or self._hold(connector)
        if connector.state is State.DEACTIVATING:
            finish_stop(self._means, self._id)
            log.info("stopped", extra={"connector": self._id})
        return True

    def _stand_by(self) -> None:
        """Another scheduler runs the connector. What makes it fail there is no reason to try the same here."""
        if not self._troubles.over(STANDING_BY) and not self._stood_by:
            log.info(STANDING_BY, extra={"connector": self._id})
        self._stood_by = True

    def _hold(self, connector: Connector) -> bool:
        tenure = ActiveTenure(self._means, self._id, self.bell, self._troubles)
        try:
            tenure.prepare(connector)
        except Transient:
            raise
        except Exception as exc:
            self._fail_for(tenure, exc)
            return True
        tenure.take_over()
        try:
            tenure.begin()
            self._troubles.forget()  # it has said that it runs
            self._unsaid = None
            tenure.pump(self._told_to_stop)
        except (Transient, Stale):
            tenure.abandon()
            raise
        except Exception as exc:
            self._fail_for(tenure, exc)
            return True
        tenure.end()
        now = self._means.registry.get(self._id)
        if now is not None and (not now.should_run or now.activation != self.activation):
            self._means.registry.report_stopped(self._id, tenure.epoch)
            log.info("stopped", extra={"connector": self._id})
        else:
            log.info("handed over", extra={"connector": self._id})
        return True

    def _fail_for(self, tenure: ActiveTenure, exc: Exception) -> None:
        """Raises Exhausted instead where it is only this machine that lacks something."""
        if (shortage := exhausted(exc)) is not None:
            tenure.abandon()
            raise shortage from exc
        code = exc.code if isinstance(exc, SinkworkerError) else "internal"
        self._means.tally.count(self._id, FAULTS)
        if not isinstance(exc, Condemned):
            self._means.tally.count(self._id, ERRORS, label=code)
        if isinstance(exc, SinkworkerError):
            self._fail(tenure, code, str(exc))
        else:
            log.exception("a bug stops the connector", extra={"connector": self._id})
            self._fail(tenure, code, f"Unexpected {type(exc).__name__}: {exc}")

    def _fail(self, tenure: ActiveTenure, code: str, message: str) -> None:
        """Stop for a reason that a person has to see (P5): end in order as far as it goes, then say so."""
        self.failed = True
        log.error("the connector stops: %s", message, extra={"connector": self._id})
        self._end(tenure, code)
        # A failure is said under an epoch. There is none before the takeover, and one that the database had given
        # before it was restored is unknown to it.
        epoch = tenure.epoch if tenure.began and code != Restored.code else None
        while True:
            try:
                if not tenure.began:
                    tenure.take_over()
                    epoch = tenure.epoch
                    self._end(tenure, code)
                elif epoch is None:
                    epoch = self._means.registry.take_over(self._id, self._means.instance).epoch
                assert epoch is not None
                self._means.registry.report_failed(self._id, epoch, self.activation, code, message)
            except Stale:
                return  # another epoch has begun: it will meet the same reason
            except SinkworkerError as exc:
                self._say(exc)
                if self._told_to_stop.wait(STAND_BY_S):
                    return
            else:
                return

    def _end(self, tenure: ActiveTenure, code: str) -> None:
        try:
            if code == Restored.code:
                tenure.break_off()
            else:
                tenure.end()
        except SinkworkerError as exc:
            log.warning("%s Its end could not be recorded.", exc, extra={"connector": self._id})
        except Exception:
            log.exception("a bug keeps its end from being recorded", extra={"connector": self._id})

    def _say(self, exc: SinkworkerError) -> None:
        """Once for each kind of trouble, not once for each attempt."""
        if isinstance(exc, Stale):
            self._troubles.say(exc, "The epoch is over: taking over again.", level=logging.INFO)
            return
        self._means.tally.count(self._id, FAULTS)
        if self._troubles.say(exc, "Trying again until it works."):
            self._unsaid = exc
        if self._unsaid is not None:
            self._have_it_said(self._unsaid)

    def _have_it_said(self, exc: SinkworkerError) -> None:
        """By the connector itself, once the database answers: it is not running, and nobody can see why.

        Not by one that stands by: what is wrong here is nothing to whoever runs it.
        """
        if self._stood_by and not self._lease.held:
            return
        with contextlib.suppress(SinkworkerError):
            connector = self._means.registry.get(self._id)
            if connector is not None and not connector.deleted:
                self._means.registry.report_waiting(self._id, connector.epoch, exc.code, str(exc))
            self._unsaid = None
