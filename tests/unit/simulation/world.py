"""One seeded run of the whole protocol: real roles over doubles of Kafka, the database and time; the rest is chance.

Real are the registry, the runner and its tenures, the checkpoint store, the watch, the lanes, the deliveries and the
in-memory ledger.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from sinkworker.checkpoint.store import CheckpointStore
from sinkworker.checkpoint.watch import Watch
from sinkworker.connectors import streams
from sinkworker.connectors.deployment import deployment_name
from sinkworker.connectors.lifecycle import Connector, EventType, State
from sinkworker.connectors.registry import Registry
from sinkworker.database import StoredEvent
from sinkworker.delivery import deliver, exact, idempotent
from sinkworker.delivery.deliver import Bounds, Delivery, Work
from sinkworker.delivery.exact import ExactWork
from sinkworker.delivery.idempotent import IdempotentWork
from sinkworker.delivery.window import Window
from sinkworker.errors import Full, SinkworkerError, Stale, Unavailable
from sinkworker.exactly_once import guard as guards
from sinkworker.exactly_once.guard import Guard
from sinkworker.exactly_once.marks import Lineage
from sinkworker.ledger import memory
from sinkworker.ledger.contract import Activation
from sinkworker.ledger.memory import MemoryLedger
from sinkworker.logs import Role
from sinkworker.metrics.tally import Tally
from sinkworker.model import Cursor, Epoch, Generation, Position, SettingsId
from sinkworker.scheduling import endings
from sinkworker.scheduling import runner as running
from sinkworker.scheduling import tenure as tenures
from sinkworker.scheduling.lanes import Lanes, Limits
from sinkworker.scheduling.means import Means
from sinkworker.scheduling.runner import Runner
from sinkworker.scheduling.tenure import ActiveTenure
from tests.unit.simulation.actors import Actor
from tests.unit.simulation.database import Database, Store
from tests.unit.simulation.kafka import DEAD, Broker, Outlet
from tests.unit.simulation.transactions import RETENTION_S, Committed, ExactOutlet, Kafka, Lane

ID = "loans-sink"
PREFIX = "Loan-"
STREAMS = 8
PARTITIONS = 6
LANES = 3
SETTINGS = {
    "instanceTypeName": "kafka-sink",
    "topic": "topic-0",
    "subscription:initialPosition": "earliest",
    "subscription:filter:scope": "stream",
    "subscription:filter:filterType": "prefix",
    "subscription:filter:expression": PREFIX,
    "partitionKeyExtraction:enabled": "true",
    "partitionKeyExtraction:source": "stream",
    "autocommit:interval": "1",
    "autocommit:recordsThreshold": "1",
}
EXACTLY_ONCE = {"delivery:guarantee": "exactlyOnce"}
LEASE_MS = 3_000
LIMITS = Limits(batch_records=3, batch_bytes=1000, eager_depth=1, lane_depth=4, undelivered_bytes=400, record_bytes=0)
BOUNDS = Bounds(activation_s=20, delivery_timeout_s=15, drain_timeout_s=2)
DRAIN_S, HASTE_S = 100.0, 0.5


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True)
class Rules:
    """The parts of the protocol that can be replaced by broken ones, to see that this is noticed."""

    ledger: type[MemoryLedger] = MemoryLedger
    lanes: type[Lanes] = Lanes
    window: type[Window] = Window
    outlet: type[Outlet] = Outlet
    delivery: type[Delivery] = Delivery
    tenure: type[ActiveTenure] = ActiveTenure
    registry: type[Registry] = Registry
    store: type[CheckpointStore] = CheckpointStore
    watch: type[Watch] = Watch
    checks_expectation: bool = True
    lane: type[Lane] = Lane
    exact_outlet: type[ExactOutlet] = ExactOutlet
    work: type[IdempotentWork] = IdempotentWork
    exact_work: type[ExactWork] = ExactWork
    guard: type[Guard] = Guard


@dataclass(frozen=True)
class Faults:
    """What may happen. Probabilities for each step of the driver."""

    kill: float = 0.0
    pause: float = 0.0
    rollback: float = 0.0
    empty: float = 0.0
    evict: float = 0.0
    hand_over: float = 0.0
    second: float = 0.0
    lost_call: float = 0.0
    lost_connection: float = 0.0
    lost_task: float = 0.0
    full: float = 0.0
    """For each dispatch of batches."""
    refusal: bool = False
    undeliverable: bool = False
    """Some records can never be delivered, and there is a dead-letter topic for each topic."""
    poison: float = 0.0
    """Some records stop the connector; how likely at each step a person mends the one that did, and starts again."""
    restart: float = 0.0
    """A person stops the connector, and starts it again where it left off."""
    reset: float = 0.0
    """A person stops the connector, and starts it with another topic, mostly somewhere else."""
    expiry: float = 0.0
    """Kafka forgets the marks that are old by now; of a connector that is stopped mostly all, as after a week."""
    hasty: bool = False
    """A stop does not wait until everything is delivered."""
    empty_when_stopped: bool = False
    exactly_once: bool = False
    """The connector asks for it, and outcomes of commits may stay unknown."""


NO_FAULTS = Faults()
CLEAN = Faults(hand_over=0.02, restart=0.02, lost_connection=0.01, empty_when_stopped=True)
EVERYTHING = Faults(
    kill=0.01,
    pause=0.01,
    rollback=0.006,
    empty=0.002,
    evict=0.004,
    hand_over=0.004,
    second=0.004,
    lost_call=0.004,
    lost_connection=0.01,
    lost_task=0.05,
    full=0.1,
    refusal=True,
    restart=0.01,
    reset=0.01,
)


class Ledger:
    """A client of the shared ledger: the actor pauses around each call, and a request or a reply may get lost."""

    def __init__(self, world: World, actor: Actor) -> None:
        self._world = world
        self._actor = actor

    def __getattr__(self, name: str) -> Callable[..., Any]:
        transition = getattr(self._world.ledger, name)

        def call(*args: Any) -> Any:
            self._world.cross(self._actor)
            if name == "dispatch" and args[3]:
                self._world.maybe_be_full()
            answer = transition(*args)
            self._world.maybe_lose_call()
            return answer

        return call


class Bell:
    """An event of the code under test: waiting for it lets others go on."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._rung = False

    def set(self) -> None:
        self._rung = True

    def clear(self) -> None:
        self._rung = False

    def is_set(self) -> bool:
        return self._rung

    def wait(self, timeout: float | None = None) -> bool:
        self._actor.pause()
        return self.is_set()

    def close(self) -> None:
        pass


