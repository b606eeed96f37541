"""The servers of a benchmark: the embedded ones, whatever is configured, as this process's own children.

Only Kafka may be another one, where it is named: the embedded one has no transactions that last.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from sinkworker.demo.processes import how_it_ended
from sinkworker.errors import Misconfigured
from sinkworker.local.children import import_path
from sinkworker.local.family import Family
from sinkworker.local.stack import PARTS, PASSED_ON, Placed, RunningParts
from sinkworker.local.supervisor import Death, Supervisor

KAFKA = "kafka_bootstrap_servers"
NAMES = {"kurrentdb_uri": "kurrentdb", "redis_url": "redis", KAFKA: "kafka"}
"""What the figures call the parts."""


class Servers:
    """Started by `start`, stopped by `stop`. Driven by calls of `check`, from one thread."""

    def __init__(self, family: Family, folder: Path, environ: Mapping[str, str], kafka: str | None = None) -> None:
        """Starts nothing. `kafka`: brokers to use instead of the embedded one.

        Raises Misconfigured where a part is not to be had.
        """
        self._given_kafka = kafka
        self._supervisor = Supervisor(family, give_up)
        env = {name: environ[name] for name in PASSED_ON if name in environ}
        self._running = RunningParts(self._supervisor, folder, {**env, "PYTHONPATH": import_path(environ)})
        self._parts = {key: part(folder) for key, part in PARTS.items() if not (kafka and key == KAFKA)}
        self._placed: dict[str, Placed] = {}

    def start(self, stop: threading.Event) -> None:
        """Return once all answer. Raises Misconfigured, Stopped."""
        for key, part in self._parts.items():
            self._placed[key] = self._running.start(part, None, stop)

    def check(self) -> None:
        """Raise Misconfigured if one has died."""
        self._supervisor.check()

    def stop(self) -> None:
        """Stop all at once."""
        self._running.stop()

    @property
    def kurrentdb(self) -> str:
        return self._placed["kurrentdb_uri"].address

    @property
    def kafka(self) -> str:
        return self._given_kafka or self._placed[KAFKA].address

    @property
    def kafka_is_embedded(self) -> bool:
        return self._given_kafka is None

    @property
    def kafka_ports(self) -> set[int]:
        """Where the brokers listen: one of them is what a producer is connected to."""
        return {int(server.rpartition(":")[2]) for server in self.kafka.split(",")}

    @property
    def variables(self) -> dict[str, str]:
        """The addresses as the roles take them."""
        given = {"KAFKA_BOOTSTRAP_SERVERS": self._given_kafka} if self._given_kafka else {}
        return {placed.variable: placed.address for placed in self._placed.values()} | given

    @property
    def pids(self) -> dict[str, list[int]]:
        """By the name that the figures have for it, each part's process."""
        found = {NAMES[key]: self._supervisor.pid(placed.part.name) for key, placed in self._placed.items()}
        return {name: [pid] for name, pid in found.items() if pid is not None}


def give_up(death: Death) -> None:
    """What a benchmark does about a process that died."""
    said = "; ".join(death.program.last_lines(3)) or "it said nothing"
    raise Misconfigured(
        f"{death.program.name} is gone ({how_it_ended(death.code)}): {said}.", hint=f"Its log is {death.program.log}."
    )
