"""One epoch of one connector: take over, read, dispatch, and end in order."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

from sinkworker import logs
from sinkworker.bell import SocketBell
from sinkworker.checkpoint.store import CheckpointStore
from sinkworker.connectors import settings as connector_settings
from sinkworker.connectors.deployment import deployment_name
from sinkworker.connectors.lifecycle import Connector, GenerationInfo, ProgressPlace
from sinkworker.crashpoints import CrashPoint, reach
from sinkworker.database import NoBoundary
from sinkworker.errors import Full, Misconfigured, Restored, Stale, Unavailable, Undeliverable
from sinkworker.exactly_once import marks
from sinkworker.exactly_once.guard import Guard
from sinkworker.exactly_once.marks import Lineage
from sinkworker.exactly_once.transactions import TransactionalKafka
from sinkworker.ledger.contract import Activation, Batch, Survey, Taken, Tenure
from sinkworker.metrics.series import AVOIDED, COMMIT_S, CONSUMED, TAKEOVERS
from sinkworker.model import Cursor, Generation, LaneNumber, Position, Record
from sinkworker.scheduling import endings, generations, renewal
from sinkworker.scheduling.arrears import Arrears
from sinkworker.scheduling.generations import FromBeginning, FromCheckpoint, FromNow, FromPosition, Opening, Start
from sinkworker.scheduling.grouping import Grouping
from sinkworker.scheduling.halt import Halt
from sinkworker.scheduling.lanes import Lanes
from sinkworker.scheduling.means import Means
from sinkworker.scheduling.renewal import Renewal
from sinkworker.scheduling.routing import Router
from sinkworker.source.events import Item, created_s
from sinkworker.source.filters import FilterRefused, OneStream, server_filter
from sinkworker.source.subscription import LetGo, Subscription

log = logging.getLogger(__name__)

IDLE_S = 0.25
"""How long a wait for records or acknowledgements lasts at most."""

HEARTBEAT_S = 1.0
"""How often the ledger is looked at while nothing happens, and how late the frontier follows what did not match."""

RESUBSCRIBE_S = 0.5
READ_ITEMS = 2000
REGROUP_S = 0.01
"""How soon the ledger is looked at again while activations wait for company."""

SHOW_S = 1.0
"""How often those who watch are shown how the epoch stands."""


class ActiveTenure:
    """A scheduler's epoch over a connector, from `begin` to `end`. One thread uses it; `bell` may be rung by others."""

    def __init__(self, means: Means, connector_id: str, bell: SocketBell, troubles: logs.Troubles) -> None:
        self._means = means
        self._id = connector_id
        self._bell = bell
        self._troubles = troubles
        self._subscription: Subscription | None = None
        self._refused: tuple[Sequence[Batch], Cursor] | None = None
        """Batches that the ledger had no room for, and the frontier that goes with them."""
        self._beat = 0.0
        self._dispatched_at = 0.0
        """When the last batch went to the ledger."""
        self._grouping = Grouping()
        self._renewal: Renewal | None = None
        self._told = ""
        """The code of the trouble that the connector says it waits for."""
        self._caught_up: Cursor | None = None
        """Where the lanes stood when the reader had caught up with the log, until that is a checkpoint."""
        self._arrears = Arrears()
        self._halt = Halt()
        self._halted = False
        """Everything before the record that stops the connector is delivered, or does not come any further."""
        self._shown_at = 0.0
        self._skipped = 0
        self._taken = False
        self.began = False
        """This scheduler has an epoch over the connector: `epoch`."""

    # -- the beginning

    def prepare(self, connector: Connector) -> None:
        """Find out all that can fail before there is an epoch, which an event records: trouble may last for days.

        Raises Unavailable, and what stops the connector: Misconfigured (also for secrets that cannot be read), Invalid.
        """
        self._connector = connector
        self._settings = self._means.registry.active_settings(connector)
        logs.heed(self._id, self._settings.logging_enabled)
        self._filter = server_filter(self._settings.filter)
        self._opening = self._opening_of(connector)
        endings.check_release(self._means.ledger)

    def take_over(self) -> None:
        """Begin the epoch. Raises Stale where the connector has changed since `prepare`, and what the registry does."""
        before = self._former = self._connector
        self._connector = self._means.registry.take_over(self._id, self._means.instance, before.epoch)  # R4
        self.epoch = self._connector.epoch
        self.began = True
        self._means.tally.count(self._id, TAKEOVERS)
        if (self._connector.activation, self._connector.generation) != (before.activation, before.generation):
            raise Stale(f"Connector {self._id} was changed at the same moment.")

    def begin(self) -> None:
        """Open what reading needs. Raises Stale, Transient, Misconfigured, Restored."""
        if self._opening is not None:
            self._open_generation(*self._opening)
            self._delivered: Mapping[LaneNumber, Cursor] = {}
        else:
            self._delivered = self._marked()
        assert self._connector.generation is not None
        generation = self._connector.generation
        self._layout = generation.layout
        self._store = CheckpointStore(
            self._means.database, self._id, generation.id, generation.start, self._settings.filter.stream_id
        )
        self._checkpoint = self._store.load()
        self._check_database(self._checkpoint.cursor)
        taken = self._take_ledger(generation)
        self._counter = taken.counter
        self._lanes = Lanes(self._checkpoint.cursor, taken.progress, self._means.limits)
        if generation.progress is not None:
            interval_s = renewal.interval_s(self._kafka().retention_s())
            self._renewal = Renewal(self._layout.lanes, interval_s, time.monotonic(), random.random)
        self._taken = True
        self._check_database(max([self._checkpoint.cursor, *taken.progress.values()]))
        self._subscribe()
        if not self._settings.autocommit.enabled:
            log.warning("autocommit is off: no checkpoint is ever written", extra=self._fields())
        self._means.registry.report_running(self._id, self.epoch)
        log.info(
            "running from position %d to topic %s in %d lanes",
            max(0, self._checkpoint.cursor.commit),
            self._settings.topic,
            self._layout.lanes,
            extra=self._fields(),
        )

    def _take_ledger(self, generation: GenerationInfo) -> Taken:
        assert self._connector.active_settings_id is not None
        tenure = Tenure(
            self.epoch, generation.id, self._layout, self._connector.active_settings_id, discards=generation.by_position
        )
        try:
            taken = self._means.ledger.takeover(
                tenure, self._checkpoint.cursor, endings.farther(self._connector.drained, self._delivered)
            )
        except Stale:
            current = self._means.registry.get(self._id)
            if current is None or current.epoch != self.epoch:
                raise  # another scheduler was faster
            # Epochs come from the database (R4): one that the ledger has seen and the database has not is lost there.
            raise _restored(f"Redis knows of a later epoch than {self.epoch}") from None
        self._insist_on_progress(generation, taken)
        return taken

    def _insist_on_progress(self, generation: GenerationInfo, taken: Taken) -> None:
        """X5: Kafka must have every lane as far as it was known to be. Raises Misconfigured where it has not."""
        if generation.progress is None or self._opening is not None:
            return
        checkpoint = self._checkpoint.cursor
        if marks.behind(taken.progress, self._delivered, checkpoint) is None:
            return
        # A worker of the last epoch may have gone on until the takeover: nothing is acknowledged in it any more.
        found = self._guard(generation.id, generation.layout.lanes, generation.progress).read()
        delivered = {lane: mark.cursor for lane, mark in found.items() if mark is not None}
        lane = marks.behind(taken.progress, delivered, checkpoint)
        if lane is not None:
            raise marks.lost(lane)

    def _fields(self) -> dict[str, object]:
        return {"connector": self._id, "epoch": self.epoch} if self.began else {"connector": self._id}

    def _opening_of(self, connector: Connector) -> tuple[Opening, int] | None:
        """The generation that this start needs, if any, and the partition count that its layout follows."""
        checkpoint: Cursor | None = None
        if connector.generation is not None:
            old = connector.generation
            checkpoint = CheckpointStore(self._means.database, self._id, old.id, old.start).load().cursor
        fingerprint = self._settings.generation_fingerprint(self._means.default_servers)
        partitions = self._partitions_if_known()
        opening = generations.opening(connector, self._settings, fingerprint, checkpoint, partitions)
        return None if opening is None else (opening, self._means.partitions(self._settings, self._id))

    def _open_generation(self, opening: Opening, partitions: int) -> None:
        """Recorded before anything is read in it (R3), and after nobody delivers in the last one any more (X4)."""
        layout = generations.layout(self._settings, partitions)
        start = self._in_its_stream(self._cursor_of(opening.start))
        self._close_last_generation(opening.start)
        id = Generation(str(uuid4()))
        place = None
        if self._settings.exactly_once:
            self._means.forget_homes(self._id)  # whose lanes are those of the last generation
            place = self._kafka().place(self._settings.progress_topic)
            self._guard(id, layout.lanes, place).begin(start)
        self._connector = self._means.registry.open_generation(
            self._id,
            self.epoch,
            start,
            layout,
            self._settings.generation_fingerprint(self._means.default_servers),
            opening.reason,
            by_position=self._connector.start_request is not None,
            id=id,
            progress=place,
        )
        log.info("new generation: %s", opening.reason, extra=self._fields())

    def _close_last_generation(self, start: Start) -> None:
        last = self._connector.generation
        if last is None or last.progress is None:
            return
        fingerprint = self._settings.generation_fingerprint(self._means.default_servers)
        if "servers" in connector_settings.generation_changes(last.fingerprint, fingerprint):
            return  # whoever still delivers in it does so to other brokers
        checkpoint = start.cursor if isinstance(start, FromCheckpoint) else None
        self._guard(last.id, last.layout.lanes, last.progress).close(checkpoint)

    def _guard(self, generation: Generation, lanes: int, place: ProgressPlace) -> Guard:
        lineage = Lineage(deployment_name(self._means.database), self._id, generation)
        return Guard(self._kafka(), lineage, lanes, place)

    def _kafka(self) -> TransactionalKafka:
        return self._means.kafka_of(self._id, self._settings)

    def _marked(self) -> Mapping[LaneNumber, Cursor]:
        """How far Kafka has each lane delivered, where delivery is exactly once.

        Raises Misconfigured where a lane's progress is lost (X5).
        """
        generation = self._connector.generation
        assert generation is not None
        if generation.progress is None:
            return {}
        guard = self._guard(generation.id, generation.layout.lanes, generation.progress)
        found = guard.read()
        checkpoint = CheckpointStore(self._means.database, self._id, generation.id, generation.start).load().cursor
        wanting = marks.to_restore(found, self._connector, checkpoint)
        if wanting:
            guard.restore(wanting, self._is_ours)
        return {lane: mark.cursor for lane, mark in found.items() if mark is not None} | wanting

    def _is_ours(self) -> bool:
        current = self._means.registry.get(self._id)
        return current is not None and current.epoch == self.epoch

    def _partitions_if_known(self) -> int | None:
        """The topic's partition count, where it could matter and Kafka answers: an existing layout needs no Kafka."""
        connector = self._connector
        if connector.generation is None or connector.start_request is not None:
            return None
        try:
            return self._means.partitions(self._settings, self._id)
        except Unavailable as exc:
            log.warning("%s The connector goes on with the layout it has.", exc, extra=self._fields())
            return None

    def _cursor_of(self, start: Start) -> Cursor:
        match start:
            case FromBeginning():
                return Cursor.BEGINNING
            case FromCheckpoint(cursor):
                return cursor
            case FromNow():
                return self._now()
            case FromPosition(position):
                return self._named(position)

    def _in_its_stream(self, cursor: Cursor) -> Cursor:
        """The cursor without its revision where that is another stream's: one stream is read on from a revision."""
        if cursor.revision is None or not isinstance(self._filter, OneStream):
            return cursor
        event = self._means.database.event_at(self._filter.name, cursor.revision)
        return cursor if event is not None and event.id == cursor.record_id else replace(cursor, revision=None)

    def _now(self) -> Cursor:
        """Where the start was accepted, however long ago that is: what came after it is to be delivered."""
        assert self._connector.activation is not None
        accepted = self._means.registry.accepted_at(self._id, self._connector.activation)
        if isinstance(self._filter, OneStream):
            last = self._means.database.last_event(self._filter.name)
            if last is not None and last.cursor <= accepted:
                return last.cursor
        return accepted

    def _named(self, position: Position) -> Cursor:
        """The cursor of a position that a person named: of the record there or, without one, of just the position."""
        if position > self._means.database.head():
            raise Misconfigured(
                f"The position {position} to start at is beyond the end of the log.",
                hint="Start at a position that the database has, or without one.",
            )
        with contextlib.suppress(NoBoundary):
            event = self._means.database.record_at(position)
            if event is not None:
                return event.cursor
        return Cursor(position, position)

    def _check_database(self, cursor: Cursor) -> None:
        """R8: is this the database that everything remembered is about? Raises Restored when it is not."""
        registry, database = self._means.registry, self._means.database
        if not registry.epoch_event_is_intact(self._id, self.epoch, self._connector.epoch_event_id):
            raise _restored(f"the event that began epoch {self.epoch} is gone")
        if cursor.commit > database.head():
            raise _restored(f"it ends before position {cursor.commit}, up to which records were delivered")
        if not cursor.record_id:
            return
        try:
            event = database.record_at(cursor.commit)
        except NoBoundary as exc:
            raise _restored(f"position {cursor.commit} is no longer a record's") from exc
        if event is not None and event.prepare == cursor.prepare and event.id != cursor.record_id:
            raise _restored(f"another record stands at position {cursor.commit}")

    def _subscribe(self) -> None:
        """Read on from where the lanes stand; from the beginning, dropping what is before it, where that is no place.

        A position that a person named may be no record's, and in a stream a record of another one is no place.
        """
        cursor = self._lanes.read
        if cursor == Cursor.BEGINNING or self._can_read_from(cursor):
            discard_to = Cursor.BEGINNING
        else:
            discard_to, cursor = cursor, Cursor.BEGINNING
        dead_letters = self._settings.dead_letter_topic is not None
        self._router = Router(self._settings.key, self._layout, discard_to, dead_letters=dead_letters)
        self._arrears.live = False
        self._subscription = self._means.subscribe(self._filter, cursor, self._bell)

    def _can_read_from(self, cursor: Cursor) -> bool:
        if isinstance(self._filter, OneStream):
            return cursor.revision is not None
        if cursor.prepare not in (cursor.commit, 0):  # the database names no prepare position in some checkpoints
            return False  # a subscription begins behind all records of an explicit transaction
        assert self._connector.generation is not None
        named = cursor == self._connector.generation.start and not cursor.record_id
        return not named or self._is_boundary(cursor)

    def _is_boundary(self, cursor: Cursor) -> bool:
        try:
            self._means.database.record_at(cursor.commit)
        except NoBoundary:
            return False
        return True

    # -- the work

    def pump(self, stop: threading.Event) -> None:
        """Read and dispatch until told to stop, also where what is before a record that stops the connector is still
        being delivered: that may not be the first such record, and whoever goes on will meet it.

        Raises Undeliverable when a record stops the connector, and everything before it is delivered (P5), Stale or
        Unavailable when the epoch is over (R10), Restored when the database is no longer the one it was.
        """
        while not stop.is_set() and not self._halted:
            self._bell.clear()
            moved = self._read()
            self._dispatch()
            if not moved and not self._halted:
                self._wait()
        if self._halted:
            assert self._halt.reason is not None
            raise self._halt.reason

    def _wait(self) -> None:
        """For acknowledgements and, where there is room, for records."""
        timeout_s = REGROUP_S if self._grouping else IDLE_S
        if self._subscription is not None and self._has_room():
            self._subscription.wait(timeout_s)
        else:
            self._bell.wait(timeout_s)

    def _has_room(self) -> bool:
        """Less is undelivered than may be (P6), and nothing stops the connector."""
        return not self._lanes.full and self._refused is None and self._halt.reason is None

    def _read(self) -> bool:
        """Take in what the reader has, if there is room. Whether there was anything."""
        if not self._has_room():
            if self._subscription is not None:
                self._subscription.rest()
            return False
        if self._subscription is None:
            self._resubscribe()
            return False
        try:
            items = self._subscription.read(READ_ITEMS)
        except LetGo as exc:
            log.info("%s", exc, extra=self._fields())
            self._subscription.close()
            self._subscription = None
            return True
        except Unavailable as exc:
            self._troubles.say(exc, "Reading goes on when it is back.", epoch=self.epoch)
            self._subscription.close()
            self._subscription = None
            return False
        except NoBoundary as exc:
            raise _restored(f"position {self._lanes.read.commit} is no longer a record's") from exc
        before = self._lanes.read
        try:
            self._route(items)
        except Undeliverable as exc:
            self._halt.meet(exc)
        self._count(items, before)
        return bool(items)

    def _count(self, items: Sequence[Item], before: Cursor) -> None:
        records = [item for item in items if isinstance(item, Record)]
        if not records:
            return
        self._means.tally.count(self._id, CONSUMED, len(records))
        if self._lanes.read != before:  # else all were events of our own, which no connector delivers
            self._arrears.read(created_s(records[0]), self._lanes.read)

    def _route(self, items: Iterable[Item]) -> None:
        """Every record into its lane's buffer. Runs for every record."""
        lane_of, offer = self._router.lane_of, self._lanes.offer
        for item in items:
            if isinstance(item, Record):
                lane = lane_of(item)
                if lane is not None:
                    offer(item, lane)
            elif item.cursor is not None:
                self._lanes.passed(item.cursor)
            elif item.caught_up:
                self._caught_up = self._lanes.read
                self._arrears.live = True

    def _resubscribe(self) -> None:
        """The connection was lost: go on from where the lanes stand, if this is still the same database (R8).

        Raises Stale where it is not, or seems so: a node that leads its cluster no more, and does not know it yet, ends
        earlier, too. It could not begin an epoch, and where one can be begun, what is found then is so.
        """
        try:
            self._check_database(self._lanes.read)
            self._subscribe()
            self._troubles.forget()
            log.info("reading again from position %d", self._lanes.read.commit, extra=self._fields())
        except (Unavailable, FilterRefused):  # the filter was taken before
            self._bell.wait(RESUBSCRIBE_S)
        except Restored as exc:
            raise Stale("This does not look like the database that it was.") from exc

    def _dispatch(self) -> None:
        if self._refused is None:
            batches: Sequence[Batch] = self._lanes.take(self._halt.limit)
            frontier = self._lanes.frontier
        else:
            batches, frontier = self._refused
        now = time.monotonic()
        waits = self._lanes.buffered_records or self._lanes.full or self._halt.reason
        if not batches and not waits and not self._grouping and now - self._beat < HEARTBEAT_S:
            return
        self._beat = now
        if self._refused is None:
            batches = self._with_renewals(batches, now)
        try:
            survey = self._means.ledger.dispatch(self.epoch, self._counter, frontier, batches)  # P1, R1
        except Full as exc:
            self._keep(batches, frontier, exc)
            survey = self._means.ledger.advance(self.epoch, self._counter, self._frontier())
            self._counter = survey.counter
            self._see_whether_it_halts(survey, now)
            return
        self._refused = None
        self._counter = survey.counter
        if batches:
            self._dispatched_at = now
        self._lanes.observe(survey)
        self._arrears.dispatched_records += sum(batch.count for batch in batches)
        self._tell(survey.trouble)
        self._commit_what_is_caught_up(survey, frontier)
        self._grouping.add(survey.activations, now)
        self._send(self._grouping.due(survey, sum(batch.count for batch in batches), now))
        self._see_whether_it_halts(survey, now)
        if now - self._shown_at >= SHOW_S:
            self._shown_at = now
            self._show(survey)

    def _see_whether_it_halts(self, survey: Survey, now: float) -> None:
        halt, went_on = self._halt, self._halt.reason is None
        halt.observe(survey, now)
        if halt.reason is None:
            return
        assert halt.limit is not None
        refused = () if self._refused is None else self._refused[0]
        left = self._lanes.holds(halt.limit) or any(batch.before < halt.limit for batch in refused)
        self._halted = halt.is_over(survey, now, holds_some=left)
        if not self._halted and went_on:
            log.info("%s What is before it is still delivered.", halt.reason.message, extra=self._fields())
        if self._halted and halt.limit != Cursor.BEGINNING and (left or survey.going_on):
            log.warning("not all that is before it is delivered: it comes at the next start", extra=self._fields())

    def _with_renewals(self, batches: Sequence[Batch], now: float) -> Sequence[Batch]:
        """These and, where delivery is exactly once, an empty one for each lane whose mark might expire (X5)."""
        if self._renewal is None:
            return batches
        self._renewal.used([batch.lane for batch in batches], now)
        renewals = [self._lanes.renewal(lane) for lane in self._renewal.due(now)]
        idle = [batch for batch in renewals if batch is not None]
        self._renewal.used([batch.lane for batch in idle], now)
        return [*batches, *idle]

    def _show(self, survey: Survey) -> None:
        """How the epoch stands, to those who watch."""
        watermark = self._means.ledger.watermark()
        if watermark is None or watermark.epoch != self.epoch:
            return
        tally = self._means.tally
        tally.show(self._id, self._arrears.gauges(survey, watermark, self._lanes.buffered_records))
        tally.count(self._id, AVOIDED, self._lanes.skipped - self._skipped)
        self._skipped = self._lanes.skipped

    def _commit_what_is_caught_up(self, survey: Survey, frontier: Cursor) -> None:
        """The database has said that there is no more: once delivered, that is worth a checkpoint (contract §7.2).

        With empty mailboxes the frontier is the watermark.
        """
        if self._caught_up is None or survey.mailboxes or frontier < self._caught_up:
            return
        with contextlib.suppress(Unavailable):  # the next look tries again, or the coordinator is faster
            if self._settings.autocommit.enabled:
                before, self._checkpoint = self._checkpoint, self._store.advance(self._checkpoint, frontier, self.epoch)
                if self._dispatched_at and self._checkpoint.cursor > before.cursor:
                    self._means.tally.observe(self._id, COMMIT_S, time.monotonic() - self._dispatched_at)
            self._caught_up = None

    def _tell(self, trouble: str) -> None:
        """Have the connector say what its records wait for, and take it back when they go on."""
        reason = json.loads(trouble) if trouble else {"code": "", "message": ""}
        if reason["code"] == self._told:
            return
        with contextlib.suppress(Unavailable):  # told at the next look
            if trouble:
                self._means.registry.report_waiting(self._id, self.epoch, reason["code"], reason["message"])
                log.warning("%s Its records wait.", reason["message"], extra=self._fields())
            else:
                self._means.registry.report_running(self._id, self.epoch)
                log.info("records are delivered again", extra=self._fields())
            self._told = reason["code"]

    def _keep(self, batches: Sequence[Batch], frontier: Cursor, reason: Full) -> None:
        """Hold on to what there is no room for, and read no further (P6): workers make room as they acknowledge."""
        self._tell(json.dumps({"code": reason.code, "message": str(reason)}))
        self._refused = (batches, frontier)
        self._bell.wait(IDLE_S)

    def _send(self, tasks: Iterable[Sequence[Activation]]) -> None:
        enqueue = self._means.enqueue_home if self._settings.exactly_once else self._means.enqueue
        for activations in tasks:
            reach(CrashPoint.DISPATCHED)
            try:
                enqueue(self._id, self.epoch, activations)
            except Unavailable as exc:
                # The reaper sends the task again. A Redis that stays away is said by the next dispatch.
                log.debug("%s", exc, extra=self._fields())
            reach(CrashPoint.ENQUEUED)

    # -- the end

    def abandon(self) -> None:
        """The epoch is over, or its outcome unknown: only stop reading. The next takeover fences what is left."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def break_off(self) -> None:
        """End the epoch and record nothing of it: what it remembers is of a database that is gone (R8)."""
        self.abandon()
        if self._taken:
            self._means.ledger.close(self.epoch)

    def end(self) -> None:
        """Stop in order (R9): mailboxes drained as far as time allows, claims released, checkpoint, lane progress. Of
        an epoch that has not come to the ledger there is only the one before to end.

        Raises Stale when another epoch has begun, Unavailable when a server is away; nothing is lost then, a later
        epoch reads again what this one could not record.
        """
        self.abandon()
        if not self._taken:
            if self.began:
                endings.end_former(self._means, self._former, self._connector)
            return
        self._send(self._grouping.rest())
        deadline = time.monotonic() + self._means.drain_timeout_s
        self._drain(time.monotonic() + self._means.drain_timeout_s / 2)
        closed = endings.close(self._means.ledger, self.epoch, deadline)
        self._taken = False
        endings.settle(self._means, self._connector, self.epoch, closed, self._settings)

    def _frontier(self) -> Cursor:
        """Where nothing is dispatched any more: before what the ledger had no room for, too (P1)."""
        refused = [] if self._refused is None else self._refused[0]
        return min([self._lanes.frontier, *(batch.before for batch in refused)])

    def _drain(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            survey = self._means.ledger.advance(self.epoch, self._counter, self._frontier())
            self._counter = survey.counter
            if not survey.going_on:
                return
            self._bell.clear()
            self._bell.wait(endings.DRAIN_POLL_S)


def _restored(what: str) -> Restored:
    return Restored(
        f"This is not the database that it was: {what}.",
        hint="It was restored from a backup. Reset the connector, or start it at a position, to go on from there.",
    )
