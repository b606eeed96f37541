"""Run a demo from beginning to end: processes, flow, progress, summary, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from sinkworker import config, logs, process
from sinkworker.demo import progress, summary
from sinkworker.demo.background import Background
from sinkworker.demo.figures import Figures, Outcome, unjudged_as_json
from sinkworker.demo.flow import Flow
from sinkworker.demo.folder import INTERRUPTED, run_in_folder
from sinkworker.demo.processes import Processes, role_environ
from sinkworker.errors import SinkworkerError
from sinkworker.local.family import Family
from sinkworker.local.part import LOOPBACK, free_port
from sinkworker.local.stack import PARTS
from sinkworker.process import Stopped

CHECK_EVERY_S = 0.1
LAST_WORDS_S = 1.0
"""How long the flow has to notice that the demo is over."""
HANGUP_S = 0.5
"""A terminal that closes may fail what is written to it before the signal that says so is seen."""
NOT_HELD = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    events: int
    keys: int
    workers: int
    as_json: bool = False
    keep: bool = False


def run(options: Options, environ: Mapping[str, str]) -> int:
    """Answer the exit code: 0 only if everything held. Only the main thread may call it.

    Raises Invalid for a variable that is wrong, Misconfigured where the local stack cannot run at all.
    """
    return run_in_folder("sinkworker-demo-", lambda folder: Demo(options, environ, folder).run)


class Demo:
    """One demo in a folder of its own."""

    def __init__(self, options: Options, environ: Mapping[str, str], folder: Path) -> None:
        """Starts nothing. Raises Invalid, Misconfigured."""
        self._options = options
        self._environ = environ
        self._folder = folder
        api_port, flower_port = free_port(), free_port()
        self._api = f"http://{LOOPBACK}:{api_port}"
        self._flower = f"http://{LOOPBACK}:{flower_port}"
        self._role_environ = role_environ(environ, folder, api_port)
        self._flower_port = flower_port
        self._config = config.load(self._role_environ)
        for part in PARTS.values():
            part(folder)  # what is not installed is said before anything starts
        self._figures = Figures(options.events)
        self._progress = progress.for_stderr()

    def run(self) -> int:
        """Start everything, see it through, stop everything."""
        stop = threading.Event()
        with (self._folder / "demo.log").open("w", encoding="utf-8") as own_log:
            logs.setup(self._config.log_level, "demo", stream=own_log)
            with process.stopping_on_signals(stop), Family() as family:
                processes = Processes(
                    family,
                    self._folder,
                    self._role_environ,
                    workers=self._options.workers,
                    flower_port=self._flower_port,
                    note=self._progress.note,
                )
                try:
                    return self._attempt(processes, stop)
                except OSError:
                    if stop.wait(HANGUP_S):
                        return INTERRUPTED  # by a terminal that closed: there is nobody to tell
                    raise
                finally:
                    processes.stop()

    def _attempt(self, processes: Processes, stop: threading.Event) -> int:
        try:
            with self._progress:
                outcome = self._outcome(processes, stop)
            self._report(outcome)
            if self._options.keep:
                self._keep_running(processes, stop)
        except Stopped:
            click.echo("Stopped.", err=True)
            return INTERRUPTED
        except SinkworkerError as exc:
            if self._options.as_json:
                click.echo(unjudged_as_json(self._figures))
            click.echo(summary.of_failure(exc, processes, self._folder), err=True)
            return exc.exit_code
        return 0 if outcome.holds else NOT_HELD

    def _outcome(self, processes: Processes, stop: threading.Event) -> Outcome:
        """See to the processes while the flow works in a thread of its own."""
        over = threading.Event()
        flow = Flow(self._config, self._options.keys, self._figures, self._api, ready=processes.workers_ready)
        self._progress.note(f"Flower is at {self._flower}, the API at {self._api}/connectors")
        processes.start()
        working = Background(lambda: flow.run(over), "flow")
        try:
            while not working.done():
                processes.check()
                self._progress.update(self._figures)
                if stop.wait(CHECK_EVERY_S):
                    raise Stopped
            return working.result()
        finally:
            over.set()
            working.join(LAST_WORDS_S)

    def _report(self, outcome: Outcome) -> None:
        if self._options.as_json:
            click.echo(outcome.as_json())
        else:
            click.echo(summary.of_outcome(outcome, self._options.workers))
        if not outcome.holds:
            click.echo(f"What is wrong: {outcome.verdict}.", err=True)
            click.echo(summary.where_the_logs_are(self._folder), err=True)
        if not self._options.keep:
            click.echo("Everything is being stopped; `sinkworker demo --keep` leaves it running.", err=True)

    def _keep_running(self, processes: Processes, stop: threading.Event) -> None:
        click.echo(f"Still running: Flower at {self._flower}, the API at {self._api}. Ctrl-C stops it.", err=True)
        while not stop.wait(CHECK_EVERY_S):
            processes.check()