class InTurn:
    """In place of a pool of threads: an actor is one."""

    def __init__(self, _at_once: int) -> None:
        self.map = map

    def __enter__(self) -> InTurn:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class ToldToStop(Bell):
    """Set where the process is to end, or where a look at the registry shows that the connector is to stop."""

    def __init__(self, actor: Actor, look: Callable[[], bool]) -> None:
        super().__init__(actor)
        self._look = look

    def is_set(self) -> bool:
        self._rung = self._rung or self._look()
        return self._rung


class NoLease:
    """Every scheduler believes that it is its turn: safety rests on the epoch (P7)."""

    held = True

    def acquire(self) -> bool:
        return True

    def keep(self) -> None:
        pass

    def release(self) -> None:
        pass


@dataclass(eq=False)
class Scheduler:
    """One scheduler process."""

    world: World
    actor: Actor = field(init=False)
    told_to_stop: bool = False

    def __post_init__(self) -> None:
        self.actor = Actor("scheduler", self.run)

    def run(self, actor: Actor) -> None:
        world = self.world
        means = world.means(world.database(actor), Ledger(world, actor))
        while not self.told_to_stop:
            actor.pause()
            with contextlib.suppress(SinkworkerError):
                connector = means.registry.get(ID)
                assert connector is not None
                if connector.should_run or connector.state is State.DEACTIVATING:
                    self.serve(actor, means, connector)

    def serve(self, actor: Actor, means: Means, connector: Connector) -> None:
        runner = Runner(means, NoLease(), lambda: True, ID, connector.activation, Role())
        runner.bell = Bell(actor)  # type: ignore[assignment]
        runner._told_to_stop = ToldToStop(actor, lambda: self.is_over(connector))  # type: ignore[assignment]
        runner.run()

    def is_over(self, served: Connector) -> bool:
        """What the scheduler's own look at the registry finds, some time after it has become true."""
        if self.told_to_stop:
            return True
        if self.world.chance() > 0.2:
            return False
        now = self.world.connector
        return not now.should_run or now.activation != served.activation


