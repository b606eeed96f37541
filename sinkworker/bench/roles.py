"""sinkworker as a contestant: the real roles as processes, and a connector made over the HTTP API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sinkworker.bench.contestant import Site, Wait
from sinkworker.bench.cpu import Pids, connected_to
from sinkworker.bench.events import CATEGORY
from sinkworker.bench.servers import give_up
from sinkworker.demo.api import STOPPED, Api
from sinkworker.demo.processes import READY, ROLE_PATIENCE_S, role_environ
from sinkworker.errors import Misconfigured, Unavailable
from sinkworker.local.children import python
from sinkworker.local.part import LOOPBACK, free_port
from sinkworker.local.supervisor import Program, Supervisor
from sinkworker.model import Position

SETTINGS = {
    "instanceTypeName": "kafka-sink",
    "subscription:filter:scope": "stream",
    "subscription:filter:filterType": "prefix",
    "subscription:filter:expression": CATEGORY,
    "partitionKeyExtraction:enabled": "true",
    "partitionKeyExtraction:source": "stream",
}
"""All else is as a user has it who sets nothing."""

LOOK_EVERY_S = 0.05
STOP_EVERY_S = 0.2
MOST_WARM_UPS = 20
"""Workers take turns at an empty queue, so that a few records reach them all."""


class Roles:
    """Scheduler, coordinator, API and so many workers."""

    def __init__(
        self, site: Site, name: str, *, workers: int, wait: Wait, settings: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """`name` is the connector's and the topic's; `settings` come to the usual ones."""
        self._wait = wait
        self._kafka_ports = site.servers.kafka_ports
        self._supervisor = Supervisor(site.family, give_up)
        port = free_port()
        self._api = Api(f"http://{LOOPBACK}:{port}")
        self._connector = name
        self._settings = {**SETTINGS, "topic": name, **settings}
        folder = site.folder
        environ = {**role_environ(site.environ, folder, port), **site.servers.variables}
        commands = {each: python("sinkworker", each) for each in ("scheduler", "coordinator", "api")}
        self._workers = [f"worker-{number}" for number in range(1, workers + 1)]
        commands |= {each: python("celery", "-A", "tasks", "worker") for each in self._workers}
        self._programs = {
            each: Program(each, argv, environ, cwd=folder, log=folder / f"{name}-{each}.log")
            for each, argv in commands.items()
        }

    def start(self) -> None:
        for program in self._programs.values():
            self._supervisor.start(program)
        while not all(READY in "\n".join(self._programs[each].last_lines()) for each in self._workers):
            self._wait(LOOK_EVERY_S)
        while True:
            try:
                return self._api.create(self._connector, self._settings)
            except Unavailable:
                self._wait(LOOK_EVERY_S)

    def warm_up(self, after: Position, delivered: Callable[[], object]) -> None:
        for _ in range(MOST_WARM_UPS):
            self.begin(after)
            delivered()
            self._stop_connector()
            if all(self._is_connected(pid) for pid in self.pids()["workers"]):
                return
        raise Misconfigured("A worker was given nothing to do in the warm-up.", hint=self._where_to_look())

    def _is_connected(self, pid: int) -> bool:
        return any(connected_to(pid, port) for port in self._kafka_ports)

    def begin(self, after: Position) -> None:
        self._api.start_at(self._connector, after)

    def check(self) -> None:
        self._supervisor.check()

    def pids(self) -> Pids:
        found = {name: self._supervisor.pid(name) for name in self._programs}
        single = {name: [pid] for name, pid in found.items() if pid is not None and name not in self._workers}
        return {**single, "workers": [pid for name in self._workers if (pid := found[name]) is not None]}

    def retire(self) -> None:
        self._stop_connector()
        self._api.delete(self._connector)

    def stop(self) -> None:
        self._supervisor.stop(list(self._programs), ROLE_PATIENCE_S)

    def _stop_connector(self) -> None:
        self._api.stop(self._connector)
        while (connector := self._api.connector(self._connector))["state"] != STOPPED:
            self._wait(STOP_EVERY_S)
        if "errorDetails" in connector:
            raise Misconfigured(
                f"The connector stopped: {connector['errorDetails']['message']}", hint=self._where_to_look()
            )

    def _where_to_look(self) -> str:
        return f"The logs are in {self._programs['scheduler'].log.parent}."
