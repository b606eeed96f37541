"""Where a secret might be found: every place that a test looks into for one in plain text."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Collection, Iterator

import redis
from kurrentdbclient import KurrentDBClient


def assert_clean(where: str, text: str, secrets: Collection[str]) -> None:
    """Fails where one of the secrets is in the text, and where there is no text."""
    assert text, where
    for secret in secrets:
        assert secret not in text, where


class Overheard:
    """Every command that Redis is sent inside, so what is there for a moment only, too: the tasks, before all."""

    def __init__(self, client: redis.Redis) -> None:
        self.commands: list[str] = []
        self._client = client
        self._done = threading.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis annotates not all of it
            self._listening.set()
            for command in monitor.listen():
                self.commands.append(command["command"])
                if self._done.is_set():
                    return

    def __enter__(self) -> list[str]:
        self._thread.start()
        assert self._listening.wait(10)
        return self.commands

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._client.ping()
        self._thread.join(10)


def everything(client: redis.Redis) -> Iterator[object]:
    """Every key with what it holds."""
    for key in client.scan_iter():
        match client.type(key):
            case b"string":
                yield key, client.get(key)
            case b"hash":
                yield key, client.hgetall(key)
            case b"list":
                yield key, client.lrange(key, 0, -1)
            case b"set":
                yield key, client.smembers(key)
            case b"zset":
                yield key, client.zrange(key, 0, -1)
            case b"stream":
                yield key, client.xrange(key)
            case other:
                raise AssertionError(f"{key!r} is a {other!r}")


def events(client: KurrentDBClient) -> list[str]:
    return [
        f"{event.stream_name} {event.type} {event.data!r} {event.metadata!r}"
        for event in client.read_all(filter_exclude=())
    ]


def flower_answers(port: int, state: str) -> str:
    """All tasks and workers as Flower gives them; empty where no task is among them yet."""
    found = []
    for path in (f"tasks?state={state}", "tasks", "workers"):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=10) as answer:
            found.append(json.load(answer))
    return json.dumps(found) if found[0] else ""
