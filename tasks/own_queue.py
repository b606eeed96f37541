"""The queue that each worker has for itself, beside the one of all: `sinkworker.ledger.homes` says what for."""

from __future__ import annotations

import contextlib
from typing import Any

from celery import signals
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from tasks.app import QUEUE, app

LASTS_S = 60
"""What nobody has taken by then is forgotten: the reaper has sent it to everybody long ago."""

_name = ""


def name() -> str:
    """This worker's, in its pool's processes too; empty in a process that is no worker."""
    return _name


def queue(its_name: str) -> Queue:
    """Reached by its name alone: an exchange would remember it in Redis for ever."""
    exchange = Exchange("")  # type: ignore[no-untyped-call]  # kombu ships few annotations
    return Queue(its_name, exchange, routing_key=its_name)  # type: ignore[no-untyped-call]


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]  # Celery ships no annotations
def _listen(sender: str, instance: Any, **_: Any) -> None:
    global _name
    _name = f"{QUEUE}.{sender}"
    instance.app.amqp.queues.select_add(queue(_name))


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _leave_the_rest_to_others(**_: Any) -> None:
    with contextlib.suppress(OperationalError, RedisError, OSError), app.connection_for_write() as connection:
        client = connection.default_channel.client
        while client.lmove(_name, QUEUE, "RIGHT", "LEFT"):
            pass
