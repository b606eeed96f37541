"""What a worker process keeps between activations: connections, ledgers, outlets."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sinkworker import logs
from sinkworker.config import Config
from sinkworker.connectors.deployment import deployment_name
from sinkworker.connectors.lifecycle import State
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.settings import SinkSettings
from sinkworker.connectors.vault import Protection
from sinkworker.database import Database
from sinkworker.delivery.aside import Aside
from sinkworker.delivery.deliver import Bounds, Delivered, Delivery
from sinkworker.delivery.exact_outlet import ExactKafkaOutlet, Life
from sinkworker.delivery.outlet import Errand, KafkaOutlet, Outlets
from sinkworker.delivery.window import InFlight
from sinkworker.errors import OtherRelease, SinkworkerError, Stale, Transient, Unavailable, Undeliverable
from sinkworker.exactly_once.marks import Lineage
from sinkworker.ledger import redis_client
from sinkworker.ledger.contract import Activation, Enqueue, EnqueueAt
from sinkworker.ledger.homes import Homes, Homing, Presence
from sinkworker.ledger.redis_ledger import RedisLedger
from sinkworker.metrics.recorder import Recorder
from sinkworker.metrics.series import DEAD_LETTERS, ERRORS, FAULTS, PRODUCE_S, PRODUCED, TRANSFORM_S, WRITE_S, WRITTEN
from sinkworker.model import Epoch, Generation, LaneNumber, SettingsId

log = logging.getLogger(__name__)

LONGEST_ANSWER_S = 5.0
"""How long brokers may take to describe a topic, where the claims last that long."""

WAITS = {"waits_for": "kafka"}
"""In the result of a task that ended before its activation did, or was sent again because another one waits."""


class Worker:
    """One worker process. `activate` is for one thread; that it starts others is its own affair."""

    def __init__(
        self, config: Config, enqueue: Enqueue, enqueue_at: EnqueueAt, home: str, stopping: Callable[[], bool]
    ) -> None:
        """`home`: where this process hears of tasks that are meant for it."""
        assert config.redis_url is not None
        assert config.kurrentdb_uri is not None
        assert config.kafka_bootstrap_servers is not None
        self._aside = Aside(enqueue)
        self._stopping = stopping
        self._redis = redis_client.connect(config.redis_url)
        self._home = home
        self._homes = Homes(self._redis)
        self._enqueue_home = Homing(self._homes, enqueue, enqueue_at)
        self._presence = Presence(self._redis, home, stopping)
        self._database = Database(config.kurrentdb_uri)
        self._registry = Registry(self._database, Protection.of(config))
        self._lease_ms = int(config.claim_lease_s * 1000)
        self._recorder = Recorder(self._redis)
        self._recorder.start()
        self._ledgers: dict[str, RedisLedger] = {}
        self._troubles: dict[str, tuple[Epoch, logs.Troubles]] = {}
        self._deaths: dict[str, tuple[Epoch, logs.Troubles]] = {}
        self._stopping_since: dict[str, Epoch] = {}
        """By connector the epoch in which something was found that stops it."""
        self._outlets = Outlets(
            self._settings_of,
            config.in_flight_batches,
            config.kafka_bootstrap_servers,
            min(LONGEST_ANSWER_S, config.claim_lease_s / 2),
            lambda connector, seconds, records: self._recorder.tally.observe(connector, TRANSFORM_S, seconds, records),
            self._outlet,
            self._runs,
        )
        self._bounds = Bounds(
            activation_s=config.activation_s,
            delivery_timeout_s=config.delivery_timeout_s,
            drain_timeout_s=config.drain_timeout_s,
            lease_s=config.claim_lease_s,
        )

    def activate(self, connector: str, epoch: Epoch, activations: Sequence[Activation]) -> dict[str, Any]:
        """Deliver what these lanes hold, as far as one activation goes; a summary for people.

        Raises what `Delivery.run` raises. Either way, lanes that still have work are activated again. Where Kafka is
        silent it answers early, and the activation goes on beside what comes next.
        """
        if self._aside.takes(connector, epoch, activations):
            return Delivered().summary() | WAITS
        ledger = self._ledgers.get(connector)
        if ledger is None:
            ledger = self._ledgers[connector] = RedisLedger(self._redis, connector, self._lease_ms)
        delivery = Delivery(
            ledger,
            lambda settings: self._outlets.get(connector, settings),
            self._bounds,
            self._stopping,
            {"connector": connector, "epoch": epoch},
            lambda flight: self._count(connector, flight),
            lambda reason, topic: self._count_dead(connector, epoch, reason, topic),
        )
        work = partial(self._deliver, delivery, connector, epoch, activations)
        try:
            summary = self._aside.run(connector, delivery, work)
        finally:
            self._tidy()
        return delivery.done.summary() | WAITS if summary is None else summary

    def _tidy(self) -> None:
        """Forget a connector that no longer runs, if there is one: connectors come and go, this process stays (P6)."""
        gone = self._outlets.tidy(self._aside.has)
        if gone is not None:
            for kept in (self._ledgers, self._troubles, self._deaths, self._stopping_since):
                kept.pop(gone, None)

    def _deliver(
        self, delivery: Delivery, connector: str, epoch: Epoch, activations: Sequence[Activation]
    ) -> dict[str, Any]:
        troubles = _of_epoch(self._troubles, connector, epoch)
        try:
            delivery.run(epoch, activations)
        except SinkworkerError as exc:
            if not isinstance(exc, Stale):
                self._recorder.tally.count(connector, ERRORS, label=exc.code)
                self._recorder.tally.count(connector, FAULTS)
            troubles.say(exc, _what_next(exc), lane=_lanes(activations))
            if _stops_connector(exc):
                self._stopping_since[connector] = epoch
            raise
        else:
            # What is before a record that stops the connector is delivered, too: that is not the end of trouble (P5).
            if delivery.done.batches and self._stopping_since.get(connector) != epoch:
                troubles.over("records are delivered again")
        finally:
            for again in delivery.done.again:
                with contextlib.suppress(Unavailable):  # the reaper finds the lane waiting
                    self._enqueue_home(connector, epoch, [again])
        return delivery.done.summary()

    def _count(self, connector: str, flight: InFlight) -> None:
        tally, records = self._recorder.tally, flight.produced
        tally.observe(connector, WRITTEN, 1, records)
        tally.count(connector, PRODUCED, records)
        tally.observe(connector, PRODUCE_S, time.monotonic() - flight.begun_s, records)
        tally.observe_ages(connector, WRITE_S, flight.created_s, time.time())

    def _count_dead(self, connector: str, epoch: Epoch, reason: Undeliverable, topic: str) -> None:
        """Each is counted; of each kind the first in an epoch is said."""
        self._recorder.tally.count(connector, ERRORS, label=reason.code)
        self._recorder.tally.count(connector, DEAD_LETTERS)
        _of_epoch(self._deaths, connector, epoch).say(
            Undeliverable(reason.message, code=reason.code),
            f"It is in the dead-letter topic {topic!r}; others of this kind will only be counted.",
        )

    def close(self) -> None:
        """For the end of the process: what has not let go by then ends with it, and its claims run out."""
        all_let_go = self._aside.close(self._bounds.drain_timeout_s)
        self._recorder.close()
        self._presence.close()
        if all_let_go:  # else somebody still uses them
            self._outlets.close()
            self._database.close()
            self._redis.close()

    def _settings_of(self, connector_id: str, settings: SettingsId) -> SinkSettings:
        """The settings that the current tenure runs with. Raises Stale when the connector runs with others by now."""
        connector = self._registry.get(connector_id)
        if connector is None or connector.active_settings_id != settings:
            raise Stale(f"Connector {connector_id} no longer runs with these settings.")
        active = self._registry.active_settings(connector)
        logs.heed(connector_id, active.logging_enabled)
        return active

    def _runs(self, connector_id: str, settings: SettingsId) -> bool:
        """Whether the connector runs with these settings."""
        connector = self._registry.get(connector_id)
        return (
            connector is not None
            and connector.should_run
            and connector.state is not State.STOPPED
            and connector.active_settings_id == settings
        )

    def _outlet(self, errand: Errand) -> KafkaOutlet:
        if not errand.settings.exactly_once:
            return KafkaOutlet(errand)
        return ExactKafkaOutlet(errand, self._life_of, partial(self._settle, errand.connector_id))

    def _settle(self, connector: str, lane: LaneNumber) -> None:
        self._presence.begin()
        self._homes.settle(connector, lane, self._home)

    def _life_of(self, connector_id: str, generation: Generation) -> Life:
        """What is recorded of the generation. Raises Stale when the connector is in another by now."""
        connector = self._registry.get(connector_id)
        current = None if connector is None else connector.generation
        if current is None or current.id != generation or current.progress is None:
            raise Stale(f"Connector {connector_id} is no longer in this generation.")
        return Life(Lineage(deployment_name(self._database), connector_id, generation), current.progress)


def _of_epoch(said: dict[str, tuple[Epoch, logs.Troubles]], connector: str, epoch: Epoch) -> logs.Troubles:
    """What was said of the connector in this epoch. In another it is news: a person may have started it again."""
    known = said.get(connector)
    if known is None or known[0] != epoch:
        known = said[connector] = epoch, logs.Troubles(log, connector=connector, epoch=epoch)
    return known[1]


def _stops_connector(exc: SinkworkerError) -> bool:
    return not isinstance(exc, (Transient, Stale))


def _what_next(exc: SinkworkerError) -> str:
    match exc:
        case OtherRelease():
            return "Its lanes are left to other workers."
        case Transient():
            return "Its lanes are tried again until it works."
        case Stale():
            return "Its lanes are let go."
    return "The connector stops."


def _lanes(activations: Sequence[Activation]) -> str:
    return ",".join(str(activation.lane) for activation in activations)
