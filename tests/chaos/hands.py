"""What strikes a running system, and what sets it right again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from tests.apache_kafka import ApacheKafka
from tests.chaos.plan import SERVERS, Fault, Kind
from tests.processes import eventually
from tests.proxy import Proxy
from tests.system import BROKER, DATABASE, REDIS, Role, System

STOP_WITHIN_S = 20.0
BACK_WITHIN_S = 30.0
PARTS = {"redis": (REDIS, "REDIS_URL"), "database": (DATABASE, "KURRENTDB_URI"), "broker": (BROKER, "")}


class Hands:
    """Does to a system what a plan says, one fault after the other, and keeps a diary."""

    def __init__(self, system: System, kafka: ApacheKafka | None, links: Mapping[str, Proxy]) -> None:
        """`links`: by what `plan.link` calls them."""
        self.diary: list[tuple[float, str]] = []
        """What was done, by monotonic time."""
        self.strikes: list[tuple[float, Fault]] = []
        self.ends: dict[Fault, float] = {}
        """When each was healed."""
        self.outages: list[tuple[float, float]] = []
        """From when until when a server was away."""
        self.losses: list[float] = []
        """When Redis lost what it held, or the latest of it."""
        self.complaints: list[str] = []
        self._links = links
        self._stalls: dict[str, contextlib.ExitStack] = {}
        self._snapshot: list[tuple[bytes, int, bytes]] = []
        self._system = system
        self._kafka = kafka
        self._paused: dict[str, list[int]] = {}
        self._struck_at: dict[str, float] = {}
        self._seconds: dict[str, Role] = {}
        self._healing: dict[str, threading.Thread] = {}
        """What brings each target back."""
        self._over = threading.Event()
        self._down: set[str] = set()
        """Roles that were ended here and are not started again yet."""

    def strike(self, fault: Fault) -> None:
        self._look_after_roles()
        self._await_healed(SERVERS if fault.target in SERVERS else [fault.target])
        now = time.monotonic()
        self.strikes.append((now, fault))
        self._note(str(fault))
        self._struck_at[fault.target] = now
        if fault.target in SERVERS:
            self._strike_server(fault)
        elif fault.kind is Kind.STALL:
            self._stalls[fault.target] = contextlib.ExitStack()
            self._stalls[fault.target].enter_context(self._links[fault.target].stalled())
        else:
            self._strike_role(fault)
        # In threads of their own: no fault lasts longer because another one's end takes its time.
        self._healing[fault.target] = healing = threading.Thread(target=self._heal, args=(fault,))
        healing.start()

    def _heal(self, fault: Fault) -> None:
        self._over.wait(fault.lasts_s)
        try:
            if fault.target in SERVERS:
                self._heal_server(fault)
                self.outages.append((self._struck_at[fault.target], time.monotonic()))
            elif fault.kind is Kind.STALL:
                self._stalls.pop(fault.target).close()
            else:
                self._heal_role(fault)
        except AssertionError as exc:
            self.complaints.append(f"not healed: {fault}: {exc}")
        self.ends[fault] = time.monotonic()
        self._note(f"          over: {fault.kind} {fault.target}")

    def _await_healed(self, targets: Iterable[str]) -> None:
        for target in targets:
            if target in self._healing:
                self._healing.pop(target).join()

    def finish(self) -> None:
        """End what lasts, and wait until everything is back."""
        self._over.set()
        self._await_healed(list(self._healing))
        self._look_after_roles()

    # -- roles

    def _strike_role(self, fault: Fault) -> None:
        if fault.kind is Kind.RUN:
            second = self._system.another(fault.target.replace(" ", "-"), ["sinkworker", fault.target.split()[-1]])
            self._seconds[fault.target] = second
            second.start()
            return
        role = self._system.roles[fault.target]
        match fault.kind:
            case Kind.KILL:
                self._down.add(role.name)
                role.kill()
            case Kind.KILL_CHILD:
                eventually(role.ready, within_s=BACK_WITHIN_S)  # Celery gives up where its first child dies before that
                _signal(role.children(), signal.SIGKILL)
            case Kind.STOP:
                self._down.add(role.name)
                role.signal(signal.SIGTERM)
            case Kind.PAUSE:
                self._paused[fault.target] = role.children() or [role.pid]
                _signal(self._paused[fault.target], signal.SIGSTOP)

    def _heal_role(self, fault: Fault) -> None:
        if fault.kind is Kind.RUN:
            self._seconds.pop(fault.target).kill()
            return
        role = self._system.roles[fault.target]
        match fault.kind:
            case Kind.KILL:
                role.start()
            case Kind.STOP:
                eventually(lambda: not role.alive, within_s=2 * BACK_WITHIN_S)
                took_s = time.monotonic() - self._struck_at[fault.target]
                if took_s > max(STOP_WITHIN_S, fault.lasts_s + 1):
                    self.complaints.append(f"{role.name} took {took_s:.1f} s to stop")
                role.start()
            case Kind.PAUSE:
                _signal(self._paused.pop(fault.target), signal.SIGCONT)
        self._down.discard(role.name)

    def _look_after_roles(self) -> None:
        """A role that ended though nobody ended it is a finding, and is started again."""
        for name, role in self._system.roles.items():
            if not role.alive and name not in self._down:
                self.complaints.append(f"{name} ended by itself")
                role.start()

    # -- servers

    def _strike_server(self, fault: Fault) -> None:
        if fault.target == "broker" and self._kafka is not None:
            match fault.kind:
                case Kind.KILL:
                    self._kafka.kill()
                case Kind.STOP:
                    self._kafka.stop()
                case Kind.PAUSE:
                    os.kill(self._kafka.pid, signal.SIGSTOP)
            return
        if fault.kind in (Kind.FLUSH, Kind.LOSE):
            self._system.redis.flushall()
            self.losses.append(time.monotonic())
        if fault.kind is Kind.TAKE_BACK:
            self._snapshot = self._held_by_redis()
        if fault.kind in (Kind.FLUSH, Kind.TAKE_BACK):
            return
        pid = self._system.part(PARTS[fault.target][0])
        if fault.kind is Kind.PAUSE:
            self._paused[fault.target] = [pid]
            os.kill(pid, signal.SIGSTOP)
        else:
            self._system.local.signal(signal.SIGSTOP)  # or it would be started again at once
            os.kill(pid, signal.SIGKILL)

    def _heal_server(self, fault: Fault) -> None:
        if fault.target == "broker" and self._kafka is not None:
            if fault.kind is Kind.PAUSE:
                os.kill(self._kafka.pid, signal.SIGCONT)
            else:
                self._kafka.start()
        elif fault.kind is Kind.PAUSE:
            _signal(self._paused.pop(fault.target), signal.SIGCONT)
        elif fault.kind is Kind.TAKE_BACK:
            self._struck_at[fault.target] = time.monotonic()  # it was there until now
            self._take_back()
        elif fault.kind is not Kind.FLUSH:
            self._system.local.signal(signal.SIGCONT)
            address = self._system.addresses[PARTS[fault.target][1]]
            eventually(lambda: _listens(address), within_s=BACK_WITHIN_S)

    def _held_by_redis(self) -> list[tuple[bytes, int, bytes]]:
        """Every key with the time at which it expires (in ms since 1970; 0: never) and its value, as of one moment."""
        redis = self._system.redis
        keys = list(redis.scan_iter())
        with redis.pipeline(transaction=True) as step:
            for key in keys:
                step.pexpiretime(key)
                step.dump(key)
            found = step.execute()
        times_and_values = zip(found[::2], found[1::2], strict=True)
        return [(key, max(at, 0), value) for key, (at, value) in zip(keys, times_and_values, strict=True) if value]

    def _take_back(self) -> None:
        redis = self._system.redis
        with redis.pipeline(transaction=True) as step:
            step.flushall()
            for key, expires_at_ms, value in self._snapshot:
                step.restore(key, expires_at_ms, value, absttl=True)
            step.execute()
        self.losses.append(time.monotonic())
        for kind in ("normal", "pubsub"):
            redis.client_kill_filter(_type=kind, skipme=True)

    def _note(self, what: str) -> None:
        self.diary.append((time.monotonic(), what))


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _listens(address: str) -> bool:
    parts = urlsplit(address)
    assert parts.hostname is not None
    assert parts.port is not None
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=1):
            return True
    except OSError:
        return False
