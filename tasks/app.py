"""The Celery application: broker, pool, prefetch, events, serializers, shutdown. No business rules."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import socket
import sys
import threading
import warnings
from typing import Any

from billiard import active_children
from billiard.util import get_logger
from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from sinkworker import config, logs, process, redis_address
from sinkworker.bell import pause
from sinkworker.errors import SinkworkerError
from sinkworker.local import addresses
from tasks import noise, transport

QUEUE = "sinkworker"
"""Goes with the format of ledger, batches and tasks: another one has another queue, so that no worker is sent what it
cannot read."""

DEFAULT_NODE = "celery@"
STOP_S = 1.0
"""What stopping may take beyond the drain. With both as they come, honcho's patience of five seconds is not over."""

app = Celery("sinkworker", include=["tasks.produce"])
transport.register()

_told_to_stop = mmap.mmap(-1, 1)
"""One byte shared with the pool's children by the fork: set once the worker has been told to stop."""

_interrupted = False
"""Whether what stops this worker is the first Ctrl-C."""

_told_here = False
"""Whether this very process was sent SIGTERM since its present activation began."""


def stopping() -> bool:
    """Whether this worker has been told to stop: an activation then finishes what is in flight and lets go."""
    return _told_here or _told_to_stop[0] != 0


def _settings() -> dict[str, Any]:
    """Celery's configuration, made when it is first asked for, so that importing this module does nothing."""
    configured = _configured()
    broker_url = configured.broker_url or configured.redis_url
    assert broker_url is not None
    return {
        **transport.settings(redis_address.parse(broker_url.reveal())),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_default_queue": QUEUE,
        "task_serializer": "json",
        "accept_content": ["json"],  # never pickle
        "task_ignore_result": True,
        "worker_pool": "tasks.pool:Pool",
        "worker_consumer": "tasks.consumer:Consumer",
        # One activation at a time and none waiting behind it, where another worker could not have it.
        "worker_concurrency": 1,
        "worker_prefetch_multiplier": 1,
        "task_acks_late": True,
        # The ledger knows better than Celery when an activation whose process died is to be sent again.
        "task_reject_on_worker_lost": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_prefetch_count_reduction": False,  # from one
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_redirect_stdouts": False,
    }


def _configured() -> config.Config:
    """The process's configuration, waiting for the local stack where it must give an address.

    Celery's own commands know nothing of our errors: they end here in one sentence and an exit code, as ours do.
    """
    try:
        settings = config.load(config.environment())
        if not logging.getLogger().handlers:
            logs.setup(settings.log_level, "celery")
        if not addresses.missing(settings):
            return settings
        if threading.current_thread() is not threading.main_thread():
            return addresses.resolve_now(settings)
        stop = threading.Event()
        with process.stopping_on_signals(stop):
            return addresses.resolve(settings, stop)
    except process.Stopped:
        raise SystemExit(0) from None
    except SinkworkerError as exc:
        sys.stderr.write(f"{exc}\n")
        raise SystemExit(exc.exit_code) from exc


app.add_defaults(_settings)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # Celery ships no annotations
def _set_up_logging(**_: Any) -> None:
    level = _configured().log_level
    logs.setup(level, "worker")
    handlers = logging.getLogger().handlers
    if level != "DEBUG":
        for handler in handlers:
            handler.addFilter(noise.one_line)
    pool_log = get_logger()
    pool_log.handlers[:] = handlers  # it does not propagate
    pool_log.setLevel(level if level == "DEBUG" else logging.WARNING)
    # Two lines for each activation: Flower shows them better.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


@signals.celeryd_init.connect  # type: ignore[untyped-decorator]
def _introduce(instance: Any, **_: Any) -> None:
    """A node name of its own for every worker process, so that `honcho start -c worker=4` needs no options.

    No banner and no word about root: each role says in one line what it does.
    """
    if instance.hostname.startswith(DEFAULT_NODE):
        instance.hostname = f"worker-{os.getpid()}@{socket.gethostname()}"
    instance.quiet = True
    warnings.simplefilter("ignore", SecurityWarning)


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def _omit_announcements(**_: Any) -> None:
    """Setting up its logs, Celery turns warnings on that tell of its next release at every lost connection."""
    warnings.simplefilter("ignore", CPendingDeprecationWarning)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _leave_neighbours_alone(sender: Any, **_: Any) -> None:
    """Workers share only the queue and the ledger. Asking for others takes a second at each start, and each connection
    that is watched for gossip is one more to fail with Redis."""
    sender.options |= {"without_mingle": True, "without_gossip": True}


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _say_purpose(sender: Any, **_: Any) -> None:
    logging.getLogger("sinkworker").info("delivering batches to Kafka as %s (pid %d)", sender.hostname, os.getpid())


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _begin_to_stop(sig: str, how: str, **_: Any) -> None:
    global _interrupted
    _interrupted = sig == "SIGINT" and how == "Warm"
    if not _told_to_stop[0]:
        _told_to_stop[0] = 1
        threading.Thread(target=_leave_in_time, name="stop", daemon=True).start()


def _leave_in_time() -> None:
    """The end of a stop that waits for a server: by then the children have drained, or never will.

    Celery's calls to a Redis that does not answer end after `socket_timeout` each, and a stop makes several.
    """
    patience_s = config.load(config.environment()).drain_timeout_s + STOP_S
    pause(patience_s)
    logging.getLogger("sinkworker").warning("not through with stopping after %g s: leaving at once", patience_s)
    os._exit(1 if active_children() else 0)


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _end_well(sender: Any, **_: Any) -> None:
    """Ctrl-C stops a worker as SIGTERM does. Celery calls that a failure."""
    if _interrupted:
        sender.exitcode = 0


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _leave_group_signals_to_the_parent(**_: Any) -> None:
    """A supervisor may signal the whole process group. A child without work waits for its parent to close its pipe.

    Ignoring the signal is the only choice that Celery's pool lets stand: any handler set here is replaced by its own,
    which breaks off whatever the child does.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@signals.task_prerun.connect  # type: ignore[untyped-decorator]
def _end_activation_in_order(**_: Any) -> None:
    """From its first activation on a child heeds the signal: it drains, and a second signal is meant.

    Only for the activation that it hits: whether the worker goes on is for the parent to say. A child that took the
    signal for the worker's end would refuse all work until somebody ended its parent.
    """
    global _told_here
    _told_here = False
    signal.signal(signal.SIGTERM, _on_term)


def _on_term(*_: Any) -> None:
    global _told_here
    if _told_here:
        os._exit(1)
    _told_here = True
