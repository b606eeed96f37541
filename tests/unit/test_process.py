"""A role's life: signals set an event, errors become one sentence and an exit code."""

from __future__ import annotations

import gc
import logging
import platform
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from sinkworker.errors import Invalid, Misconfigured, SinkworkerError
from sinkworker.process import ARENAS, ARENAS_VARIABLE, Stopped, attempt, collect, obey, stopping_on_signals
from tests.processes import clean_environment, eventually


class RoleThat:
    """A role whose run is the given function."""

    name = "tester"
    purpose = "does what a test asks"

    def __init__(self, run: Callable[[threading.Event], None]) -> None:
        self._run = run

    def run(self, stop: threading.Event) -> None:
        self._run(stop)


def failing(error: Exception) -> RoleThat:
    def run(stop: threading.Event) -> None:
        raise error

    return RoleThat(run)


def test_the_first_signal_asks_and_the_second_leaves_at_once() -> None:
    stop, left = threading.Event(), list[int]()
    obey([signal.SIGTERM], stop, left.append)
    assert (stop.is_set(), left) == (True, [])
    obey([signal.SIGTERM, signal.SIGINT], stop, left.append)
    assert left == [128 + signal.SIGINT]


def test_a_closing_terminal_asks_however_often_its_shell_says_so() -> None:
    stop, left = threading.Event(), list[int]()
    obey([signal.SIGHUP, signal.SIGHUP], stop, left.append)
    assert (stop.is_set(), left) == (True, [])


def test_nohup_stays_in_force() -> None:
    stop = threading.Event()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping_on_signals(stop):
            signal.raise_signal(signal.SIGHUP)
            assert not stop.wait(0.2)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_signals_do_not_stop_a_role() -> None:
    stop = threading.Event()
    obey([signal.SIGCHLD, signal.SIGUSR1], stop, lambda code: None)
    assert not stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_real_signal_sets_the_event_and_the_old_handlers_come_back(number: int) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    stop = threading.Event()
    try:
        with stopping_on_signals(stop):
            signal.raise_signal(number)
            assert stop.wait(5)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_role_says_what_it_does_and_that_it_stopped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert attempt(RoleThat(lambda stop: None), threading.Event()) == 0
    assert "does what a test asks" in caplog.messages[0]
    assert caplog.messages[-1] == "stopped"


def test_a_role_that_is_told_to_stop_while_it_waits_ends_well() -> None:
    assert attempt(failing(Stopped()), threading.Event()) == 0


@pytest.mark.parametrize(
    ("error", "code"), [(Invalid("No."), 2), (Misconfigured("No."), 3), (SinkworkerError("No."), 1)]
)
def test_an_error_of_ours_is_one_sentence_and_its_exit_code(
    error: SinkworkerError, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert attempt(failing(error), threading.Event()) == code
    assert caplog.messages[-1] == "No."
    assert not any(record.exc_info for record in caplog.records)


def test_what_nobody_foresaw_is_one_line_and_exit_code_1(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert attempt(failing(ZeroDivisionError("oops")), threading.Event()) == 1
    assert "ZeroDivisionError: oops" in caplog.messages[-1]
    assert not any(record.exc_info for record in caplog.records)


def test_a_traceback_comes_at_debug_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    attempt(failing(ZeroDivisionError("oops")), threading.Event())
    assert any(record.exc_info for record in caplog.records)


@pytest.fixture
def spared() -> Iterator[None]:
    """Inside, the garbage collector does nothing by itself."""
    gc.disable()
    yield
    gc.enable()


class Cyclic:
    """Only the garbage collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_collected_by_the_clock_however_little_there_is(spared: None) -> None:
    stop = threading.Event()
    collecting = threading.Thread(target=collect, args=(stop, 0.01))
    collecting.start()
    try:
        for _ in range(2):  # not only once
            garbage = weakref.ref(Cyclic())
            eventually(lambda garbage=garbage: garbage() is None)  # type: ignore[misc]
    finally:
        stop.set()
        collecting.join()


COUNTS_ARENAS = """
import ctypes, os, threading
from sinkworker.process import share_arenas

libc = ctypes.CDLL(None)
share_arenas(os.environ)
all_there = threading.Barrier(20)

def use() -> None:
    libc.malloc(1000)
    all_there.wait()

threads = [threading.Thread(target=use) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has arenas")
@pytest.mark.parametrize("asked", ["", "4"])
def test_threads_share_two_arenas_or_as_many_as_the_user_says(asked: str) -> None:
    environ = clean_environment(**{ARENAS_VARIABLE: asked})
    if not asked:
        del environ[ARENAS_VARIABLE]
    counted = subprocess.run([sys.executable, "-c", COUNTS_ARENAS], env=environ, capture_output=True, check=True)
    assert counted.stdout.count(b"<heap ") == int(asked or ARENAS)
