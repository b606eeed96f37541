"""Everything that can die dies at random moments under a steady load: P1 to P4, P6 and P7 hold, and it goes on soon.

pytest -m chaos --seed 7 --minutes 10
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from sinkworker.config import Config
from sinkworker.connectors.lifecycle import State
from sinkworker.scheduling.scheduler import LEASE_S
from tests.apache_kafka import ApacheKafka, insisted, missing, running
from tests.chaos import findings
from tests.chaos.hands import Hands
from tests.chaos.plan import LINKED, SERVERS, WORKERS, Fault, Kind, link, plan
from tests.chaos.witness import Arrival, Arrivals, Sampler, SeenCheckpoint
from tests.oracle import consume, judge
from tests.processes import eventually
from tests.proxy import Proxy
from tests.system import PARTITIONS, Flow, System

EVENTS_PER_S = 150
EVENTS_PER_APPEND = 5
STREAMS = 50
BATCH_RECORDS = 50
AUTOCOMMIT_MS = 300

STANDSTILL_S = 15.0
STRUCK_S = 0.5
"""So long after a fault may the last record still arrive."""

RECOVERED_WITHIN_S = 60.0
WITHOUT_ERROR_WITHIN_S = 15.0
ALLOWED_MEMORY = 200 * 1024**2 + 2 * Config().in_flight_bytes
"""P6: what a process has by itself, and what may be undelivered, once as it came and once as it goes."""

SETTINGS = {
    "SINKWORKER_CLAIM_LEASE_S": Config().claim_lease_s,
    "SINKWORKER_ACTIVATION_S": Config().activation_s,
    "SINKWORKER_DELIVERY_TIMEOUT_S": Config().delivery_timeout_s,
    "SINKWORKER_BATCH_RECORDS": BATCH_RECORDS,
}
"""As they come, so that what is measured is what a user meets; but for batches, of which there are to be many."""

IN_FLIGHT_RECORDS = PARTITIONS * Config().in_flight_batches * BATCH_RECORDS
"""P3: the most of one connector that all workers together may have produced and not acknowledged."""

DISPATCHED_RECORDS = PARTITIONS * Config().lane_depth * BATCH_RECORDS
"""The most in all mailboxes of one connector: a Redis that is taken back has these again."""

SCHEDULED_BY = ("scheduler", *(link("scheduler", server) for server in ("redis", "database")))
"""Without one of these there is no scheduler."""

EVERYTHING = {
    "subscription:filter:scope": "",
    "subscription:filter:filterType": "",
    "subscription:filter:expression": "",
}


class Load(threading.Thread):
    """Appends at a steady rate, and notes when how much had been appended."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(name="load", daemon=True)
        self.appends: list[tuple[float, int]] = [(time.monotonic(), 0)]
        self._flow = flow
        self._done = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        while not self._done.wait(max(0.0, due - time.monotonic())):
            self._flow.append(EVENTS_PER_APPEND, streams=STREAMS, per_append=EVENTS_PER_APPEND)
            self.appends.append((time.monotonic(), self._flow.appended))
            due = max(due + EVENTS_PER_APPEND / EVENTS_PER_S, time.monotonic() - 1)

    def stop(self) -> None:
        self._done.set()
        self.join()


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[ApacheKafka | None]:
    """Apache Kafka, which can be killed with its data; None where it is not to be had and nobody insists."""
    if missing() and not insisted():
        yield None
        return
    folder = tmp_path / "apache-kafka"
    folder.mkdir()
    with running(folder) as broker:
        yield broker


@pytest.fixture
def links() -> Iterator[dict[str, Proxy]]:
    """By what the plan calls them; there once the system is."""
    links: dict[str, Proxy] = {}
    yield links
    for proxy in links.values():
        proxy.close()


