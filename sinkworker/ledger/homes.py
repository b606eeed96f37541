"""Where lanes are at home: with the worker process that has their producers open.

To open a lane takes many times what a transaction takes, and whoever had it has to open it again when it comes back. So
activations go to the lane's home, where nothing waits there already. These are hints: no promise rests on them, and the
reaper sends what does not get through to everybody.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis

from sinkworker.errors import Unavailable
from sinkworker.ledger.contract import Activation, Enqueue, EnqueueAt
from sinkworker.ledger.redis_errors import translated
from sinkworker.model import Epoch, LaneNumber

EVERY_S = 0.5
LASTS_MS = 2500
"""A home of which nobody has heard for so long is none."""

REMEMBERED_S = 24 * 3600
"""How long a lane's home is remembered: a deleted connector's is forgotten at last."""


class Homes:
    """Which lanes are at home where, as Redis knows it."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def settle(self, connector: str, lane: LaneNumber, home: str) -> None:
        """The lane's producer has been opened there."""
        with contextlib.suppress(Unavailable), translated(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hset(_homes_key(connector), str(lane), home)
            pipeline.expire(_homes_key(connector), REMEMBERED_S)
            pipeline.execute()

    def forget(self, connector: str) -> None:
        """None of its lanes is at home anywhere, until it is opened again."""
        with contextlib.suppress(Unavailable), translated():
            self._redis.delete(_homes_key(connector))

    def of(self, connector: str, lanes: Sequence[LaneNumber]) -> dict[LaneNumber, str]:
        """The homes of those lanes that have one where somebody is. Raises Unavailable."""
        with translated():
            found: Any = self._redis.hmget(_homes_key(connector), [str(lane) for lane in lanes])
            homes = {lane: home.decode() for lane, home in zip(lanes, found, strict=True) if home is not None}
            if not homes:
                return {}
            asked = sorted(set(homes.values()))
            with self._redis.pipeline(transaction=False) as pipeline:
                for home in asked:
                    pipeline.get(_presence_key(home))
                present = {home for home, there in zip(asked, pipeline.execute(), strict=True) if there}
        return {lane: home for lane, home in homes.items() if home in present}


class Homing:
    """`Enqueue` that sends lanes home."""

    def __init__(self, homes: Homes, enqueue: Enqueue, enqueue_at: EnqueueAt) -> None:
        self._homes = homes
        self._enqueue = enqueue
        self._enqueue_at = enqueue_at

    def __call__(self, connector: str, epoch: Epoch, activations: Sequence[Activation]) -> None:
        """A task for each home, and one to everybody for the rest. Raises Unavailable."""
        homes = self._homes.of(connector, [each.lane for each in activations])
        rest = [each for each in activations if each.lane not in homes]
        for home in sorted(set(homes.values())):
            those = [each for each in activations if homes.get(each.lane) == home]
            if not self._enqueue_at(home, connector, epoch, those):
                rest += those
        if rest:
            self._enqueue(connector, epoch, rest)


class Presence(threading.Thread):
    """Says of this process, once `begin` is called, that it is at home."""

    def __init__(self, client: redis.Redis, home: str, leaving: Callable[[], bool]) -> None:
        """`leaving`: whether the process has been told to stop. Then it is at home no more."""
        super().__init__(name="presence", daemon=True)
        self._redis = client
        self._home = home
        self._leaving = leaving
        self._closed = threading.Event()
        self._beginning = threading.Lock()

    def begin(self) -> None:
        """May be called again, also when it is over: a process that has been told to stop may still open lanes."""
        with self._beginning:
            if self.ident is None and not self._closed.is_set():
                self.start()

    def run(self) -> None:
        while not self._leaving():
            with contextlib.suppress(Unavailable), translated():
                self._redis.set(_presence_key(self._home), 1, px=LASTS_MS)
            if self._closed.wait(EVERY_S):
                break
        with contextlib.suppress(Unavailable), translated():
            self._redis.delete(_presence_key(self._home))

    def close(self) -> None:
        """Before the connection to Redis is closed."""
        self._closed.set()
        if self.is_alive():
            self.join()


def _homes_key(connector: str) -> str:
    return f"sink:{{{connector}}}:homes"


def _presence_key(home: str) -> str:
    return f"sinkworker:home:{home}"
