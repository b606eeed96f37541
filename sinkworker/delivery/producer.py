"""The idempotent producer: one long-lived instance per process and connector revision, never made before a fork."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sinkworker.delivery.window import InFlight
from sinkworker.outgoing import Link, Outgoing, Refusal, batch_limits, produce
from sinkworker.topics import CRITICAL_ONLY, DEFAULT_MAX_MESSAGE_BYTES, making_a_client

_LOG = logging.getLogger("sinkworker.librdkafka")

CLOSE_POLL_S = 0.05


class LaneProducer:
    """librdkafka's idempotent producer with what delivery needs to know of its reports.

    After the first refusal (`refusal`) it must not be used for anything but `abandon`: a gap in its sequence would let
    later records overtake the refused one.
    """

    def __init__(self, options: Mapping[str, Any], max_message_bytes: Collection[int]) -> None:
        """`max_message_bytes`: of the topics it is for; none where the first is yet to be met. Raises Exhausted."""
        self._smallest = min(max_message_bytes, default=DEFAULT_MAX_MESSAGE_BYTES)
        self._largest = max(max_message_bytes, default=DEFAULT_MAX_MESSAGE_BYTES)
        self.refusal: Refusal | None = None
        self.link = Link()
        self.confirmations = 0
        self._primed: set[tuple[str, int]] = set()
        client = {
            **options,
            # What librdkafka refuses in the middle of a sequence must not be overtaken: fatal instead of a gap.
            "enable.gapless.guarantee": True,
            **batch_limits(self._smallest, self._largest),
            "error_cb": self.link.fails,
            "log_level": CRITICAL_ONLY,
        }
        with making_a_client(options):
            self._producer = Producer(client, logger=_LOG)

    def suits(self, max_message_bytes: int) -> bool:
        """Whether it is also for a topic that takes so much."""
        return self._smallest <= max_message_bytes <= self._largest

    def primed(self, record: Outgoing) -> bool:
        """Whether a record of this producer has been confirmed on that one's partition (R6)."""
        return (record.topic, record.partition) in self._primed

    def send(self, flight: InFlight, record: Outgoing) -> bool:
        """Hand a record over; its report counts down `flight.outstanding`.

        False where it was not taken: something was refused (`refusal`), or the local queue is full (poll, try again).
        """
        if self.refusal is not None:
            return False
        try:
            produce(self._producer, record, partial(self._on_report, flight, record))
        except BufferError:
            return False
        except KafkaException as exc:
            self.refusal = Refusal(flight.batch.lane, record, exc.args[0])
            return False
        flight.outstanding += 1
        return True

    def poll(self, timeout_s: float, *, at_once: bool = False) -> None:
        """Serve delivery reports; returns early when there are some.

        `at_once`: nothing will follow what was sent, so that it need not linger for company. Then it returns early
        only when all is reported.
        """
        try:
            if at_once:
                self._producer.flush(timeout_s)  # which overrides `linger.ms`
            else:
                self._producer.poll(timeout_s)
        except KafkaException as exc:
            if not exc.args[0].fatal():
                raise
            # The client library raises what is fatal, before it reports the record that it is about.
            self.link.trouble = exc.args[0]

    def abandon(self) -> None:
        """Purge what was not confirmed and close: a purged producer's sequence has a gap (R5)."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=True)
        self._close()

    def close(self, timeout_s: float = 1.0) -> None:
        """Close after all is confirmed; what is not by then is purged."""
        deadline = time.monotonic() + timeout_s
        while len(self._producer) and time.monotonic() < deadline:
            self.poll(CLOSE_POLL_S)
        self.abandon()

    def _close(self) -> None:
        self.poll(0)
        # A purge of what was in flight breaks the gapless guarantee: librdkafka closes, and then reports that.
        with contextlib.suppress(KafkaException):
            self._producer.close()

    def _on_report(self, flight: InFlight, record: Outgoing, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            flight.outstanding -= 1
            self.confirmations += 1
            self.link.heard()
            self._primed.add((record.topic, record.partition))
            return
        flight.unconfirmed.append(record.place)
        if self.refusal is None:
            self.refusal = Refusal(flight.batch.lane, record, error)