@pytest.fixture
def system(tmp_path: Path, kafka: ApacheKafka | None, links: dict[str, Proxy]) -> Iterator[System]:
    folder = tmp_path / "system"
    folder.mkdir()
    environ = {name: str(value) for name, value in SETTINGS.items()}
    if kafka is not None:
        environ["KAFKA_BOOTSTRAP_SERVERS"] = kafka.servers

    def over_links(addresses: Mapping[str, str]) -> dict[str, dict[str, str]]:
        servers = {"redis": "REDIS_URL", "database": "KURRENTDB_URI"}
        links.update({link(role, server): Proxy(addresses[servers[server]]) for role in LINKED for server in servers})
        return {role: {servers[server]: links[link(role, server)].address for server in servers} for role in LINKED}

    with System(folder, over_links, workers=WORKERS, **environ) as running:
        try:
            yield running
        finally:
            running.local.signal(signal.SIGCONT)  # a run that was broken off may have left it stopped


class Run:
    """One run: its load, its faults, what was seen of it, and what that amounts to."""

    def __init__(self, system: System, kafka: ApacheKafka | None, links: Mapping[str, Proxy]) -> None:
        self._system = system
        # Then the topic itself says when a record came; else only when it was given to the producer.
        config = {"message.timestamp.type": "LogAppendTime"} if kafka is not None else None
        self.flows = [Flow(system, system.topic(config=config)) for _ in range(2 if kafka is None else 3)]
        one, everything, *self.exact = self.flows
        everything.prefix = one.prefix
        one.create(**{"autocommit:interval": str(AUTOCOMMIT_MS)})
        everything.create(**{"autocommit:interval": str(AUTOCOMMIT_MS)}, **EVERYTHING)
        for flow in self.exact:  # the embedded broker has no transactions that last
            flow.prefix = one.prefix
            flow.create(**{"autocommit:interval": str(AUTOCOMMIT_MS), "delivery:guarantee": "exactlyOnce"})
        self.arrivals = [Arrivals(system.servers, flow.topic, PARTITIONS) for flow in self.flows]
        self.sampler = Sampler(system.addresses["KURRENTDB_URI"], self.flows, self._processes)
        self.load = Load(one)
        self.hands = Hands(system, kafka, links)
        self._epoch_s = time.time() - time.monotonic()
        self.violations: list[str] = []
        self.told: list[str] = []

    def _processes(self) -> dict[str, int]:
        found = {name: role.pid for name, role in self._system.roles.items()}
        for worker in self._system.workers:
            found |= {f"{worker.name}'s child": child for child in worker.children()}
        return found

    def go(self, faults: list[Fault], seconds: float) -> None:
        for flow in self.flows:
            flow.start()
        for thread in (*self.arrivals, self.sampler, self.load):
            thread.start()
        eventually(lambda: all(flow.position > 0 for flow in self.flows), within_s=30)
        self.began = time.monotonic()
        for fault in faults:
            time.sleep(max(0.0, self.began + fault.at_s - time.monotonic()))
            self.hands.strike(fault)
        time.sleep(max(0.0, self.began + seconds - time.monotonic()))
        self._settle()

    def _settle(self) -> None:
        """No more faults: what was appended arrives, and the connectors say that all is well."""
        self._check(self.load.is_alive(), "the load ended early: the database took no events for 30 s")
        self.hands.finish()
        self.load.stop()
        log = eventually(self.flows[0].log, within_s=30)
        end = log[-1].commit_position
        assert end is not None
        for flow in self.flows:
            with self._noting(f"{flow.id} has not come to the end of the log"):
                eventually(lambda flow=flow: flow.position >= end, within_s=RECOVERED_WITHIN_S)  # type: ignore[misc]
            with self._noting(f"{flow.id} does not say that it runs without trouble"):
                eventually(lambda flow=flow: _is_well(flow), within_s=WITHOUT_ERROR_WITHIN_S)  # type: ignore[misc]
        for flow, arrivals in zip(self.flows, self.arrivals, strict=True):
            messages = consume(self._system.servers, flow.topic)
            arrivals.stop(len(messages))
            verdict = judge(log, messages)
            self._check(verdict.holds, f"{flow.id}: {verdict}")
            if flow in self.exact:
                self._check(verdict.duplicates == 0, f"P4: {flow.id}, exactly once: {verdict}")
            self._judge(flow, arrivals, log)
        self.sampler.stop()
        self._judge_memory()
        # A scheduler that starts later tries again: the records alone would not tell.
        for text in ("the connector stops: ", "Traceback"):
            self.violations += self._system.logged(text)
        self.violations += self.hands.complaints

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        except AssertionError as exc:
            self.violations.append(f"{what}: {exc}")

    def _check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.violations.append(otherwise)

    def _judge(self, flow: Flow, arrivals: Arrivals, log: Sequence[findings.Logged]) -> None:
        firsts = findings.first_occurrences(arrivals.seen)
        checkpoints = list(self.sampler.checkpoints[flow.id].values())
        self.told.append(f"{flow.id}: {len(firsts)} records, {len(checkpoints)} checkpoints seen")
        self._check(bool(checkpoints), f"{flow.id}: no checkpoint was seen")
        for each in findings.premature(checkpoints, firsts, log):
            self.violations.append(f"{flow.id}: a checkpoint passed a record that was not in the topic yet: {each}")
        for each in findings.backward(checkpoints):
            self.violations.append(f"{flow.id}: a checkpoint went back: {each}")
        self._judge_repeats(flow, arrivals.seen, checkpoints)
        self._judge_standstill(flow, firsts)

    def _judge_repeats(self, flow: Flow, arrivals: Sequence[Arrival], checkpoints: Sequence[SeenCheckpoint]) -> None:
        """P3: what was in flight, for each crash, and what was not in a checkpoint, where Redis lost all."""
        strikes = self.hands.strikes
        losses = [(at, findings.last_checkpoint(checkpoints, at + self._epoch_s)) for at in self.hands.losses]
        lost, others = findings.repeats(arrivals, losses)
        spans = {(at, self.hands.ends[fault]): fault for at, fault in strikes}
        stops = [span for span, fault in spans.items() if fault.kind is Kind.STOP and fault.target not in SERVERS]
        crashes = [span for span in spans if span not in stops]
        after = findings.blamed(crashes, stops, (each.at for each in others))
        by_kind: Counter[str] = Counter({"Redis lost them": len(lost)} if lost else {})
        for span, count in after.items():
            by_kind["no fault" if span is None else f"{spans[span].kind} {spans[span].target}"] += count
        repeated, per_crash = len(lost) + len(others), (len(lost) + len(others)) / max(1, len(crashes))
        told = ", ".join(f"{count} after {name}" for name, count in by_kind.most_common())
        self.told.append(f"  duplicates: {repeated}, {per_crash:.1f} per crash ({told or 'none'})")
        self._check(after[None] == 0, f"{flow.id}: {after[None]} duplicates before the first fault")
        for span in stops:
            self._check(after[span] == 0, f"{flow.id}: {after[span]} duplicates after a clean stop: {spans[span]}")
        for span, count in after.items():
            taken_back = span is not None and spans[span].kind is Kind.TAKE_BACK
            allowed = IN_FLIGHT_RECORDS + (DISPATCHED_RECORDS if taken_back else 0)
            self._check(count <= allowed, f"{flow.id}: {count} duplicates after one fault, more than {allowed}")

    def _judge_standstill(self, flow: Flow, firsts: list[Arrival]) -> None:
        outages = sorted(self.hands.outages)
        whole = findings.longest_standstill(firsts, self.load.appends, outages)
        scheduler = [(at, self.hands.ends[fault]) for at, fault in self.hands.strikes if fault.target in SCHEDULED_BY]
        away_s = findings.overlap(whole.span, scheduler)
        told = f"{whole.seconds:.1f} s, {away_s:.1f} s of it without a scheduler, {self._followed(whole)}"
        self.told.append(f"  longest standstill: {told}")
        # Who takes over from one that died may be the next to die, before anything comes of it.
        begin, end = whole.span
        deaths = sum(begin - STRUCK_S <= at <= end for at in self._deaths_of_schedulers())
        allowed_s = STANDSTILL_S + LEASE_S * max(0, deaths - 1)
        # A server's absence is no standstill, and neither is that of the one scheduler; but it may not part one in two.
        self._check(whole.seconds - away_s <= allowed_s, f"{flow.id}: stood still for {told}, {deaths} schedulers died")
        until = self.load.appends[-1][0]
        lanes = [
            findings.longest_silence([each for each in firsts if each.partition == number], until, outages)
            for number in range(PARTITIONS)
        ]
        lane = max(lanes)
        self.told.append(f"  of a single partition: {lane.seconds:.1f} s, {self._followed(lane)}")
        crashes = sum(
            lane.since <= at <= lane.since + lane.seconds and fault.target not in SERVERS
            for at, fault in self.hands.strikes
        )
        self._check(
            lane.seconds <= STANDSTILL_S * max(1, crashes),
            f"{flow.id}: a partition stood still for {lane.seconds:.1f} s, {crashes} crashes, {self._followed(lane)}",
        )

    def _deaths_of_schedulers(self) -> list[float]:
        """When one was killed, whose lease had to run out."""
        return [
            self.hands.ends[fault] if fault.kind is Kind.RUN else at
            for at, fault in self.hands.strikes
            if (fault.kind, fault.target) in ((Kind.KILL, "scheduler"), (Kind.RUN, "second scheduler"))
        ]

    def _followed(self, standstill: findings.Standstill) -> str:
        before = [fault for at, fault in self.hands.strikes if at <= standstill.since + STRUCK_S]
        at_s = standstill.since - self.began
        return f"from {at_s:.1f} s, after {before[-1] if before else 'no fault'}"

    def _judge_memory(self) -> None:
        peaks = sorted(self.sampler.peak_bytes.items())
        self.told.append("memory: " + ", ".join(f"{name} {peak / 1024**2:.0f} MiB" for name, peak in peaks))
        for name, peak in peaks:
            self._check(peak <= ALLOWED_MEMORY, f"{name} took {peak / 1024**2:.0f} MiB (P6)")

    def diary(self) -> str:
        return "\n".join(f"{at - self.began:6.1f} s  {what}" for at, what in self.hands.diary)


