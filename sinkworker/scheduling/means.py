"""What a scheduler hands to those that run a connector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sinkworker.bell import SocketBell
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.settings import SinkSettings
from sinkworker.database import Database
from sinkworker.exactly_once.transactions import TransactionalKafka
from sinkworker.ledger.contract import Enqueue, Ledger
from sinkworker.metrics.tally import Tally
from sinkworker.model import Cursor
from sinkworker.scheduling.lanes import Limits
from sinkworker.source.filters import ServerFilter
from sinkworker.source.subscription import Subscription

Subscribe = Callable[[ServerFilter, Cursor, SocketBell], Subscription]
"""Asks the database for what the filter lets through after the cursor; the event rings when something has come in."""

CountPartitions = Callable[[SinkSettings, str], int]
"""How many that connector's topic has, as its brokers say; 0 for a template. Raises Unavailable, Misconfigured."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a tenure works with."""

    registry: Registry
    database: Database
    ledger: Ledger
    enqueue: Enqueue
    enqueue_home: Enqueue
    """The same, for connectors whose lanes are at home with workers."""
    forget_homes: Callable[[str], None]
    """Have the connector's lanes be at home nowhere."""
    limits: Limits
    subscribe: Subscribe
    partitions: CountPartitions
    default_servers: str
    drain_timeout_s: float
    instance: str
    tally: Tally
    kafka: Callable[[Mapping[str, Any]], TransactionalKafka] = TransactionalKafka
    """Kafka by a connector's options, where delivery is exactly once."""

    def kafka_of(self, connector_id: str, settings: SinkSettings) -> TransactionalKafka:
        """Kafka as the connector reaches it, secrets decrypted."""
        return self.kafka(settings.producer_options(connector_id, self.default_servers))
