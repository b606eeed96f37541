"""The development stand-in for KurrentDB (`sinkworker/local/kurrentdb/`) as a part of the local stack."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

from sinkworker.local.children import python
from sinkworker.local.part import LOOPBACK, Part, extra_missing


def part(data_dir: Path) -> Part:
    """The stand-in, its log of events in one file of `data_dir`. Raises Misconfigured when it cannot run."""
    if importlib.util.find_spec("h2") is None:
        raise extra_missing("The KurrentDB stand-in's HTTP/2 library")

    def argv(port: int) -> list[str]:
        data = str(data_dir / "events.db")
        return python("sinkworker.local.kurrentdb", "--data", data, "--host", LOOPBACK, "--port", str(port))

    title = "the KurrentDB stand-in, for development only"
    return Part("kurrentdb-standin", title, "kurrentdb_uri", argv, _address, _port, _answers)


def _address(port: int) -> str:
    return f"kdb://{LOOPBACK}:{port}?Tls=false"


def _port(address: str) -> int | None:
    parts = urlsplit(address)
    return parts.port if parts.hostname == LOOPBACK else None


def _answers(address: str) -> bool:
    # Imported here: a process whose database is a real one need not load gRPC to run the other parts.
    from kurrentdbclient import KurrentDBClient
    from kurrentdbclient.exceptions import KurrentDBClientError

    try:
        client = KurrentDBClient(address)
        try:
            client.get_commit_position(timeout=1)
        finally:
            client.close()
    except KurrentDBClientError:
        return False
    return True
