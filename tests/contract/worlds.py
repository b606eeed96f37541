"""Both ledgers behind one face, with what tests need beside the contract: time that passes, data that gets lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import redis

from sinkworker.ledger.contract import Ledger
from sinkworker.ledger.memory import MemoryLedger, State
from sinkworker.ledger.redis_ledger import RedisLedger

LEASE_MS = 10_000

Restore = Callable[[], None]


class World(Protocol):
    """A ledger and its store."""

    ledger: Ledger

    def elapse(self, ms: int) -> None:
        """Let time pass, without waiting for it."""

    def lose(self, key: str) -> None:
        """Evict one of `redis_ledger.KEYS`."""

    def snapshot(self) -> Restore:
        """A backup; calling it rolls the store back."""


class MemoryWorld:
    def __init__(self) -> None:
        self._now_ms = 1_700_000_000_000
        self._memory = MemoryLedger(lambda: self._now_ms, LEASE_MS)
        self.ledger: Ledger = self._memory

    def elapse(self, ms: int) -> None:
        self._now_ms += ms

    def lose(self, key: str) -> None:
        state = self._memory.state
        match key:
            case "state":
                self._memory.state = State()
            case "lanes":
                state.lanes.clear()
            case "batches" | "payloads":
                state.batches.clear()
            case "progress":
                state.progress.clear()

    def snapshot(self) -> Restore:
        saved = self._memory.snapshot()
        return lambda: self._memory.restore(saved)


class RedisWorld:
    def __init__(self, client: redis.Redis, connector_id: str) -> None:
        self.client = client
        self.redis_ledger = RedisLedger(client, connector_id, LEASE_MS)
        self.ledger: Ledger = self.redis_ledger
        self._keys = self.redis_ledger.keys
        self._elapsed_ms = 0

    def elapse(self, ms: int) -> None:
        """Moves what the lanes remember of Redis's clock into the past."""
        self._elapsed_ms += ms
        lanes: dict[bytes, bytes] = self.client.hgetall(self._keys["lanes"])  # type: ignore[assignment]
        for number, packed in lanes.items():
            *counts, due, deadline, token = packed.decode().split(" ")
            aged = [str(max(0, int(time) - ms)) for time in (due, deadline)]
            self.client.hset(self._keys["lanes"], number.decode(), " ".join([*counts, *aged, token]))

    def lose(self, key: str) -> None:
        self.client.delete(self._keys[key])

    def snapshot(self) -> Restore:
        saved = {key: self.client.dump(key) for key in self._keys.values()}
        saved_ms = self._elapsed_ms

        def restore() -> None:
            for key, dump in saved.items():
                self.client.delete(key)
                if dump is not None:
                    self.client.restore(key, 0, dump)
            since_ms, self._elapsed_ms = self._elapsed_ms - saved_ms, saved_ms
            self.elapse(since_ms)  # time is not rolled back

        return restore
