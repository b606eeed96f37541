"""Run one role until it is told to stop: signals, one line of what it does, errors to exit codes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from sinkworker import logs
from sinkworker.config import Config
from sinkworker.errors import SinkworkerError

log = logging.getLogger(__name__)

COLLECTED_ALLOCATIONS = 250_000
"""Small objects made, and not freed, before the garbage collector looks at them. Python has 700 by itself."""

COLLECTED_EVERY_S = 10.0
"""Looking takes a millisecond or two; with half a million objects on their way, forty."""

ARENAS = 2
ARENAS_VARIABLE = "MALLOC_ARENA_MAX"
_M_ARENA_MAX = -8
"""What glibc's `mallopt` calls it."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Role(Protocol):
    """A long-running process of ours."""

    @property
    def name(self) -> str:
        """As the Procfile has it; every log line carries it."""

    @property
    def purpose(self) -> str:
        """One line for the operator: what this process does."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then drain and return. What it raises ends the process with that error's code."""


class Stopped(Exception):
    """The role was told to stop while it waited for something. Not an error: the process ends with 0."""


def run(role: Role, config: Config) -> int:
    """Serve `role` until SIGTERM, SIGINT or SIGHUP; answer the process's exit code. Only the main thread may call it.

    The first signal asks the role to drain and return, however long that takes; a second one ends the process at once.
    """
    logs.setup(config.log_level, role.name)
    stop = threading.Event()
    with stopping_on_signals(stop):
        return attempt(role, stop)


def attempt(role: Role, stop: threading.Event) -> int:
    """Run `role` and turn its end into an exit code: 0, an error's own, or 1 for what nobody foresaw."""
    log.info("%s (pid %d)", role.purpose, os.getpid())
    try:
        role.run(stop)
    except Stopped:
        pass
    except SinkworkerError as exc:
        log.error("%s", exc)
        log.debug("Where it came from:", exc_info=exc)
        return exc.exit_code
    except Exception as exc:
        log.error("Unexpected %s: %s. This is a bug; SINKWORKER_LOG_LEVEL=DEBUG shows where.", type(exc).__name__, exc)
        log.debug("Where it came from:", exc_info=exc)
        return 1
    log.info("stopped")
    return 0


def spare_the_collector() -> None:
    """Have the garbage collector look by the clock, not by what is made, and never again at what is loaded by now.

    Records on their way are many small objects without cycles, and freed without its help; looking through them all
    the time took a fifth of a worker's CPU. What it is there for are calls to the database and activations that failed:
    few objects, so that they would add up for a quarter of an hour, but with much behind each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_ALLOCATIONS, *gc.get_threshold()[1:])
    threading.Thread(target=collect, args=(threading.Event(),), name="collector", daemon=True).start()


def collect(stop: threading.Event, every_s: float = COLLECTED_EVERY_S) -> None:
    """Have the garbage collector look at once and then every so often, until `stop` is set."""
    while True:
        gc.collect()
        if stop.wait(every_s):
            return


def share_arenas(environ: Mapping[str, str]) -> None:
    """Have all threads share two arenas of glibc's malloc, unless `MALLOC_ARENA_MAX` says how many.

    By itself it makes eight for each core, and each keeps what was freed in it: with the dozens of threads of the Kafka
    client three times what they use at a time. To be called before there are threads; other C libraries have no arenas.
    """
    if ARENAS_VARIABLE not in environ:
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


@contextlib.contextmanager
def stopping_on_signals(stop: threading.Event, leave: Callable[[int], None] = os._exit) -> Iterator[None]:
    """While inside, SIGTERM, SIGINT and SIGHUP set `stop`, and the next one calls `leave(128 + signal)`.

    SIGHUP (the terminal has closed) only ever asks, as shells send it twice; `nohup` stays in force.

    A thread of its own acts on the signals, woken by the interpreter's wakeup descriptor. A Python signal handler would
    run in the main thread: late, when that thread sits in C code such as gRPC's (up to 200 ms), and with a deadlock
    when it interrupts the main thread inside `stop.wait()`, whose lock `stop.set()` needs.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    heeded = [each for each in STOP_SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda *_: None) for number in heeded}
    previous_wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=obey, args=(_received(receiver), stop, leave), name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_wakeup)
        for number, handler in previous.items():
            signal.signal(number, handler)
        sender.close()
        watcher.join()
        receiver.close()


def obey(numbers: Iterable[int], stop: threading.Event, leave: Callable[[int], None]) -> None:
    """The first stop signal among `numbers` sets `stop`; each further one, but for SIGHUP, leaves at once."""
    told = False
    for number in numbers:
        if number not in STOP_SIGNALS or (told and number == signal.SIGHUP):
            continue
        if told:
            log.warning("told to stop a second time: leaving at once")
            leave(128 + number)
        else:
            log.info("told to stop: draining (a second signal ends at once)")
        told = True
        stop.set()


def _received(receiver: socket.socket) -> Iterator[int]:
    while data := receiver.recv(16):
        yield from data
