"""One seeded run of the whole protocol: real lanes, real deliveries, a real ledger; everything else is chance."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from sinkworker.delivery import deliver
from sinkworker.delivery.deliver import Bounds, Delivery
from sinkworker.delivery.window import Window
from sinkworker.errors import SinkworkerError, Stale, Unavailable
from sinkworker.ledger.contract import Activation, Tenure
from sinkworker.ledger.memory import MemoryLedger, State
from sinkworker.model import Cursor, Epoch, Generation, LaneNumber, Layout, SettingsId
from sinkworker.scheduling.lanes import Lanes, Limits
from tests.unit.simulation.actors import Actor
from tests.unit.simulation.database import Database
from tests.unit.simulation.kafka import Broker, Outlet

LANES = 3
LEASE_MS = 3_000
LIMITS = Limits(batch_records=3, batch_bytes=1000, eager_depth=1, lane_depth=4, undelivered_bytes=400)
BOUNDS = Bounds(activation_s=20, delivery_timeout_s=15, drain_timeout_s=2, lease_s=LEASE_MS / 1000)
HEARTBEAT_STEPS = 3


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
    gapless: bool = True
    epochs_from_the_ledger: bool = False
    honours_old_generations: bool = False
    checks_expectation: bool = True


@dataclass(frozen=True)
class Faults:
    """What may happen. Probabilities for each step of the driver."""

    kill: float = 0.0
    pause: float = 0.0
    rollback: float = 0.0
    empty: float = 0.0
    evict: float = 0.0
    reset: float = 0.0
    hand_over: float = 0.0
    second: float = 0.0
    lost_call: float = 0.0
    lost_task: float = 0.0
    refusal: bool = False


NO_FAULTS = Faults()
CLEAN = Faults(hand_over=0.02)
EVERYTHING = Faults(
    kill=0.01,
    pause=0.01,
    rollback=0.006,
    empty=0.002,
    evict=0.004,
    reset=0.003,
    hand_over=0.004,
    second=0.004,
    lost_call=0.01,
    lost_task=0.05,
    refusal=True,
)


class Ledger:
    """A client of the shared ledger: the actor pauses around each call, and a request or a reply may get lost."""

    def __init__(self, world: World, actor: Actor) -> None:
        self._world = world
        self._actor = actor

    def __getattr__(self, name: str) -> Callable[..., Any]:
        transition = getattr(self._world.ledger, name)

        def call(*args: Any) -> Any:
            self._actor.pause()
            self._world.maybe_lose_call()
            answer = transition(*args)
            self._world.maybe_lose_call()
            return answer

        return call


@dataclass(eq=False)
class Scheduler:
    """One scheduler process."""

    world: World
    actor: Actor = field(init=False)
    told_to_stop: bool = False

    def __post_init__(self) -> None:
        self.actor = Actor("scheduler", self.run)

    def run(self, actor: Actor) -> None:
        while not self.told_to_stop:
            actor.pause()
            with contextlib.suppress(SinkworkerError):  # R10: one recovery path
                self.tenure(actor)

    def tenure(self, actor: Actor) -> None:
        world, ledger = self.world, Ledger(self.world, actor)
        epoch, generation = world.take_over()
        start, _ = world.database.checkpoint()
        of, drained = world.database.drained
        layout = Layout(2 * LANES, LANES, "k")
        tenure = Tenure(epoch, Generation(str(generation)), layout, SettingsId(str(generation)))
        taken = ledger.takeover(tenure, start, drained if of == generation else {})
        counter = taken.counter
        lanes = world.rules.lanes(start, taken.progress, LIMITS)
        idle = 0
        while not self.told_to_stop:
            actor.pause()
            events = [] if lanes.full else world.database.read(lanes.read, world.rng.randint(1, 5))
            for event in events:
                if event.lane is None:
                    lanes.passed(event.record.cursor)
                else:
                    lanes.offer(event.record, event.lane)
            batches = lanes.take()
            idle = 0 if batches or events else idle + 1
            if batches or idle % HEARTBEAT_STEPS == 0:
                survey = ledger.dispatch(epoch, counter, lanes.frontier, batches)
                counter = survey.counter
                lanes.observe(survey)
                for activation in survey.activations:
                    world.enqueue(epoch, activation)
        self.end(actor, ledger, epoch, generation)

    def end(self, actor: Actor, ledger: Ledger, epoch: Epoch, generation: int) -> None:
        """R9: claims released, checkpoint written, progress stored."""
        for _ in range(30):
            if not ledger.quiesce(epoch):
                break
            actor.pause()
        closed = ledger.close(epoch)
        world = self.world
        seen, expected = world.database.checkpoint()
        if closed.watermark > seen:
            world.write_checkpoint(generation, closed.watermark, expected)
        if world.database.epoch == epoch:
            world.database.drained = (generation, closed.progress)


@dataclass(eq=False)
class Worker:
    """One worker process."""

    world: World
    actor: Actor = field(init=False)
    outlet: Outlet | None = None

    def __post_init__(self) -> None:
        self.actor = Actor("worker", self.run)

    def run(self, actor: Actor) -> None:
        while True:
            actor.pause()
            if not self.world.queue:
                continue
            epoch, activation = self.world.queue.pop(0)
            ledger: Any = Ledger(self.world, actor)
            delivery = self.world.rules.delivery(ledger, self.open, BOUNDS)
            with contextlib.suppress(SinkworkerError):
                delivery.run(epoch, [activation])
            for again in delivery.done.again:
                self.world.enqueue(epoch, again)

    def open(self, settings: SettingsId) -> Any:
        revision = int(settings)
        if self.outlet is None or self.outlet.generation != revision:
            in_flight = self.world.rng.choice([1, 3])
            self.outlet = self.world.rules.outlet(self.world.broker, revision, self.poll, self.world.rng, in_flight)
        return self.outlet

    def poll(self, timeout_s: float) -> None:
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
        ledger = Ledger(self.world, actor)
        while True:
            with contextlib.suppress(Stale, Unavailable):
                generation = self.world.database.generation
                seen, expected = self.world.database.checkpoint()
                watermark = ledger.watermark()
                actor.pause()  # slow: anything may happen before it writes
                if watermark is not None and int(watermark.generation) == generation and watermark.cursor > seen:
                    self.world.write_checkpoint(generation, watermark.cursor, expected)
                reaped = ledger.reap()
                for activation in reaped.activations:
                    self.world.enqueue(reaped.epoch, activation)
            actor.pause()


class World:
    """The processes, the store they share, the network between them, and the driver that lets things happen."""

    def __init__(self, seed: int, faults: Faults, rules: Rules | None = None) -> None:
        self.rng = random.Random(seed)
        self.faults = faults
        self.rules = rules or Rules()
        self.now_s = 1000.0
        self.ledger = self.rules.ledger(lambda: int(self.now_s * 1000), LEASE_MS)
        self.database = Database(
            honours_old_generations=self.rules.honours_old_generations,
            checks_expectation=self.rules.checks_expectation,
        )
        self.broker = Broker(self.rng, gapless=self.rules.gapless)
        self.queue: list[tuple[Epoch, Activation]] = []
        self.schedulers = [Scheduler(self)]
        self.workers = [Worker(self) for _ in range(self.rng.randint(1, 3))]
        self.coordinators = [Coordinator(self)]
        self.paused: dict[Actor, int] = {}
        self.snapshots: list[State] = []

    # what the actors do to the world

    def take_over(self) -> tuple[Epoch, int]:
        if self.rules.epochs_from_the_ledger:
            tenure = self.ledger.state.tenure
            epoch = Epoch(1 if tenure is None else tenure.epoch + 1)
            self.database.epoch = epoch
            return epoch, self.database.generation
        return self.database.take_over(), self.database.generation  # R4

    def enqueue(self, epoch: Epoch | None, activation: Activation) -> None:
        assert epoch is not None
        if self.rng.random() < self.faults.lost_task:
            return
        copies = 2 if self.rng.random() < self.faults.lost_task else 1
        for _ in range(copies):
            place = self.rng.randint(max(0, len(self.queue) - 2), len(self.queue))
            self.queue.insert(place, (epoch, activation))

    def maybe_lose_call(self) -> None:
        if self.rng.random() < self.faults.lost_call:
            raise Unavailable("lost")

    def elapse(self, seconds: float) -> None:
        self.now_s += seconds

    def write_checkpoint(self, generation: int, cursor: Cursor, expected: int) -> None:
        self.database.write_checkpoint(generation, cursor, expected)
        self._check_checkpoint(generation, cursor)

    # the driver

    def run(self, steps: int = 250) -> None:
        """Let things happen for so many steps, then without faults until all is delivered, and judge."""
        with mock.patch.object(deliver, "time", self), mock.patch.object(deliver, "Window", self.rules.window):
            try:
                for _ in range(steps):
                    self._append()
                    self._misfortune()
                    self._step()
                self._recover()
                self._judge()
            finally:
                for actor in self._actors():
                    actor.kill()

    def monotonic(self) -> float:
        """The clock of `Delivery`, in place of the module `time`."""
        return self.now_s

    def _append(self) -> None:
        if self.rng.random() < 0.3:
            lane = self.rng.choice([None, *range(LANES)])
            self.database.append(None if lane is None else LaneNumber(lane))

    def _step(self) -> None:
        self.now_s += self.rng.random() * 0.05
        for actor in [actor for actor, left in self.paused.items() if left <= 0]:
            del self.paused[actor]
        for actor in self.paused:
            self.paused[actor] -= 1
        awake = [actor for actor in self._actors() if actor not in self.paused and not actor.done]
        if self.rng.random() < 0.4:
            self.broker.move(refusing=self.faults.refusal)
        if awake:
            self.rng.choice(awake).step()
        self.schedulers = [each for each in self.schedulers if not each.actor.done] or [Scheduler(self)]

    def _actors(self) -> list[Actor]:
        return [
            *(each.actor for each in self.schedulers),
            *(each.actor for each in self.workers),
            *(each.actor for each in self.coordinators),
        ]

    def _misfortune(self) -> None:
        chance, faults = self.rng.random, self.faults
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
            self.ledger.restore(State())
        if chance() < faults.evict:
            evicted: Any = self.rng.choice([self.ledger.state.batches, self.ledger.state.lanes])
            evicted.clear()
        if chance() < faults.hand_over:
            self.schedulers[-1].told_to_stop = True
        if chance() < faults.second:
            self.rng.choice([self._second_scheduler, self._second_coordinator])()
        if chance() < faults.reset:
            for scheduler in self.schedulers:
                scheduler.actor.kill()
            self.database.generation += 1  # opened by the scheduler that starts next, before it reads anything
            self.schedulers = [Scheduler(self)]

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
        for _ in range(6000):
            self._step()
            self.now_s += 0.02
            if self._is_done():
                return
        raise Violation(f"stuck: the checkpoint stands at {self.database.checkpoint()[0]}")

    def _is_done(self) -> bool:
        wanted = [event for event in self.database.log if event.lane is not None]
        cursor, _ = self.database.checkpoint()
        return (not wanted or cursor >= wanted[-1].record.cursor) and not self.queue

    # the oracle

    def _delivered(self, generation: int) -> dict[int, list[int]]:
        """By partition, the positions that landed for this generation, in order."""
        found: dict[int, list[int]] = {}
        for landed in self.broker.topic:
            if landed.generation == generation:
                found.setdefault(landed.partition, []).append(landed.position)
        return found

    def _check_checkpoint(self, generation: int, cursor: Cursor) -> None:
        delivered = {position for positions in self._delivered(generation).values() for position in positions}
        for event in self.database.log:
            position = event.record.cursor.commit
            if event.lane is not None and event.record.cursor <= cursor and position not in delivered:
                raise Violation(f"P1: checkpoint {cursor.commit} passes {position}, which is not in Kafka")
        mine = [each.cursor for each in self.database.checkpoints if each.generation == generation]
        if any(later < earlier for earlier, later in itertools.pairwise(mine)):
            raise Violation("R8: a checkpoint moved back")

    def _judge(self) -> None:
        last = {each for positions in self._delivered(self.database.generation).values() for each in positions}
        for event in self.database.log:
            if event.lane is not None and event.record.cursor.commit not in last:
                raise Violation(f"P1: {event.record.cursor.commit} is missing in the end")
        for generation in range(1, self.database.generation + 1):
            for partition, positions in self._delivered(generation).items():
                firsts = list(dict.fromkeys(positions))
                if firsts != sorted(firsts):
                    raise Violation(f"P2: partition {partition} has {firsts}")

    @property
    def duplicates(self) -> int:
        return sum(
            len(positions) - len(set(positions))
            for generation in range(1, self.database.generation + 1)
            for positions in self._delivered(generation).values()
        )
