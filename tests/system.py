"""The whole system as real processes, for tests: the local stack, the roles, and hands to kill and revive them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # public, but not in an __all__
from honcho.environ import parse
from kurrentdbclient import KurrentDBClient, NewEvent, RecordedEvent, StreamState
from kurrentdbclient.exceptions import KurrentDBClientError

from sinkworker.config import CRASH_FOLDER, Config, Secret, load
from sinkworker.connectors.deployment import deployment_name
from sinkworker.connectors.lifecycle import Connector, State
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.vault import Protection
from sinkworker.crashpoints import CrashPoint
from sinkworker.database import Database
from sinkworker.errors import SinkworkerError
from sinkworker.ledger import redis_client
from tests import apache_kafka
from tests.oracle import Verdict, consume, judge
from tests.processes import clean_environment, eventually, processes_mentioning

QUICK = {
    "SINKWORKER_CLAIM_LEASE_S": "2",
    "SINKWORKER_ACTIVATION_S": "0.5",
    "SINKWORKER_DELIVERY_TIMEOUT_S": "5",
    "SINKWORKER_BATCH_RECORDS": "50",
    "SINKWORKER_DRAIN_TIMEOUT_S": "3",
}
"""So that recovery from a crash takes seconds, and some hundred records already make many batches."""

UNHURRIED_S = f"{Config().claim_lease_s:g}"
"""As long as claims last for users: for tests in which nobody dies, and so nothing may be repeated. A machine with too
much to do stands still for a second or two, and others take over what a shorter claim held."""

PARTITIONS = 6

IN_FLIGHT = PARTITIONS * Config().in_flight_batches * int(QUICK["SINKWORKER_BATCH_RECORDS"])
"""P3: the most records of a connector that all workers together may have produced and not acknowledged."""

DISPATCHED = PARTITIONS * Config().lane_depth * int(QUICK["SINKWORKER_BATCH_RECORDS"])
"""The most records in all mailboxes of a connector: a Redis that is put back to an older snapshot has these again, and
workers deliver them, below the checkpoint too, until a scheduler takes over."""

OWN_KEYS = {"partitionKeyExtraction:source": "headers", "partitionKeyExtraction:expression": "loan"}
"""Settings under which each record of `Flow.append_keyed` has a key of its own."""

DATABASE, REDIS, BROKER = "sinkworker.local.kurrentdb", "-server 127.0.0.1:", "tansu broker"
"""What the command line of each part of the local stack contains."""


OfRoles: TypeAlias = Mapping[str, Mapping[str, str]]
"""Environment variables of single roles."""


class Role:
    """One process of the system, which may be killed and started again."""

    def __init__(self, name: str, argv: Sequence[str], environ: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._argv = [sys.executable, "-m", *argv]
        self.environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                self._argv,
                env=self.environ,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self, text: str) -> bool:
        """Whether it has logged that since its last start."""
        return text in self.log.read_bytes()[self._log_start :].decode()

    def ready(self) -> bool:
        """Of a worker: whether it takes tasks. Of another role: whether it would stop in order."""
        return self.said(" ready." if "celery" in self._argv else f" (pid {self.pid})")

    @property
    def alive(self) -> bool:
        assert self._process is not None
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to the process alone, as an out-of-memory killer does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def children(self) -> list[int]:
        listed = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True, check=False).stdout
        return [int(pid) for pid in listed.split()]

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """The exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def destroy(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class System:
    """Everything that `honcho start` runs, but for Flower and the API, on free ports."""

    def __init__(
        self,
        folder: Path,
        of_roles: OfRoles | Callable[[Mapping[str, str]], OfRoles] | None = None,
        /,
        *,
        workers: int = 2,
        **environ: str,
    ) -> None:
        """`environ` outranks what the local stack gives, and what `of_roles` has for single roles, or answers for these
        addresses, outranks that.
        """
        self._folder = folder
        self._env_file = folder / "stack.env"
        self.local = Role(
            "local",
            ["sinkworker", "local", "--env-file", str(self._env_file)],
            clean_environment(SINKWORKER_DATA_DIR=str(folder / "data")),
            folder,
        )
        self._crash_folder = folder / "crash"
        self._crash_folder.mkdir()
        self._environ = {**QUICK, CRASH_FOLDER: str(self._crash_folder), **environ}
        self._of_roles = of_roles or {}
        self._workers = workers
        self._topics: list[str] = []
        self.roles: dict[str, Role] = {}

    def __enter__(self) -> System:
        self.local.start()
        self.addresses = eventually(self._given, within_s=30)
        self.addresses |= {name: value for name, value in self._environ.items() if name in self.addresses}
        self.servers = self.addresses["KAFKA_BOOTSTRAP_SERVERS"]
        self._role_environ = environ = clean_environment(**{**self._environ, **self.addresses})
        of_roles = self._of_roles(self.addresses) if callable(self._of_roles) else self._of_roles
        roles = {"scheduler": ["sinkworker", "scheduler"], "coordinator": ["sinkworker", "coordinator"]}
        roles |= {f"worker-{number}": ["celery", "-A", "tasks", "worker"] for number in range(self._workers)}
        self.roles = {
            name: Role(name, argv, {**environ, **of_roles.get(name, {})}, self._folder) for name, argv in roles.items()
        }
        for role in self.roles.values():
            role.start()
        self.database = Database(Secret(self.addresses["KURRENTDB_URI"]))
        self.registry = Registry(self.database, Protection.of(load(environ)))
        self.client = KurrentDBClient(self.addresses["KURRENTDB_URI"])
        url = self.addresses["REDIS_URL"]
        # redis-py's own client waits longer and tries again; it knows no URL of sentinels or of a cluster.
        self.redis = (
            redis.Redis.from_url(url) if url.startswith(("redis:", "rediss:")) else redis_client.connect(Secret(url))
        )
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        self._deployment = deployment_name(self.database) if self._is_guest else ""
        for worker in self.workers:
            eventually(worker.ready, within_s=30)
        return self

    def _given(self) -> dict[str, str]:
        """What the local stack says once all of it answers."""
        return dict(parse(self._env_file.read_text())) if self._env_file.exists() else {}

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.database.close()
        for role in [*self.roles.values(), self.local]:
            role.destroy()
        if self._is_guest:
            self._leave()

    @property
    def _is_guest(self) -> bool:
        """Whether its Kafka is somebody's cluster."""
        return self.servers == apache_kafka.given()

    def _leave(self) -> None:
        """Remove from Kafka what is this system's alone."""
        groups = [each.group_id for each in self.admin.list_consumer_groups().result(10).valid]
        ours = [group for group in groups if group.startswith(f"sinkworker-{self._deployment}-")]
        for delete, names in ((self.admin.delete_topics, self._topics), (self.admin.delete_consumer_groups, ours)):
            for deleted in delete(names).values() if names else ():
                with contextlib.suppress(KafkaException):  # a test was first
                    deleted.result(10)

    @property
    def workers(self) -> list[Role]:
        return [role for name, role in self.roles.items() if name.startswith("worker")]

    def another(self, name: str, argv: Sequence[str], **environ: str) -> Role:
        """One more process of the system, not yet started."""
        return Role(f"another-{name}", argv, {**self._role_environ, **environ}, self._folder)

    def logged(self, text: str) -> list[str]:
        """The lines of all processes that have the text in them."""
        logs = (path.read_text(encoding="utf-8") for path in sorted(self._folder.glob("*.log")))
        return [line for log in logs for line in log.splitlines() if text in line]

    def part(self, mention: str) -> int:
        """The process of a part of the local stack, by what its command line contains."""
        (pid,) = [pid for pid in processes_mentioning(mention) if self._is_ours(pid)]
        return pid

    def _is_ours(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/cwd").startswith(str(self._folder))
        except OSError:
            return False  # it has ended

    def arm(self, point: CrashPoint) -> Path:
        """Have the next process that comes there die; it takes the file away that is answered."""
        armed = self._crash_folder / point
        armed.touch()
        return armed

    def topic(self, partitions: int = PARTITIONS, config: dict[str, str] | None = None) -> str:
        """A new topic. Somebody's cluster is rid of it when the system ends."""
        name = f"loans-{uuid.uuid4().hex[:8]}"
        self.create_topic(name, partitions, config)
        return name

    def create_topic(self, name: str, partitions: int = PARTITIONS, config: dict[str, str] | None = None) -> None:
        for created in self.admin.create_topics([NewTopic(name, partitions, config=config or {})]).values():
            created.result(10)
        self._topics.append(name)

    def flow(self, **settings: str) -> Flow:
        """A connector over streams of its own, running to a topic of its own."""
        flow = Flow(self, self.topic())
        flow.create(**settings)
        flow.start()
        return flow


class Flow:
    """One connector, its streams `<prefix>-…` and its topic."""

    def __init__(self, system: System, topic: str) -> None:
        self.system = system
        self.topic = topic
        self.prefix = f"Loan{uuid.uuid4().hex[:8]}"
        self.id = f"sink-{self.prefix}"
        self.appended = 0
        self.appending: threading.Thread | None = None

    def create(self, **settings: str) -> None:
        given = {
            "instanceTypeName": "kafka-sink",
            "topic": self.topic,
            "subscription:initialPosition": "earliest",
            "subscription:filter:scope": "stream",
            "subscription:filter:filterType": "prefix",
            "subscription:filter:expression": f"{self.prefix}-",
            "partitionKeyExtraction:enabled": "true",
            "partitionKeyExtraction:source": "stream",
            "autocommit:interval": "300",
            **settings,
        }
        self.system.registry.create(self.id, {key: value for key, value in given.items() if value})

    def start(self, position: int | None = None) -> None:
        from sinkworker.model import Position

        self.system.registry.start(self.id, None if position is None else Position(position))

    def stop(self) -> None:
        """Ask for a stop and wait until it is complete."""
        self.system.registry.stop(self.id)
        eventually(lambda: self.connector.state is State.STOPPED, within_s=20)

    @property
    def connector(self) -> Connector:
        found = self.system.registry.get(self.id)
        assert found is not None
        return found

    def append(
        self, count: int, *, streams: int = 20, per_append: int = 10, pause: threading.Event | None = None
    ) -> None:
        """Append so many events, spread over streams; goes on when the database is away for a moment."""
        left = count
        while left > 0:
            size = min(per_append, left)
            events = [self._event() for _ in range(size)]
            stream = f"{self.prefix}-{self.appended // per_append % streams}"
            eventually(lambda stream=stream, events=events: self._try_append(stream, events), within_s=30)  # type: ignore[misc]
            left -= size

    def append_keyed(self, count: int) -> None:
        """Append so many events to one stream; with `OWN_KEYS` their keys are `Loan-1`, `Loan-2` and so on."""
        numbers = range(self.appended + 1, self.appended + count + 1)
        events = [
            NewEvent(type="LoanRequested", data=b"{}", metadata=json.dumps({"loan": f"Loan-{number}"}).encode())
            for number in numbers
        ]
        self.system.client.append_to_stream(f"{self.prefix}-0", current_version=StreamState.ANY, events=events)
        self.appended += count

    def _event(self) -> NewEvent:
        self.appended += 1
        return NewEvent(
            type="LoanRequested",
            data=json.dumps({"number": self.appended, "applicant": "x" * 100}).encode(),
            metadata=b'{"tenant": "north"}',
        )

    def _try_append(self, stream: str, events: Sequence[NewEvent]) -> bool:
        try:
            self.system.client.append_to_stream(stream, current_version=StreamState.ANY, events=events)
        except KurrentDBClientError:
            return False
        return True

    def append_in_background(self, count: int, **options: int) -> threading.Thread:
        thread = threading.Thread(target=self.append, args=(count,), kwargs=options, daemon=True)
        thread.start()
        return thread

    @contextlib.contextmanager
    def load(self, *, records: int = 20, pause_s: float = 0.01) -> Iterator[None]:
        """Inside, so many records keep arriving after each pause, and some are delivered when it begins."""
        stop = threading.Event()

        def append() -> None:
            while not stop.wait(pause_s):
                self.append(records, streams=100)  # so many that every lane has some

        appending = threading.Thread(target=append, daemon=True)
        appending.start()
        try:
            eventually(lambda: self.position > 0)
            yield
        finally:
            stop.set()
            appending.join()

    def log(self) -> list[RecordedEvent]:
        """The connector's records as the database has them, in the order of the log; none while it is away."""
        try:
            return list(
                self.system.client.read_all(
                    filter_include=[f"{self.prefix}-"], filter_by_stream_name=True, filter_by_prefix=True
                )
            )
        except KurrentDBClientError:
            return []

    @property
    def position(self) -> int:
        """Position of the last checkpoint; -1 without one, or while the database is away."""
        try:
            found = self.system.registry.position(self.id)
        except SinkworkerError:
            return -1
        return -1 if found is None else found

    def delivered(self, within_s: float = 40.0, since: int = 0) -> Verdict:
        """Wait until the checkpoint has reached the last record, then read the topic and judge.

        `since`: by the records behind so many first ones alone, where those are in no topic any more.
        """
        log = eventually(self.log, within_s=within_s)
        eventually(lambda: self.position >= log[-1].commit_position, within_s=within_s)
        before = {str(event.id) for event in log[:since]}
        found = [message for message in consume(self.system.servers, self.topic) if message.record_id not in before]
        return judge(log[since:], found)
