"""What a Redis URL means, in one spelling for the ledger's client, Celery and Flower. Pure, but for a look at files."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

REDIS_PORT = 6379
SENTINEL_PORT = 26379

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS = (*FILES, "ssl_cert_reqs", "ssl_check_hostname")
CLUSTER = ("redis+cluster", "rediss+cluster")
"""The schemes of a Redis Cluster."""

SENTINEL = ("master_name", "sentinel_username", "sentinel_password")
"""The parameters of the query, spelled as Celery and redis-py spell them."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is and how to come in."""

    servers: tuple[tuple[str, int], ...]
    """Host and port: of Redis itself, of some nodes of a cluster, or of the sentinels that know the master
    `master_name`.
    """
    database: int
    username: str | None
    password: str | None = field(repr=False)
    tls: Mapping[str, Any] | None
    """redis-py's options for TLS; None without."""
    master_name: str | None = None
    sentinel_access: Mapping[str, str] = field(default_factory=dict, repr=False)
    """User and password of the sentinels, where they ask for any."""
    is_cluster: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """redis-py's options for connections to the Redis that holds the data, but for host and port."""
        return {"db": self.database, "username": self.username, "password": self.password, **self._tls_options}

    @property
    def sentinel_options(self) -> dict[str, Any]:
        """redis-py's options for connections to the sentinels."""
        return {**self.sentinel_access, **self._tls_options}

    @property
    def url(self) -> str:
        """Scheme, access, first server and database: what Celery and Flower take as a URL. Shows the password.

        Not of a cluster, which neither can use.
        """
        scheme = "sentinel" if self.master_name else "redis" if self.tls is None else "rediss"
        access = ""
        if self.password is not None:
            access = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@"
        host, port = self.servers[0]
        return f"{scheme}://{access}{f'[{host}]' if ':' in host else host}:{port}/{self.database}"

    @property
    def _tls_options(self) -> dict[str, Any]:
        return {} if self.tls is None else {"ssl": True, **self.tls}


def parse(text: str) -> RedisAddress:
    """The address that a URL names. Raises ValueError, whose text quotes nothing of the URL.

    `redis://USER:PASSWORD@HOST:PORT/DB`, or `rediss://` for TLS; `sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/DB` with
    `?master_name=NAME`, or `sentinels://` for TLS to sentinels and Redis alike; `redis+cluster://USER:PASSWORD@HOST:PORT,
    HOST:PORT`, or `rediss+cluster://`. The servers' form is the caller's to have checked.
    """
    url = urlsplit(text)
    is_sentinel = url.scheme in ("sentinel", "sentinels")
    is_cluster = url.scheme in CLUSTER
    if is_cluster and url.path not in ("", "/", "/0"):
        raise ValueError("must name no database: a cluster has only 0")
    if not re.fullmatch(r"/?\d*", url.path):
        raise ValueError("must end in the number of a database, as in redis://HOST:PORT/0")
    is_encrypted = url.scheme in ("rediss", "sentinels", "rediss+cluster")
    given = _parameters(url.query, (*(TLS if is_encrypted else ()), *(SENTINEL if is_sentinel else ())))
    access, _, servers = url.netloc.rpartition("@")
    if url.fragment:  # a password with a number sign ends the URL for every client
        raise ValueError("must have `#` in a password written as %23")
    if not (is_sentinel or is_cluster) and "," in servers:
        raise ValueError(
            "must name one server; several are sentinels, as in sentinel://HOST,HOST/0?master_name=NAME, or a cluster, "
            "as in redis+cluster://HOST,HOST"
        )
    if is_sentinel and not given.get("master_name"):
        raise ValueError("must name the master that the sentinels watch, as in sentinel://HOST/0?master_name=NAME")
    username, _, password = access.partition(":")
    default_port = SENTINEL_PORT if is_sentinel else REDIS_PORT
    return RedisAddress(
        servers=tuple(_server(server, default_port) for server in servers.split(",")),
        database=int(url.path.strip("/") or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=_tls(given) if is_encrypted else None,
        master_name=given.get("master_name"),
        sentinel_access={
            name.removeprefix("sentinel_"): given[name] for name in SENTINEL if name in given and name != "master_name"
        },
        is_cluster=is_cluster,
    )


def _parameters(query: str, known: tuple[str, ...]) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    if not given.keys() <= set(known):
        may = ", ".join(known) or "none with this scheme"
        raise ValueError(f"must have no parameters after `?` but those that are known: {may}")
    return given


def _server(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text.strip()}")
    return parts.hostname or "", parts.port or default_port


def _tls(given: Mapping[str, str]) -> dict[str, Any]:
    requires = given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if requires not in ("required", "none"):
        raise ValueError("must have required or none as ssl_cert_reqs")
    checks = given.get("ssl_check_hostname", "true").lower()
    if checks not in ("true", "false"):
        raise ValueError("must have true or false as ssl_check_hostname")
    trusts = requires == "required"
    for name in FILES:
        if name in given:
            _check_readable(name, given[name])
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED if trusts else ssl.CERT_NONE,
        "ssl_check_hostname": trusts and checks == "true",
        **{name: given[name] for name in FILES if name in given},
    }


def _check_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as exc:
        raise ValueError(f"must have a file that can be read as {name}: {exc.strerror}") from None