def _is_well(flow: Flow) -> bool:
    connector = flow.connector
    return connector.state is State.RUNNING and connector.error is None


@pytest.mark.chaos
def test_random_faults_under_load_break_no_promise(
    system: System,
    kafka: ApacheKafka | None,
    links: dict[str, Proxy],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = request.config.getoption("--seed")
    if seed is None:
        seed = random.SystemRandom().randrange(1_000_000)
    minutes = request.config.getoption("--minutes")
    broker = "the embedded broker, which is only paused" if kafka is None else "Apache Kafka"
    only = request.config.getoption("--only")
    heading = f"chaos: --seed {seed} --minutes {minutes:g}{f' --only {only!r}' if only else ''}, with {broker}"
    with capsys.disabled():
        print(f"\n{heading}")
    faults = plan(seed, minutes * 60, broker_keeps_data=kafka is not None, only=only and Kind(only))
    run = Run(system, kafka, links)
    try:
        run.go(faults, minutes * 60)
    except BaseException:
        with capsys.disabled():
            print(f"{heading}: broken off\n{run.diary()}\nlogs: {tmp_path}")
        run.hands.finish()  # or a role would be started when its system is gone
        raise
    by_kind = Counter(f"{fault.kind} {fault.target}" for fault in faults)
    struck = ", ".join(f"{count} {name}" for name, count in sorted(by_kind.items()))
    report = "\n".join([heading, f"{len(faults)} faults: {struck}", *run.told])
    (tmp_path / "report.txt").write_text(f"{report}\n{run.diary()}\n", encoding="utf-8")
    with capsys.disabled():
        print(report)
    assert not run.violations, "\n".join([*run.violations, report, run.diary(), f"logs: {tmp_path}"])
