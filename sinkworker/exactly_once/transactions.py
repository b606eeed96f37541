"""The transactional producer of one lane, and the lane's mark, over `confluent-kafka`. Never made before a fork."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from sinkworker.connectors.lifecycle import ProgressPlace
from sinkworker.errors import KafkaUnavailable, Misconfigured, Transient
from sinkworker.exactly_once.marks import Mark
from sinkworker.model import LaneNumber
from sinkworker.outgoing import Link, Outgoing, Refusal, batch_limits, produce
from sinkworker.topics import CRITICAL_ONLY, DEFAULT_MAX_MESSAGE_BYTES, Brokers, client_options, making_a_client

_LOG = logging.getLogger("sinkworker.librdkafka")

TRANSACTION_TIMEOUT_MS = 60_000
"""After so long the brokers abort a transaction whose producer is gone: until then readers wait behind it. Whoever
takes the lane over aborts it at once."""

SLICE_S = 0.25
"""How long a call of the client library lasts at most, before the caller may see to its claims."""

AT_ONCE = 8
"""Lanes that are opened or asked about at the same time: each waits for the brokers most of the time."""

PATIENCE_S = 5.0
"""How long brokers may be silent about a transaction before its producer is given up, the first time. After a broker
was restarted, librdkafka can wait for the connection that it had for ever, though records go through (its issue 5511).
"""

ANSWER_S = 10.0
"""How long a scheduler waits for an answer."""

UNDECIDED_S = 2.0
"""How long a lane's mark may depend on an unfinished transaction before that is aborted. Its producer may be gone: then
the brokers would do so after `TRANSACTION_TIMEOUT_MS`, and nobody could begin an epoch until then."""

_PRODUCER_AT_FAULT = frozenset(
    {
        KafkaError._FATAL,
        KafkaError._FENCED,
        KafkaError._STATE,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.PRODUCER_FENCED,
    }
)
"""Why a record was not taken that says nothing about the record: mostly that another worker has had the lane."""

_UNAUTHORIZED = frozenset(
    {
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)
_UNSUPPORTED = frozenset({KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION})


class Broken(Transient):
    """The transaction cannot be committed any more, or nobody knows whether it was: open the lane anew (X2)."""

    code = "transaction-broken"


class LaneTransactions:
    """A lane's producer from the moment that it fenced all earlier ones (X2). Not for use by several threads.

    Between `begin` and `commit` or `abort` records are sent. After Broken, or a `refusal`, only `abort` and `close` may
    be called, and after an abort that succeeded everything again.
    """

    def __init__(
        self,
        name: str,
        lane: LaneNumber,
        progress_topic: str,
        options: Mapping[str, Any],
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        """`max_message_bytes`: of the topic that the records go to, where it is one. Raises Exhausted."""
        self.refusal: Refusal | None = None
        self.link = Link()
        self.confirmations = 0
        self.outstanding = 0
        """Records of this transaction that are sent and not confirmed."""
        self.mark: Mark | None = None
        """What Kafka remembers of the lane, once `open` is through."""
        self.in_transaction = False
        self._broken: KafkaError | None = None
        self._purged: Outgoing | None = None
        """The first record that was given up because the transaction failed."""
        self.number = lane
        self._name = name
        self._place = TopicPartition(progress_topic, 0)
        self._options = options
        self._primed: set[tuple[str, int]] = set()
        self._prepared = False
        self.stuck = False
        """It waits for a broker that it may never hear of again, as others that are as old may come to."""
        self._sending: _Call | None = None
        self._serial = 0
        """Of the transaction: reports of an aborted one come late."""
        client = {
            **options,
            **batch_limits(max_message_bytes, max_message_bytes),
            "transactional.id": name,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            # A record may wait no longer than its transaction: that is aborted, and the lane goes on from its mark.
            "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "error_cb": self.link.fails,
            "log_level": CRITICAL_ONLY,
        }
        with making_a_client(options):
            self._producer = Producer(client, logger=_LOG)
        self._group: Any = None

    def open(self, timeout_s: float) -> None:
        """Fence every other producer of the lane, then read its mark: in that order (X2).

        Raises KafkaUnavailable without an answer in time, Misconfigured where it is refused.
        """
        deadline = time.monotonic() + timeout_s
        with _reading(self._name, self._options) as reader:  # which connects while the producer does
            while not self._step(lambda: self._producer.init_transactions(SLICE_S), "begin transactions"):
                if time.monotonic() > deadline:
                    raise self._silent()
            self.mark = self._read(reader, max(SLICE_S, deadline - time.monotonic()))
            self._group = reader.consumer_group_metadata()

    def _read(self, reader: Consumer, timeout_s: float) -> Mark | None:
        return _committed(reader, self._place, timeout_s)

    def _silent(self) -> KafkaUnavailable:
        cause = f" ({self.link.trouble.str()})" if self.link.trouble is not None else ""
        return KafkaUnavailable(f"Kafka does not answer about transactions{cause}.")

    def cut_off(self) -> bool:
        """Whether it has lost a connection since Kafka last confirmed something, and is in no transaction.

        It may wait for `resilience:reconnectBackoffMaxMs` until it tries again; a new producer tries at once.
        """
        with contextlib.suppress(KafkaException):
            self._producer.poll(0)
        return self.link.trouble is not None and not self.in_transaction

    @property
    def untried(self) -> bool:
        """No transaction has been begun yet."""
        return self._serial == 0

    def primed(self, record: Outgoing) -> bool:
        """Whether a record of this producer has been confirmed on that one's partition (R6)."""
        return (record.topic, record.partition) in self._primed

    def begin(self) -> None:
        """Begin a transaction. Raises Broken."""
        self.refusal = None
        self._prepared = False
        self._serial += 1
        self._step(self._producer.begin_transaction, "begin a transaction")
        self.in_transaction = True

    def send(self, record: Outgoing) -> bool:
        """Hand a record over. False where it was not taken: poll, and see whether something was refused."""
        if self.refusal is not None or self._broken is not None:
            return False
        try:
            produce(self._producer, record, partial(self._on_report, self._serial, record))
        except BufferError:
            return False
        except KafkaException as exc:
            self._refused(record, exc.args[0])
            return False
        self.outstanding += 1
        return True

    def poll(self, timeout_s: float, *, at_once: bool = False) -> None:
        """Serve delivery reports; see `LaneProducer.poll`. Raises Broken where the producer can go on no more."""
        try:
            if at_once:
                self._producer.flush(timeout_s)
            else:
                self._producer.poll(timeout_s)
        except KafkaException as exc:
            if not exc.args[0].fatal():
                raise
            self._broken = exc.args[0]
        if self._broken is not None and self.refusal is None:
            cause = self._cause(self._broken)
            if self._purged is not None and (refusal := Refusal(self.number, self._purged, cause)).permanent:
                self.refusal = refusal
            else:
                raise Broken(f"The producer of the lane cannot go on: {cause.str()} ({cause.name()}).")

    def _cause(self, reported: KafkaError) -> KafkaError:
        """Why the transaction failed: its records may be reported as purged, whatever the brokers said of their topic.

        To begin another inside it is always refused: with that reason once it has failed.
        """
        try:
            self._producer.begin_transaction()
        except KafkaException as exc:
            if exc.args[0].txn_requires_abort():
                return exc.args[0]  # type: ignore[no-any-return]
        return reported

    def commit(self, mark: Mark) -> bool:
        """Commit the records together with the lane's mark, or go on doing so: False is to be called again.

        Raises Broken where it failed, or where nobody knows (X2).
        """
        if not self._prepared:
            self._prepared = self._prepare(mark)
            return False
        if not self._step(lambda: self._producer.commit_transaction(SLICE_S), "commit a transaction"):
            return False
        self.in_transaction = False
        self.link.heard()
        self.mark = mark
        return True

    def _prepare(self, mark: Mark) -> bool:
        """Have the mark in the transaction; False is to be called again.

        In a thread: other than its siblings, this call of the client library ends only when the brokers have answered.
        """
        if self._sending is None:
            place = TopicPartition(self._place.topic, 0, mark.offset, metadata=mark.encode())
            call = partial(self._producer.send_offsets_to_transaction, [place], self._group, SLICE_S)
            self._sending = _Call(call)
            self._sending.start()
        self._sending.join(SLICE_S)
        if self._sending.is_alive():
            if time.monotonic() - self._sending.begun > PATIENCE_S:
                self.stuck = True
                raise Broken(f"Kafka has not noted the lane's progress for {PATIENCE_S:.0f} s.")
            return False
        sent, self._sending = self._sending, None
        return self._step(sent.answer, "keep its progress")

    def abort(self, timeout_s: float) -> bool:
        """Give the transaction up. Whether that is certain, and the producer good for another one."""
        if not self.in_transaction:
            return True
        deadline = time.monotonic() + timeout_s
        if self._sending is not None:
            return False
        self.in_transaction, self.outstanding = False, 0
        try:
            while not self._step(lambda: self._producer.abort_transaction(SLICE_S), "abort a transaction"):
                if time.monotonic() > deadline:
                    return False
        except (Broken, Misconfigured):
            return False
        self.refusal, self._broken, self._purged = None, None, None
        return True

    def close(self) -> None:
        """Give up what was not committed. The brokers abort it when somebody else opens the lane, or in a minute."""
        with contextlib.suppress(KafkaException):
            self._producer.purge(in_queue=True, in_flight=True, blocking=True)
            self._producer.poll(0)
        # Its `close` would first abort, and wait for brokers that may be away. Without a reference it ends at once.
        del self._producer

    def _step(self, call: Callable[[], Any], what: str) -> bool:
        """One call of the transactional API; False where it wants to be called again."""
        try:
            call()
        except KafkaException as exc:
            error: KafkaError = exc.args[0]
            if error.retriable() and not error.txn_requires_abort():
                return False
            refused = _translated(error, what)
            if refused is not None:
                raise refused from exc
            raise Broken(f"Kafka could not {what}: {error.str()} ({error.name()}).") from exc
        return True

    def _on_report(self, serial: int, record: Outgoing, error: KafkaError | None, _message: Message) -> None:
        if serial != self._serial or not self.in_transaction:
            return
        if error is None:
            self.outstanding -= 1
            self.confirmations += 1
            self.link.heard()
            self._primed.add((record.topic, record.partition))
        else:
            self._refused(record, error)

    def _refused(self, record: Outgoing, error: KafkaError) -> None:
        if error.code() in _PRODUCER_AT_FAULT:
            self._broken = error
            self._purged = self._purged or record
        elif self.refusal is None:
            self.refusal = Refusal(self.number, record, error)