@dataclass(eq=False)
class Worker:
    """One worker process."""

    world: World
    actor: Actor = field(init=False)
    outlet: Outlet | None = None
    settings: SettingsId | None = None

    def __post_init__(self) -> None:
        self.actor = Actor("worker", self.run)
        self.database: Any = self.world.database(self.actor)
        self.registry = Registry(self.database)  # type: ignore[arg-type]

    def run(self, actor: Actor) -> None:
        while True:
            actor.pause()
            if not self.world.queue:
                continue
            epoch, activation = self.world.queue.pop(0)
            ledger: Any = Ledger(self.world, actor)
            delivery = self.world.rules.delivery(ledger, self.open, self.world.bounds)
            with contextlib.suppress(SinkworkerError):
                delivery.run(epoch, [activation])
            self.world.enqueue(ID, epoch, delivery.done.again)

    def open(self, settings: SettingsId) -> Any:
        """As `sinkworker.delivery.outlet.Outlets` does."""
        if self.outlet is None or self.settings != settings:
            connector = self.registry.get(ID)
            if connector is None or connector.active_settings_id != settings:
                raise Stale("The connector runs with other settings.")
            if self.outlet is not None:
                self.outlet.discard()
            in_flight = self.world.rng.choice([1, 3])
            topic = connector.active_settings["topic"]
            self.outlet = self._outlet(topic, in_flight)
            self.settings = settings
        return self.outlet

    def _outlet(self, topic: str, in_flight: int) -> Outlet:
        world = self.world
        rules = world.rules
        work: type[Work] = rules.exact_work if world.exactly_once else rules.work
        given = world.broker, topic, self.poll, world.rng, in_flight, work
        if not world.exactly_once:
            return rules.outlet(*given)
        return rules.exact_outlet(*given, committed=world.committed, lane=rules.lane, lineage=self._lineage)

    def _lineage(self, generation: Generation) -> Lineage:
        connector = self.registry.get(ID)
        if connector is None or connector.generation is None or connector.generation.id != generation:
            raise Stale("The generation is over.")
        return Lineage(deployment_name(self.database), ID, generation)

    def poll(self, timeout_s: float, *, at_once: bool = False) -> None:
        self.world.elapse(timeout_s)
        self.actor.pause()

    def die(self) -> None:
        self.actor.kill()
        if self.outlet is not None:
            self.outlet.die()


@dataclass(eq=False)
class Coordinator:
    """One coordinator process."""

    world: World
    actor: Actor = field(init=False)

    def __post_init__(self) -> None:
        self.actor = Actor("coordinator", self.run)

    def run(self, actor: Actor) -> None:
        world = self.world
        database: Any = world.database(actor)
        registry, ledger = Registry(database), Ledger(world, actor)
        watch: Watch | None = None
        while True:
            actor.pause()
            with contextlib.suppress(SinkworkerError):
                connector = registry.get(ID)
                assert connector is not None
                generation = connector.generation
                if generation is None or connector.state is State.STOPPED:
                    watch = None
                elif watch is None or not watch.serves(connector):
                    store = world.rules.store(database, ID, generation.id, generation.start)
                    watch = world.rules.watch(connector, ledger, store, world.enqueue, Role(), Tally())
                else:
                    watch.connector = connector
            for _ in range(world.rng.randint(1, 4)):
                if watch is not None:
                    watch.reap()
                    watch.commit(world.now_s)
                actor.pause()


