"""The one task: deliver what is in some lanes' mailboxes. Calls delivery and puts its outcome into Celery's words."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celery import signals
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from sinkworker import process
from sinkworker.connectors.naming import id_faults
from sinkworker.delivery.worker import Worker
from sinkworker.errors import Invalid, RedisUnavailable, SinkworkerError
from sinkworker.ledger.contract import Activation
from sinkworker.model import Epoch, LaneNumber
from tasks import own_queue
from tasks.app import app, stopping

log = logging.getLogger(__name__)

TASK = "sinkworker.deliver"

MOST_LANES = 1024
"""Of one task: a connector has no more."""

_worker: Worker | None = None
"""This process's worker, made by its first activation: producers and connections do not survive a fork."""


@app.task(name=TASK, throws=(SinkworkerError,))  # type: ignore[untyped-decorator]  # Celery ships no annotations
def deliver(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """One activation: keywords as `enqueue` sends them. The result counts what was delivered; no bodies in either.

    Safe to run twice at any time: the ledger lets one run claim a lane.
    """
    global _worker
    try:
        connector, epoch, activations = parse(args, kwargs)
    except Invalid as exc:
        log.error("%s", exc)
        raise
    if _worker is None:
        from sinkworker import config
        from sinkworker.local import addresses

        environ = config.environment()
        settings = addresses.resolve_now(config.load(environ))
        process.share_arenas(environ)
        _worker = Worker(settings, enqueue, enqueue_at, own_queue.name(), stopping)
        process.spare_the_collector()
    return _worker.activate(connector, epoch, activations)


def parse(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, Epoch, list[Activation]]:
    """The task's arguments: a connector's id, an epoch, and `lanes`, a list of [lane, activation]. Raises Invalid.

    Everybody who reaches Redis can send a task.
    """
    match kwargs:
        case {"connector": str(connector), "epoch": int(epoch), "lanes": [*lanes]} if len(kwargs) == 3 and not args:
            pairs = [(pair[0], pair[1]) for pair in lanes[:MOST_LANES] if _is_pair(pair)]
            if lanes and len(pairs) == len(lanes) and _is_number(epoch) and not id_faults(connector):
                return connector, Epoch(epoch), [Activation(LaneNumber(lane), number) for lane, number in pairs]
    raise Invalid(
        f"A task {TASK} needs exactly the keywords connector (a text), epoch (a whole number) and lanes (a list of "
        "[lane, activation]); this one is refused.",
        hint="Every process must run the same release of sinkworker.",
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    """Whether it can be a number of a lane, an activation or an epoch: Redis's scripts are exact up to 2^53."""
    return type(value) is int and 0 <= value <= 1 << 53


def enqueue(connector: str, epoch: Epoch, activations: Sequence[Activation]) -> None:
    """`sinkworker.ledger.contract.Enqueue`, over Celery."""
    with _queue_answers():
        app.send_task(TASK, kwargs=_arguments(connector, epoch, activations), retry=False)


def enqueue_at(home: str, connector: str, epoch: Epoch, activations: Sequence[Activation]) -> bool:
    """`sinkworker.ledger.contract.EnqueueAt`, over Celery: a home is the name of a worker's own queue."""
    with _queue_answers(), app.producer_or_acquire() as producer:
        queue, channel = own_queue.queue(home), producer.channel
        if channel.queue_declare(home).message_count:
            return False
        arguments = _arguments(connector, epoch, activations)
        app.send_task(TASK, kwargs=arguments, queue=queue, producer=producer, retry=False)
        channel.client.expire(home, own_queue.LASTS_S)
    return True


@contextlib.contextmanager
def _queue_answers() -> Iterator[None]:
    try:
        yield
    except (OperationalError, RedisError) as exc:
        raise RedisUnavailable(f"The task queue does not answer: {exc}.") from exc


def _arguments(connector: str, epoch: Epoch, activations: Sequence[Activation]) -> dict[str, Any]:
    lanes = [[activation.lane, activation.number] for activation in activations]
    return {"connector": connector, "epoch": epoch, "lanes": lanes}


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _close(**_: Any) -> None:
    if _worker is not None:
        _worker.close()