class _Call(threading.Thread):
    """A call in a thread of its own, which does not keep the process alive."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(name="transaction", daemon=True)
        self.begun = time.monotonic()
        self._call = call
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._call()
        except Exception as exc:
            self._error = exc

    def answer(self) -> None:
        """Raises what the call raised."""
        if self._error is not None:
            raise self._error


class TransactionalKafka:
    """Kafka by one connector's options, for all lanes. Any thread may use it."""

    def __init__(self, options: Mapping[str, Any], timeout_s: float = ANSWER_S) -> None:
        """`timeout_s`: how long it waits for an answer."""
        self._options = options
        self._timeout_s = timeout_s
        self._brokers: Brokers | None = None

    def lane(
        self,
        name: str,
        number: LaneNumber,
        progress_topic: str,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> LaneTransactions:
        """A lane's producer, not yet open; `max_message_bytes` of the topic of its records, if that is one."""
        return LaneTransactions(name, number, progress_topic, self._options, max_message_bytes)

    def place(self, topic: str) -> ProgressPlace:
        """The topic as it is now. Raises KafkaUnavailable, Misconfigured."""
        return ProgressPlace(topic, self._id_of(topic))

    def _id_of(self, topic: str) -> str:
        return self._asked().topic_id(topic)

    def _asked(self) -> Brokers:
        if self._brokers is None:
            self._brokers = Brokers(self._options, self._timeout_s)
        return self._brokers

    def retention_s(self) -> float | None:
        """How long the brokers keep a mark that is not committed again; None where they do not say.

        Raises Misconfigured.
        """
        return self._asked().offsets_retention_s()

    def check(self, place: ProgressPlace) -> None:
        """Raises Misconfigured where the topic is not the one that was recorded, KafkaUnavailable without an answer."""
        if place.topic_id and self._id_of(place.topic) != place.topic_id:
            raise Misconfigured(
                f"The topic {place.topic!r} was deleted and created again: what it had is gone, and so is how far the "
                "lanes were delivered.",
                hint="Start the connector at a position, or reset it.",
                code="topic-recreated",
            )

    def marks(self, names: Mapping[LaneNumber, str], progress_topic: str) -> dict[LaneNumber, Mark | None]:
        """What is remembered of each lane. Nobody is fenced but the producer whose transaction stays unfinished: if it
        is alive, it goes on from its mark. Raises KafkaUnavailable, Misconfigured.
        """
        place = TopicPartition(progress_topic, 0)

        def told(number: LaneNumber) -> Mark | None:
            with _reading(names[number], self._options) as reader, contextlib.suppress(KafkaUnavailable):
                return _committed(reader, place, min(UNDECIDED_S, self._timeout_s))
            lane = self.lane(names[number], number, progress_topic)
            try:
                lane.open(self._timeout_s)
                return lane.mark
            finally:
                lane.close()

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(names, pool.map(told, names), strict=True))


