"""The demo's processes: the local stack and every role, as a supervisor would keep them, and what becomes of them."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sinkworker.config import PREFIX, SETTINGS
from sinkworker.errors import Misconfigured
from sinkworker.local import addresses
from sinkworker.local.children import import_path, python
from sinkworker.local.family import Family
from sinkworker.local.part import LOOPBACK
from sinkworker.local.supervisor import Death, Program, Supervisor

LOCAL = "local"
FLOWER_OPTIONS = (
    "--tasks_columns=name,uuid,state,args,kwargs,result,received,started,runtime,worker",
    "--max_tasks=10000",
)
"""Flower's own columns leave out what an activation is of and what came of it; it remembers 100,000 tasks by itself,
at 7 KiB each. The Procfile has the same."""
READY = "delivering batches to Kafka as"
"""What a worker says once it takes tasks."""
ROLE_PATIENCE_S = 5.0
LOCAL_PATIENCE_S = 4.0
LAST_STRAW = 5
"""So many quick deaths in a row of one role, and the demo gives up."""

REFUSALS = {2, 3}
"""Exit codes of a role that will not run as things are."""

FOREIGN = ("CELERY_", "FLOWER_")
"""Variables by which a user may have configured other applications of the libraries that we use."""


class RoleFailed(Misconfigured):
    """A role cannot be kept running. `program` is the one whose log says why."""

    def __init__(self, message: str, program: Program) -> None:
        super().__init__(message)
        self.program = program


class BrokerLost(Misconfigured):
    """The embedded broker died, and with it every record that was delivered."""

    def __init__(self, what_died: str) -> None:
        super().__init__(
            f"{what_died}; the broker keeps records in memory only: what was delivered is gone.",
            hint="Any process but the broker and `sinkworker local`, which takes it along, may be killed. A real Kafka"
            " keeps its records; start the demo again.",
        )


class Processes:
    """All processes of one demo, in one data dir. Driven by calls of `check`, from one thread."""

    def __init__(
        self,
        family: Family,
        data_dir: Path,
        environ: Mapping[str, str],
        *,
        workers: int,
        flower_port: int,
        note: Callable[[str], None],
    ) -> None:
        """`environ` is `role_environ`'s; `note` is told, in a sentence, what died and was started again."""
        self._data_dir = data_dir
        self._environ = environ
        self._note = note
        self._supervisor = Supervisor(family, self._on_death)
        roles = {name: python("sinkworker", name) for name in (LOCAL, "scheduler", "coordinator", "api")}
        roles |= {f"worker-{number}": python("celery", "-A", "tasks", "worker") for number in range(1, workers + 1)}
        flower = [f"--address={LOOPBACK}", f"--port={flower_port}", *FLOWER_OPTIONS]
        roles["flower"] = python("celery", "-A", "tasks", "flower", *flower)
        self.programs = {name: self._program(name, argv) for name, argv in roles.items()}
        self._logs = [_Followed(program) for program in self.programs.values()]

    def start(self) -> None:
        """Start all at once; each waits for what it needs."""
        for program in self.programs.values():
            self._supervisor.start(program)

    def check(self) -> None:
        """Start again what died. Raises RoleFailed for what does not stay up, BrokerLost."""
        self._supervisor.check()
        for log in self._logs:
            for line in log.new_lines():
                self._read(log.program, line)

    def workers_ready(self) -> bool:
        """Whether every worker has once said that it takes tasks."""
        workers = [program for name, program in self.programs.items() if name.startswith("worker-")]
        return all(program.log.exists() and READY in program.log.read_text(errors="replace") for program in workers)

    def stop(self) -> None:
        """Ask the roles to drain and end, then the local stack that they need for it; kill what does not."""
        self._supervisor.stop([name for name in self.programs if name != LOCAL], ROLE_PATIENCE_S)
        self._supervisor.stop([LOCAL], LOCAL_PATIENCE_S)

    def complaints(self, count: int) -> dict[str, list[str]]:
        """By role, the last lines of the logs that hold errors."""
        return {
            name: program.last_lines(count)
            for name, program in self.programs.items()
            if any(" ERROR " in line for line in program.last_lines(count))
        }

    def _program(self, name: str, argv: list[str]) -> Program:
        return Program(name, argv, self._environ, cwd=self._data_dir, log=self._data_dir / f"{name}.log")

    def _on_death(self, death: Death) -> None:
        published = bool(addresses.running(self._data_dir)) or death.program.name == LOCAL
        if death.quick and (death.quick >= LAST_STRAW or (death.code in REFUSALS and not published)):
            raise RoleFailed(f"{death.program.name} does not stay up: {how_it_ended(death.code)}.", death.program)
        if death.program.name == LOCAL:
            if not addresses.last_known(self._data_dir):
                raise RoleFailed(f"The local stack did not start: {how_it_ended(death.code)}.", death.program)
            raise BrokerLost("`sinkworker local` died, and with it the embedded Kafka-protocol broker")
        self._note(str(death))

    def _read(self, program: Program, line: str) -> None:
        """Note what a role says about a process of its own that died."""
        if program.name == LOCAL and (found := PART_DIED.search(line)):
            if found["part"] == "kafka":
                raise BrokerLost("The embedded Kafka-protocol broker died")
            self._note(f"local: {found['what']}")
        elif program.name.startswith("worker-") and (found := POOL_PROCESS_DIED.search(line)):
            self._note(f"{program.name}: its process {found['pid']} {found['how']}; it starts another")


PART_DIED = re.compile(r" local (?P<what>.*; starting it again.*?) part=(?P<part>\S+)")
POOL_PROCESS_DIED = re.compile(r" \(pid (?P<pid>\d+)\) (?P<how>died of .*?);")


class _Followed:
    """A log as it grows."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._offset = 0
        self._rest = b""

    def new_lines(self) -> Iterator[str]:
        """The complete lines since the last call."""
        try:
            with self.program.log.open("rb") as log:
                log.seek(self._offset)
                grown = log.read()
        except FileNotFoundError:
            return
        self._offset += len(grown)
        *lines, self._rest = (self._rest + grown).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


def role_environ(environ: Mapping[str, str], data_dir: Path, api_port: int) -> dict[str, str]:
    """The environment of the demo's roles: the user's tuning stays, servers and places are the demo's own."""
    # A token protects what the user's own database has; its file need not be there from the roles' folder.
    own = {SETTINGS[key].name for key in (*addresses.ADDRESSES, "data_protection_token", "data_protection_token_file")}
    # Nor does the demo's API ask for the user's password, or show the user's certificate.
    foreign = (*FOREIGN, f"{PREFIX}API_")
    kept = {name: text for name, text in environ.items() if name not in own and not name.startswith(foreign)}
    return {
        **kept,
        f"{PREFIX}DATA_DIR": str(data_dir),
        f"{PREFIX}API_HOST": LOOPBACK,
        f"{PREFIX}API_PORT": str(api_port),
        "PYTHONPATH": import_path(environ),
        "TMPDIR": str(data_dir),  # what a killed process leaves goes with the rest
    }


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"
