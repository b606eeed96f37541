"""Run a benchmark from beginning to end: servers, log, rounds, latency, results, and nothing left behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType

import click
from rich.console import Console

from sinkworker import config, logs, process
from sinkworker.bench import log as bench_log
from sinkworker.bench import measure, table
from sinkworker.bench.contestant import Contestant, Script, Site
from sinkworker.bench.events import Orders
from sinkworker.bench.figures import NAIVE, TUNED, Latency, Results, Run, rotated
from sinkworker.bench.progress import Progress
from sinkworker.bench.roles import Roles
from sinkworker.bench.servers import Servers
from sinkworker.demo import topic as kafka
from sinkworker.demo.folder import INTERRUPTED, run_in_folder
from sinkworker.demo.processes import role_environ
from sinkworker.errors import SinkworkerError
from sinkworker.local.family import Family
from sinkworker.local.part import free_port
from sinkworker.local.stack import PARTS
from sinkworker.process import Stopped

EXACTLY_ONCE = {"delivery:guarantee": "exactlyOnce"}
NOTHING_COUNTS = 1
"""Of a contestant no run was complete."""
LATENCY_PER_SECOND = 200
TABLE_WIDTH = 150
"""Of a table that goes into a file."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    events: int
    streams: int
    rounds: int
    workers: Sequence[int]
    latency_s: float
    as_json: bool = False
    kafka: str | None = None
    """Brokers to use instead of the embedded one."""
    exactly_once: bool = False
    """Whether sinkworker takes part a second time, delivering exactly once."""


def run(options: Options, environ: Mapping[str, str]) -> int:
    """Answer the exit code: 0 if everything was measured. Only the main thread may call it.

    Raises Invalid for a variable that is wrong, Misconfigured where the local stack cannot run at all.
    """
    return run_in_folder("sinkworker-bench-", lambda folder: Bench(options, environ, folder).run)


class Bench:
    """One benchmark in a folder of its own."""

    def __init__(self, options: Options, environ: Mapping[str, str], folder: Path) -> None:
        """Starts nothing. Raises Invalid, Misconfigured."""
        self._options = options
        self._environ = environ
        self._folder = folder
        self._log_level = config.load(role_environ(environ, folder, free_port())).log_level
        for part in PARTS.values():
            part(folder)  # what is not installed is said before anything starts
        self._progress = Progress()
        self._results = Results(options.events, options.rounds)
        self._stop = threading.Event()
        self._contestant: Contestant | None = None
        self._makers: dict[str, Callable[[str], Contestant]] = {
            NAIVE: lambda run: Script(self._site, run, tuned=False),
            TUNED: lambda run: Script(self._site, run, tuned=True),
            **{sinkworker(workers): partial(self._roles, workers=workers) for workers in options.workers},
        }
        if options.exactly_once:
            self._makers |= {
                exactly_once(workers): partial(self._roles, workers=workers, settings=EXACTLY_ONCE)
                for workers in options.workers
            }
        self._suffix = f"-{token_hex(3)}" if options.kafka else ""
        """Of topics on brokers that may have had a benchmark before."""

    def run(self) -> int:
        """Measure everything, and print what came of it."""
        with (self._folder / "bench.log").open("w", encoding="utf-8") as own_log:
            logs.setup(self._log_level, "bench", stream=own_log)
            with process.stopping_on_signals(self._stop), Family() as family:
                self._servers = Servers(family, self._folder, self._environ, self._options.kafka)
                self._site = Site(family, self._folder, self._environ, self._servers)
                try:
                    with self._progress:
                        self._measure()
                except Stopped:
                    click.echo("Stopped.", err=True)
                    return INTERRUPTED
                except SinkworkerError as exc:
                    click.echo(f"Error: {exc}\nAll logs are in {self._folder}", err=True)
                    return exc.exit_code
                finally:
                    self._servers.stop()
        return self._report()

    def _report(self) -> int:
        if self._options.as_json:
            click.echo(self._results.as_json())
        else:
            console = Console()
            console.width = max(console.width, TABLE_WIDTH)
            console.print(table.of_results(self._results))
        return NOTHING_COUNTS if None in self._results.medians.values() else 0

    def _measure(self) -> None:
        options, say = self._options, self._progress
        say.phase("starting the embedded servers")
        self._servers.start(self._stop)
        self._log = bench_log.connect(self._servers.kurrentdb)
        say.phase(f"writing {options.events:,} events to {options.streams:,} streams")
        self._log.write(options.events, options.streams, self._written)
        for number in range(1, options.rounds + 1):
            for name in rotated(list(self._makers), number - 1):
                say.phase(f"round {number} of {options.rounds}: {name}")
                found = self._run(name, number)
                self._results.runs.append(found)
                say.note(f"round {number} of {options.rounds}: {name}: {found}")
        if options.latency_s:
            orders = Orders(options.streams, "live-")
            exact = map(exactly_once, options.workers) if options.exactly_once else ()
            for name in (NAIVE, sinkworker(min(options.workers)), *exact):
                say.phase(f"latency at {LATENCY_PER_SECOND} events/s: {name}, for {options.latency_s:g} s")
                latency = self._latency(name, orders)
                self._results.latency[name] = latency
                say.note(f"latency at {LATENCY_PER_SECOND} events/s: {name}: {latency}")

    def _run(self, name: str, number: int) -> Run:
        run = f"{name}-round-{number}{self._suffix}"
        with self._taking_part(name, run) as contestant:
            found = measure.catch_up(contestant, self._servers, run, self._log, self._check)
            contestant.retire()
        verdict = self._log.judge(self._servers.kafka, run, self._check)
        self._delete(run)
        return Run(name, number, self._options.events, found.seconds, found.cpu_us, found.servers_cpu_us, verdict)

    def _latency(self, name: str, orders: Orders) -> Latency:
        run = f"{name}-latency{self._suffix}"
        with self._taking_part(name, run) as contestant:
            load = measure.Load(orders, LATENCY_PER_SECOND, self._options.latency_s)
            found = measure.latency(contestant, self._servers, run, self._log, load, self._check)
            contestant.retire()
        self._delete(run)
        return found

    @contextlib.contextmanager
    def _taking_part(self, name: str, run: str) -> Iterator[Contestant]:
        """A contestant for one run, which names its topic, too. Its processes are gone afterwards."""
        contestant = self._makers[name](run)
        self._contestant = contestant
        try:
            yield contestant
        finally:
            self._contestant = None
            contestant.stop()

    def _delete(self, topic: str) -> None:
        """On brokers that others use nothing is left behind."""
        if self._options.kafka:
            kafka.delete(self._servers.kafka, topic)

    def _roles(self, run: str, *, workers: int, settings: Mapping[str, str] = MappingProxyType({})) -> Contestant:
        return Roles(self._site, run, workers=workers, wait=self._wait, settings=settings)

    def _written(self, events: int) -> None:
        self._progress.update(f"written {events:,} of {self._options.events:,} events")
        self._check()

    def _wait(self, seconds: float) -> None:
        self._check()
        self._stop.wait(seconds)

    def _check(self) -> None:
        """Raise what ends the benchmark: Stopped, or Misconfigured for a process that died."""
        if self._stop.is_set():
            raise Stopped
        self._servers.check()
        if self._contestant is not None:
            self._contestant.check()


def exactly_once(workers: int) -> str:
    """What the figures call it where it delivers exactly once."""
    return f"exactly-once-{workers}"


def sinkworker(workers: int) -> str:
    """What the figures call sinkworker with so many workers."""
    return f"sinkworker-{workers}"