@contextlib.contextmanager
def _reading(group: str, options: Mapping[str, Any]) -> Iterator[Consumer]:
    """A consumer that begins to connect to that group's coordinator, and never joins it.

    There is a call of the administrator's for the same, but the client library ends the process where a connection
    breaks while it asks the coordinator (librdkafka#5397).
    """
    client = {**client_options(options), "group.id": group, "enable.auto.commit": False, "log_level": CRITICAL_ONLY}
    with making_a_client(options):
        reader = Consumer(client, logger=_LOG)
    try:
        yield reader
    finally:
        reader.close()


def _committed(reader: Consumer, place: TopicPartition, timeout_s: float) -> Mark | None:
    """The mark that no transaction can change any more. Raises KafkaUnavailable, Misconfigured."""
    try:
        return _mark(*reader.committed([place], timeout_s))
    except KafkaException as exc:
        refused = _translated(exc.args[0], "tell the lanes' progress")
        raise refused or KafkaUnavailable(f"Kafka does not tell the lanes' progress: {exc.args[0].str()}.") from exc


def _mark(found: TopicPartition) -> Mark | None:
    """An error is no "there is none" (X2)."""
    if found.error is not None:
        raise KafkaException(found.error)
    return Mark.decode(found.metadata or "") if found.offset >= 0 else None


def _translated(error: KafkaError, what: str) -> Misconfigured | None:
    """What no waiting helps against; None for everything else."""
    if error.code() in _UNAUTHORIZED:
        return Misconfigured(
            f"Kafka refuses to {what}: {error.str()}.",
            hint="Exactly once needs the user to be granted Write and Describe on transactional ids, and Read on "
            "groups, whose names begin with `sinkworker-`, and Read on the topic that has the progress.",
            code="transactions-unauthorized",
        )
    if error.code() in _UNSUPPORTED:
        return Misconfigured(
            f"These brokers cannot {what}: {error.str()}.",
            hint="Exactly once needs transactions: Apache Kafka 2.5 or later.",
            code="transactions-unsupported",
        )
    return None