class World:
    """The processes, the stores they share, the network between them, and the driver that lets things happen."""

    def __init__(
        self, seed: int, faults: Faults, rules: Rules | None = None, *, lease_ms: int = LEASE_MS, lanes: int = LANES
    ) -> None:
        """With a short lease a worker that chance passes over for long loses its lanes, as one that sleeps does."""
        self.rng = random.Random(seed)
        self.chance = self.rng.random
        self.faults = faults
        self.rules = rules or Rules()
        self.now_s = 1000.0
        self.ledger = self.rules.ledger(lambda: int(self.now_s * 1000), lease_ms)
        self.bounds = replace(BOUNDS, lease_s=lease_ms / 1000)
        self.store = Store()
        poisoned = faults.poison > 0
        self.broker = Broker(self.rng, is_picky=faults.undeliverable or poisoned, has_dead=not poisoned)
        self.exactly_once = faults.exactly_once
        self.broker.loses_answers = faults.exactly_once
        self.committed = Committed(self.monotonic)
        self.queue: list[tuple[Epoch, Activation]] = []
        self.violations: list[str] = []
        self.hasty = faults.hasty
        disturbed = faults.hasty or faults.hand_over or faults.second or faults.restart or faults.reset
        self.halts_undisturbed = not disturbed
        """No other stop ends the delivery of what is before the record that stops the connector."""
        self.marks_expire = faults.expiry > 0
        self.given_up = False
        """It stopped because marks had expired that may have been ahead: nothing more will be delivered."""
        self._person: Any = Registry(Database(self.store, lambda: None, on_append=lambda _: None))  # type: ignore[arg-type]
        self._topics = itertools.count(1)
        given = SETTINGS | {"lanes:count": str(lanes)} | (EXACTLY_ONCE if self.exactly_once else {})
        self._person.create(ID, given)
        self._person.start(ID)
        self.schedulers = [Scheduler(self)]
        self.workers = [Worker(self) for _ in range(self.rng.randint(1, 3))]
        self.coordinators = [Coordinator(self)]
        self.paused: dict[Actor, int] = {}
        self.snapshots: list[memory.State] = []

    # what the actors do to the world

    def database(self, actor: Actor) -> Database:
        found = Database(self.store, lambda: self.cross(actor), on_append=self._check_append)
        found.checks_expectation = self.rules.checks_expectation
        return found

    def means(self, database: Database, ledger: Any) -> Means:
        """What a scheduler process works with."""
        given: Any = database
        return Means(
            registry=self.rules.registry(given),
            database=given,
            ledger=ledger,
            enqueue=self.enqueue,
            enqueue_home=self.enqueue,
            forget_homes=lambda _: None,
            limits=LIMITS,
            subscribe=lambda wanted, after, bell: database.subscribe(
                wanted, after, self.chance, self.maybe_lose_connection, bell
            ),
            partitions=lambda _settings, _id: PARTITIONS,
            default_servers="broker:9092",
            drain_timeout_s=HASTE_S if self.hasty else DRAIN_S,
            instance="scheduler",
            tally=Tally(),
            kafka=lambda _: Kafka(self.broker, self.committed, self.rules.lane, self.cross_kafka),  # type: ignore[arg-type, return-value]
        )

    def cross_kafka(self) -> None:
        Actor.current().pause()

    def enqueue(self, connector_id: str, epoch: Epoch, activations: Sequence[Activation]) -> None:
        for activation in activations:
            if self.chance() < self.faults.lost_task:
                continue
            copies = 2 if self.chance() < self.faults.lost_task else 1
            for _ in range(copies):
                place = self.rng.randint(max(0, len(self.queue) - 2), len(self.queue))
                self.queue.insert(place, (epoch, activation))

    def cross(self, actor: Actor) -> None:
        """The way to a server: time passes, and it may be the end of a call."""
        actor.pause()
        self.maybe_lose_call()

    def maybe_lose_call(self) -> None:
        if self.chance() < self.faults.lost_call:
            raise Unavailable("lost")

    def maybe_be_full(self) -> None:
        if self.chance() < self.faults.full:
            raise Full("Redis is full")

    def maybe_lose_connection(self) -> None:
        if self.chance() < self.faults.lost_connection:
            raise Unavailable("the connection was lost")

    def elapse(self, seconds: float) -> None:
        self.now_s += seconds

    @property
    def connector(self) -> Connector:
        found: Connector = self._person.get(ID)
        return found

    # the driver

    def run(self, steps: int = 400) -> None:
        """Let things happen for so many steps, then without faults until all is delivered, and judge."""
        with self.at_work():
            for _ in range(steps):
                self._append()
                self._misfortune()
                self.step()
            self._recover()
            self._judge()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """While inside, the code under test has this world's clock, and the parts that the rules name."""
        parts: list[tuple[Any, str, Any]] = [
            (deliver, "time", self),
            (deliver, "Window", self.rules.window),
            (idempotent, "time", self),
            (tenures, "time", self),
            (tenures, "random", self.rng),
            (tenures, "Guard", self.rules.guard),
            (endings, "time", self),
            (endings, "pause", self.sleep),
            (endings, "Guard", self.rules.guard),
            (endings, "CheckpointStore", self.rules.store),
            (exact, "time", self),
            (exact, "pause", self.sleep),
            (guards, "time", self),
            (guards, "ThreadPoolExecutor", InTurn),
            (tenures, "Lanes", self.rules.lanes),
            (tenures, "CheckpointStore", self.rules.store),
            (running, "time", self),
            (running, "ActiveTenure", self.rules.tenure),
        ]
        with contextlib.ExitStack() as stack:
            for module, name, part in parts:
                stack.enter_context(mock.patch.object(module, name, part))
            try:
                yield
            finally:
                for actor in self._actors():
                    actor.kill()

    def monotonic(self) -> float:
        """The clock of the code under test, in place of the module `time`."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        Actor.current().pause()

    def _append(self) -> None:
        if self.chance() < 0.3:
            number = self.rng.randint(0, STREAMS)
            stream = f"{PREFIX}{number}" if number else "other"
            self.store.append(stream, "Requested", b"{}", b"", f"event-{len(self.store.log)}")

    def step(self) -> None:
        self.now_s += self.chance() * 0.05
        for actor in [actor for actor, left in self.paused.items() if left <= 0]:
            del self.paused[actor]
        for actor in self.paused:
            self.paused[actor] -= 1
        awake = [actor for actor in self._actors() if actor not in self.paused and not actor.done]
        if self.chance() < 0.4:
            self.broker.move(refusing=self.faults.refusal)
        if awake:
            self.rng.choice(awake).step()
        self.schedulers = [each for each in self.schedulers if not each.actor.done] or [Scheduler(self)]
        self._drain_for_a_change()
        if self.violations:
            raise Violation(self.violations[0])

    def _actors(self) -> list[Actor]:
        return [
            *(each.actor for each in self.schedulers),
            *(each.actor for each in self.workers),
            *(each.actor for each in self.coordinators),
        ]

    def _misfortune(self) -> None:
        chance, faults = self.chance, self.faults
        if chance() < 0.05:
            self.snapshots = [*self.snapshots[-4:], self.ledger.snapshot()]
        if chance() < faults.kill:
            self._kill()
        if chance() < faults.pause:
            self.paused[self.rng.choice(self._actors())] = self.rng.randint(20, 80)
            self.now_s += self.rng.choice([0, LEASE_MS / 1000])
        if self.snapshots and chance() < faults.rollback:
            self.ledger.restore(self.rng.choice(self.snapshots))
        if chance() < faults.empty:
            self.ledger.restore(memory.State())
        if chance() < faults.evict:
            evicted: Any = self.rng.choice([self.ledger.state.batches, self.ledger.state.lanes])
            evicted.clear()
        if chance() < faults.hand_over:
            self.schedulers[-1].told_to_stop = True
        if chance() < faults.second:
            self.rng.choice([self._second_scheduler, self._second_coordinator])()
        if chance() < faults.poison and self.connector.error is not None:
            self._mend()
        if chance() < faults.restart:
            self._stop_or_start(lambda: self._person.start(ID))
        if chance() < faults.expiry:
            self._expire()
        if chance() < faults.reset:
            self._stop_or_start(self._start_elsewhere)

    def _expire(self) -> None:
        if self.connector.state is State.STOPPED and self.chance() < 0.5:
            self.now_s += RETENTION_S * 2
        self.committed.expire()

    def _stop_or_start(self, start: Callable[[], object]) -> None:
        match self.connector.state:
            case State.STOPPED:
                if self.faults.empty_when_stopped and self.chance() < 0.5:
                    self.ledger.restore(memory.State())
                start()
            case State.RUNNING:
                self._person.stop(ID)

    def _mend(self) -> None:
        """What the connector stopped for names its record (P5)."""
        if self.connector.state is State.STOPPED and self.connector.error is not None:
            self.broker.mended.add(_position_in(self.connector.error.message))
            self._person.start(ID)

    def _start_elsewhere(self) -> None:
        if self.exactly_once and self.chance() < 0.5:
            # The same topic in a new generation, without a gap and without a repetition.
            self._person.reconfigure(ID, {"lanes:count": str(self.rng.choice([2, 3]))})
            self._person.start(ID)
            return
        self._person.reconfigure(ID, {"topic": f"topic-{next(self._topics)}"})
        position = self.rng.randint(1, 10 * len(self.store.log))
        choices: list[Callable[[], object]] = [
            lambda: self._person.start(ID),
            lambda: self._person.reset(ID),
            lambda: self._person.start(ID, Position(position)),
        ]
        self.rng.choice(choices)()

    def _drain_for_a_change(self) -> None:
        """A start with another number of lanes was refused, since some may be ahead (X4): do as the error says."""
        connector = self.connector
        refused = connector.error is not None and connector.error.code == "undrained"
        if refused and connector.state is State.STOPPED and connector.should_run:
            assert connector.generation is not None
            last = {"topic": self._generations()[-1][1], "lanes:count": str(connector.generation.layout.lanes)}
            self._person.reconfigure(ID, last)
            self._person.start(ID)

    def _second_scheduler(self) -> None:
        if len(self.schedulers) < 2:
            self.schedulers.append(Scheduler(self))

    def _second_coordinator(self) -> None:
        if len(self.coordinators) < 2:
            self.coordinators.append(Coordinator(self))

    def _kill(self) -> None:
        victim: Any = self.rng.choice([*self.schedulers, *self.workers, *self.coordinators])
        if isinstance(victim, Worker):
            victim.die()
            self.workers[self.workers.index(victim)] = Worker(self)
        elif isinstance(victim, Scheduler):
            victim.actor.kill()
            self.schedulers[self.schedulers.index(victim)] = Scheduler(self)
        else:
            victim.actor.kill()
            self.coordinators[self.coordinators.index(victim)] = Coordinator(self)

    def _recover(self) -> None:
        self.faults = NO_FAULTS
        self.paused.clear()
        for scheduler in self.schedulers[1:]:
            scheduler.actor.kill()
        del self.schedulers[1:]
        for _ in range(10_000):
            if self.given_up:
                return
            self._mend()
            if self.connector.state is State.STOPPED and not self.connector.should_run:
                self._person.start(ID)
            self.step()
            self.now_s += 0.02
            if self._is_done():
                return
        raise Violation(f"stuck: {self.connector.state}, the checkpoint stands at {self.checkpoint().commit}")

    def _is_done(self) -> bool:
        generation = self.connector.generation
        if generation is None or self.connector.state is not State.RUNNING or self.queue:
            return False
        wanted = self._wanted(generation.start)
        return not wanted or self.checkpoint() >= wanted[-1].cursor

    def checkpoint(self) -> Cursor:
        generation = self.connector.generation
        mine = [] if generation is None else self._checkpoints(generation.id)
        return max(mine, default=Cursor.BEGINNING)

    # the oracle

    def _wanted(self, start: Cursor, end: Cursor | None = None) -> list[StoredEvent]:
        return [
            event
            for event in self.store.log
            if event.stream.startswith(PREFIX) and event.cursor > start and (end is None or event.cursor <= end)
        ]

    def _checkpoints(self, generation: str) -> list[Cursor]:
        found = []
        for event in self.store.streams.get(streams.checkpoints(ID), []):
            ours = json.loads(event.metadata)["sinkworker"]
            if ours["generation"] == generation:
                found.append(Cursor.decode(ours["cursor"]))
        return found

    def _generations(self) -> list[tuple[str, str, Cursor]]:
        """Id, topic and start of every generation.

        Each has a topic of its own, since only a new topic opens one; but for exactly once, where another number of
        lanes opens one that goes on in the same topic.
        """
        topic, found = "", []
        settings = dict(SETTINGS)
        for event in self.store.streams[streams.of_connector(ID)]:
            data = json.loads(event.data)
            match event.type:
                case EventType.RECONFIGURED:
                    settings = data["settings"]
                case EventType.ACTIVATING:
                    topic = settings["topic"]
                case EventType.GENERATION_OPENED:
                    found.append((event.id, topic, Cursor.decode(data["start"])))
        return found

    def _delivered(self, topic: str) -> dict[int, list[int]]:
        """By partition, the positions that landed in the topic, in order."""
        found: dict[int, list[int]] = {}
        for landed in self.broker.landed:
            if landed.topic == topic:
                found.setdefault(landed.partition, []).append(landed.position)
        return found

    def _everywhere(self, topic: str) -> set[int]:
        """The positions that landed in the topic or in its dead-letter topic."""
        return {landed.position for landed in self.broker.landed if landed.topic in (topic, topic + DEAD)}

    def _check_append(self, event: StoredEvent) -> None:
        """P1 at each checkpoint; and no connector may stop for another reason than a record (P5)."""
        if event.type == EventType.FAILED:
            self._check_failure(event)
        if event.type != streams.CHECKPOINT_TYPE:
            return
        ours = json.loads(event.metadata)["sinkworker"]
        cursor = Cursor.decode(ours["cursor"])
        (topic, start), *_ = [(topic, start) for id, topic, start in self._generations() if id == ours["generation"]]
        delivered = self._everywhere(topic)
        passed = [event.commit for event in self._wanted(start, cursor) if event.commit not in delivered]
        if passed:
            self.violations.append(f"P1: checkpoint {cursor.commit} passes {passed[:3]}, which are not in Kafka")
        mine = self._checkpoints(ours["generation"])
        if any(later < earlier for earlier, later in itertools.pairwise(mine)):
            self.violations.append("R8: a checkpoint moved back")

    def _check_failure(self, event: StoredEvent) -> None:
        code = json.loads(event.data)["code"]
        if code == "progress-lost" and self.marks_expire:
            self.given_up = True
        elif code != "undrained" and (not self.broker.is_picky or self.broker.has_dead):
            self.violations.append(f"P5: it stopped: {event.data.decode()}")
        elif code != "undrained" and self.halts_undisturbed:
            stopped_at = _position_in(json.loads(event.data)["message"])
            _, topic, start = self._generations()[-1]
            there = self._everywhere(topic)
            before = [each.commit for each in self._wanted(start) if each.commit < stopped_at]
            if left := [position for position in before if position not in there]:
                self.violations.append(f"P5: it stopped at {stopped_at}, with {left[:3]} undelivered before it")

    def _judge(self) -> None:
        begun: dict[str, Cursor] = {}
        for id, topic, start in self._generations():
            begun.setdefault(topic, start)
            wanted = {event.commit for event in self._wanted(begun[topic])}
            delivered = self._delivered(topic)
            everything = self._everywhere(topic)
            assert self.connector.generation is not None
            if id == self.connector.generation.id and wanted - everything and not self.given_up:
                raise Violation(f"P1: {sorted(wanted - everything)[:3]} are missing in the end")
            if everything - wanted:
                raise Violation(f"R3: {sorted(everything - wanted)[:3]} are before the start of their generation")
            if self.exactly_once and self._repeated(topic):
                raise Violation(f"P4: {self._repeated(topic)[:3]} of {topic} are there twice")
            for partition, positions in delivered.items():
                firsts = list(dict.fromkeys(positions))
                if firsts != sorted(firsts):
                    raise Violation(f"P2: partition {partition} of {topic} has {firsts}")

    def _repeated(self, topic: str) -> list[int]:
        """Positions that landed more than once, be it as a dead letter."""
        landed = [each.position for each in self.broker.landed if each.topic in (topic, topic + DEAD)]
        return [position for position, times in collections.Counter(landed).items() if times > 1]

    @property
    def duplicates(self) -> int:
        return sum(
            len(positions) - len(set(positions))
            for _, topic, _ in self._generations()
            for positions in self._delivered(topic).values()
        )


def _position_in(message: str) -> int:
    """Of the record that a connector stopped for. Raises Violation where the message names none."""
    named = re.search(r"position (\d+)", message)
    if named is None:
        raise Violation(f"P5: it stopped: {message}")
    return int(named[1])
