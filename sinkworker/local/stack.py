"""The role `local`: run what is not configured, in order, keep it running, stop it in order."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sinkworker.config import SETTINGS, Config, Secret, without_password
from sinkworker.errors import Misconfigured
from sinkworker.local import addresses, kafka, kurrentdb_process, redis
from sinkworker.local.children import import_path
from sinkworker.local.env_file import EnvFile
from sinkworker.local.family import Family
from sinkworker.local.farewell import await_roles
from sinkworker.local.part import LOOPBACK, Part, free_port, is_free
from sinkworker.local.supervisor import Death, Program, Supervisor
from sinkworker.process import Stopped

log = logging.getLogger(__name__)

PARTS = {"kurrentdb_uri": kurrentdb_process.part, "redis_url": redis.part, "kafka_bootstrap_servers": kafka.part}
"""By the address they give, in the order of their start."""

START_PATIENCE_S = 30.0
START_ATTEMPTS = 3
"""Tries with other ports: between choosing a free port and listening on it, another process may take it."""
STOP_PATIENCE_S = 1.0
POLL_S = 0.05
WATCH_S = 0.2

PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
"""What parts get of our environment: the broker would take settings from variables with everyday names."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A part and the loopback port it has."""

    part: Part
    port: int

    @property
    def variable(self) -> str:
        return SETTINGS[self.part.key].name

    @property
    def address(self) -> str:
        return self.part.address(self.port)


class Stack:
    """Gives the addresses that nothing configures. With all configured it starts nothing and waits to be stopped."""

    name = "local"
    purpose = "runs the servers that are not configured, for this machine only"

    def __init__(self, config: Config, environ: Mapping[str, str], *, env_file: EnvFile | None = None) -> None:
        """`environ` is where the parts' environment is taken from."""
        self._config = config
        self._env = {name: environ[name] for name in PASSED_ON if name in environ}
        self._env["PYTHONPATH"] = import_path(environ)
        self._env_file = env_file

    def run(self, stop: threading.Event) -> None:
        """Raises Misconfigured when a part is not to be had or does not start, or another stack has the data dir."""
        for key in PARTS:
            if configured := getattr(self._config, key):
                log.info("a real server is configured for %s: %s", SETTINGS[key].name, _visible(configured))
        wanted = [key for key in PARTS if getattr(self._config, key) is None]
        if not wanted:
            log.info("every server is configured: nothing to start")
            with self._shown({}):
                stop.wait()
            return
        data_dir = addresses.prepare_data_dir(self._config.data_dir)
        with addresses.sole_stack(data_dir) as lock, Family(hold=[lock]) as family:
            self._serve(stop, data_dir, family, [PARTS[key](data_dir) for key in wanted])

    def _serve(self, stop: threading.Event, data_dir: Path, family: Family, parts: Sequence[Part]) -> None:
        # The ports of the last run are tried first, so that roles which outlived it find the stack again.
        previous = addresses.last_known(data_dir)
        running = RunningParts(Supervisor(family, _report), data_dir, self._env)
        try:
            placed = [running.start(part, _previous_port(part, previous), stop) for part in parts]
            given = {each.variable: each.address for each in placed}
            with addresses.published(data_dir, given) as found, self._shown(given):
                log.info("everything answers; addresses are in %s", found)
                while not stop.wait(WATCH_S):
                    running.check()
                await_roles(given.get(SETTINGS["redis_url"].name), running.check)
        finally:
            running.stop()

    @contextlib.contextmanager
    def _shown(self, given: Mapping[str, str]) -> Iterator[None]:
        """While inside, the file that was asked for, if any, has the addresses."""
        if self._env_file is None:
            yield
            return
        self._env_file.write(given)
        try:
            yield
        finally:
            self._env_file.withdraw()


class RunningParts:
    """The parts that have been started, as processes."""

    def __init__(self, supervisor: Supervisor, data_dir: Path, env: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._data_dir = data_dir
        self._logs = data_dir / "logs"
        self._env = env
        self._names: list[str] = []

    def start(self, part: Part, preferred: int | None, stop: threading.Event) -> Placed:
        """Start `part` and wait until it answers. Raises Misconfigured when it does not, Stopped when told to stop."""
        self._logs.mkdir(mode=0o700, exist_ok=True)
        self._names.append(part.name)
        port = preferred if preferred is not None and is_free(preferred) else free_port()
        for _ in range(START_ATTEMPTS):
            log.info("starting embedded: %s, on %s:%d", part.title, LOOPBACK, port, extra={"part": part.name})
            program = self._program(part, port)
            self._supervisor.start(program)
            if self._awaited(part, port, stop):
                return Placed(part, port)
            self._supervisor.stop([part.name], STOP_PATIENCE_S)
            if is_free(port):
                break  # it was not for the port
            port = free_port()
        said = "; ".join(program.last_lines(3)) or "it said nothing"
        raise Misconfigured(f"{_capital(part.title)} did not start: {said}.", hint=f"Its log is {program.log}.")

    def check(self) -> None:
        """Start again what died, on the same port: its clients know no other."""
        self._supervisor.check()

    def stop(self) -> None:
        """Stop all at once: they know nothing of each other, and whoever stops us may not wait long."""
        for late in self._supervisor.stop(self._names, STOP_PATIENCE_S):
            log.warning("had to be killed", extra={"part": late})
        self._names.clear()

    def _awaited(self, part: Part, port: int, stop: threading.Event) -> bool:
        """Whether the part came to answer; False when it ended or kept silent."""
        deadline = time.monotonic() + START_PATIENCE_S
        while time.monotonic() < deadline and self._supervisor.exit_code(part.name) is None:
            if part.answers(part.address(port)):
                return True
            if stop.wait(POLL_S):
                raise Stopped
        return False

    def _program(self, part: Part, port: int) -> Program:
        return Program(
            name=part.name,
            argv=part.argv(port),
            env={**self._env, **part.env},
            cwd=self._data_dir,
            log=self._logs / f"{part.name}.log",
        )


def _report(death: Death) -> None:
    log.warning("%s", death, extra={"part": death.program.name})


def _previous_port(part: Part, previous: Mapping[str, str]) -> int | None:
    address = previous.get(SETTINGS[part.key].name)
    try:
        return None if address is None else part.port(address)
    except ValueError:
        return None  # not worth a refusal: the file was edited, or cut short by a full disk


def _visible(address: Secret | str) -> str:
    return without_password(address.reveal() if isinstance(address, Secret) else address)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
