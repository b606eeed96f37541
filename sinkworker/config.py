"""Process configuration: the environment in, one validated immutable value out. Nothing else reads the environment.

Precedence, from strong to weak: the process's environment, the `.env` file of the working directory (as honcho reads
it), the local stack's `local.env` (only for the three server addresses), the default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sinkworker import redis_address
from sinkworker.errors import Invalid

PREFIX = "SINKWORKER_"
TEST_PREFIX = "SINKWORKER_TEST_"
"""Variables of the test suite. Of these, processes of ours know `CRASH_FOLDER` alone."""

CRASH_FOLDER = TEST_PREFIX + "CRASH_FOLDER"


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that never shows itself: `repr` and `str` are `***`; `reveal()` gives it."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


def without_password(uri: str) -> str:
    """The URI with its user information hidden, and passwords among its parameters; for logs and messages."""
    parts = urlsplit(uri)
    query = _PASSWORDS.sub(r"\1***", parts.query)
    netloc = "***@" + parts.netloc.rsplit("@", 1)[1] if "@" in parts.netloc else parts.netloc
    if (netloc, query) == (parts.netloc, parts.query):
        return uri
    return urlunsplit(parts._replace(netloc=netloc, query=query))


_PASSWORDS = re.compile(r"((?:^|(?<=[&;]))[^=&;]*password[^=&;]*=)[^&;]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: how it is read, what it means (the text of `sinkworker config show` and of the README)."""

    name: str
    parse: Callable[[str], Any]
    meaning: str
    hidden: bool = False
    """The whole value is a secret, not only a password in it."""


def _text(value: str) -> str:
    return value


def _uri(*schemes: str) -> Callable[[str], Secret]:
    def parse(value: str) -> Secret:
        if not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        # The reasons quote nothing of the value: what is misread as a port may be a part of the password.
        try:
            servers = urlsplit(value).netloc.rpartition("@")[2]
        except ValueError:
            raise ValueError("must be a URI, a host written as name, IPv4 or [IPv6] address") from None
        for server in servers.split(","):
            _check_server(server)
        return Secret(value)

    return parse


def _redis_url(value: str) -> Secret:
    url = _uri("redis", "rediss", "sentinel", "sentinels", *redis_address.CLUSTER)(value)
    redis_address.parse(value)
    return url


def _broker_url(value: str) -> Secret:
    if redis_address.parse(_redis_url(value).reveal()).is_cluster:
        raise ValueError("must name no cluster: Celery cannot use one")
    return Secret(value)


def _int(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"must be between {low} and {high}")
        return number

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            raise ValueError("must be a number of seconds") from None
        if not low <= number <= high:
            raise ValueError(f"must be between {low:g} and {high:g} seconds")
        return number

    return parse


def _readable_file(value: str) -> Path:
    _secret_in(Path(value), "token")
    return Path(value)


def _secret_in(path: Path, what: str) -> Secret:
    """The file's content, without its last line breaks. Raises ValueError."""
    try:
        secret = path.read_bytes().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("must name a file of UTF-8 text") from None
    except OSError as exc:
        raise ValueError(f"names a file that cannot be read: {exc.strerror}") from None
    if not secret:
        raise ValueError(f"names a file without a {what} in it")
    return Secret(secret)


def _user(value: str) -> str:
    if ":" in value:
        raise ValueError("may have no colon: Basic authentication ends the user there")
    return value


def _boolean(value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise ValueError("must be true or false")
    return value.lower() == "true"


def _level(value: str) -> str:
    if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return value.upper()


def _servers(value: str) -> str:
    for server in value.split(","):
        if not _check_server(server):
            raise ValueError("must be HOST:PORT, several separated by commas")
    return value


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be {' or '.join(words)}")
        return value

    return parse


_SERVER = re.compile(r"([A-Za-z_]+://)?(\[[^\s\]]+\]|[^\s:\[\]]+)(:(?P<port>[0-9]{1,5}))?")


def _check_server(server: str) -> bool:
    """Whether a server has a port. Raises ValueError for what is neither HOST nor HOST:PORT."""
    found = _SERVER.fullmatch(server.strip())
    if not found or not 1 <= int(found["port"] or 1) <= 65535:
        raise ValueError("must name servers as HOST or HOST:PORT, with a port from 1 to 65535")
    return found["port"] is not None


@dataclass(frozen=True, slots=True)
class Config:
    """What a process of ours needs to know. Addresses of servers are None where nothing is configured for them."""

    kurrentdb_uri: Secret | None = None
    redis_url: Secret | None = None
    kafka_bootstrap_servers: str | None = None
    broker_url: Secret | None = None
    api_host: str = "127.0.0.1"
    api_port: int = 8113
    api_url: Secret | None = None
    api_user: str | None = None
    api_password: Secret | None = None
    api_password_file: Path | None = None
    api_certificate: Path | None = None
    api_key: Path | None = None
    api_allow_anonymous: bool = False
    data_dir: Path = Path(".sinkworker")
    log_level: str = "INFO"
    reader: str = "libcurl"
    claim_lease_s: float = 6.0
    delivery_timeout_s: float = 30.0
    activation_s: float = 2.0
    drain_timeout_s: float = 3.0
    batch_records: int = 500
    batch_bytes: int = 1 << 20
    lane_depth: int = 16
    in_flight_batches: int = 4
    in_flight_bytes: int = 64 << 20
    data_protection_token: Secret | None = None
    data_protection_token_file: Path | None = None
    mask_secrets: bool = False

    def protection_token(self) -> Secret | None:
        """The secret that sensitive settings are encrypted under: the file's, before the variable's own.

        Raises Invalid where the file cannot be read any more: `load` has read it once.
        """
        if self.data_protection_token_file is None:
            return self.data_protection_token
        return _secret_of("data_protection_token_file", self.data_protection_token_file, "token")

    def password_of_api(self) -> Secret | None:
        """What the user of the API has to know: the file's, before the variable's own. Raises Invalid.

        `load` has not read that file: only the API has to be able to.
        """
        if self.api_password_file is None:
            return self.api_password
        return _secret_of("api_password_file", self.api_password_file, "password")


def _secret_of(key: str, path: Path, what: str) -> Secret:
    try:
        return _secret_in(path, what)
    except ValueError as exc:
        raise Invalid(f"{SETTINGS[key].name} {exc}.") from exc


SETTINGS: dict[str, Setting] = {
    "kurrentdb_uri": Setting(
        "KURRENTDB_URI",
        _uri("kurrentdb", "kurrentdb+discover", "kdb", "kdb+discover", "esdb", "esdb+discover"),
        "connection string of the database, as its clients take it",
    ),
    "redis_url": Setting(
        "REDIS_URL",
        _redis_url,
        "ledger and task queue: redis://HOST:PORT/DB; rediss:// for TLS, sentinel://, redis+cluster://",
    ),
    "kafka_bootstrap_servers": Setting(
        "KAFKA_BOOTSTRAP_SERVERS", _servers, "brokers of every connector that names no `bootstrapServers` of its own"
    ),
    "broker_url": Setting(
        "SINKWORKER_BROKER_URL", _broker_url, "the task queue's Redis, if another than the ledger's; spelled as that is"
    ),
    "api_host": Setting("SINKWORKER_API_HOST", _text, "address the HTTP API listens on"),
    "api_port": Setting("SINKWORKER_API_PORT", _int(1, 65535), "port the HTTP API listens on"),
    "api_url": Setting(
        "SINKWORKER_API_URL",
        _uri("http", "https"),
        "where `sinkworker connectors` finds the API, if elsewhere: `https://USER:PASSWORD@HOST:PORT`",
    ),
    "api_user": Setting("SINKWORKER_API_USER", _user, "the one user of the HTTP API; unset, it asks for none"),
    "api_password": Setting("SINKWORKER_API_PASSWORD", Secret, "that user's password", hidden=True),
    "api_password_file": Setting(
        "SINKWORKER_API_PASSWORD_FILE", Path, "a file with the password, which then counts alone"
    ),
    "api_certificate": Setting(
        "SINKWORKER_API_CERTIFICATE", Path, "PEM file of the certificate, with its chain, that the HTTP API shows"
    ),
    "api_key": Setting("SINKWORKER_API_KEY", Path, "PEM file of the certificate's key; with both it speaks HTTPS"),
    "api_allow_anonymous": Setting(
        "SINKWORKER_API_ALLOW_ANONYMOUS",
        _boolean,
        "whether the HTTP API may listen beyond loopback without a user",
    ),
    "data_dir": Setting("SINKWORKER_DATA_DIR", Path, "folder of the local stack's files"),
    "log_level": Setting("SINKWORKER_LOG_LEVEL", _level, "least severe level that is logged"),
    "reader": Setting(
        "SINKWORKER_READER",
        _one_of("libcurl", "kurrentdbclient"),
        "what reads the records: `libcurl`, or `kurrentdbclient` at many times the CPU",
    ),
    "claim_lease_s": Setting(
        "SINKWORKER_CLAIM_LEASE_S", _seconds(1, 300), "a worker silent for longer loses its lanes to another"
    ),
    "delivery_timeout_s": Setting(
        "SINKWORKER_DELIVERY_TIMEOUT_S", _seconds(5, 3600), "a worker without a word from Kafka for this long lets go"
    ),
    "activation_s": Setting(
        "SINKWORKER_ACTIVATION_S", _seconds(0.1, 60), "a worker lets go of its lanes after this much work"
    ),
    "drain_timeout_s": Setting(
        "SINKWORKER_DRAIN_TIMEOUT_S", _seconds(0, 300), "how long a stopping role waits for work in flight"
    ),
    "batch_records": Setting("SINKWORKER_BATCH_RECORDS", _int(1, 10_000), "most records of a batch"),
    "batch_bytes": Setting("SINKWORKER_BATCH_BYTES", _int(1024, 64 << 20), "most bytes of a batch of several records"),
    "lane_depth": Setting("SINKWORKER_LANE_DEPTH", _int(1, 1024), "most batches in a lane's mailbox"),
    "in_flight_batches": Setting(
        "SINKWORKER_IN_FLIGHT_BATCHES", _int(1, 64), "most unconfirmed batches of a lane at the broker"
    ),
    "in_flight_bytes": Setting(
        "SINKWORKER_IN_FLIGHT_BYTES", _int(1 << 20, 1 << 34), "a connector's reading pauses at this much undelivered"
    ),
    "data_protection_token": Setting(
        "SINKWORKER_DATA_PROTECTION_TOKEN",
        Secret,
        "what passwords in settings are encrypted under; the same for every process, for ever",
        hidden=True,
    ),
    "data_protection_token_file": Setting(
        "SINKWORKER_DATA_PROTECTION_TOKEN_FILE", _readable_file, "a file with the token, which then counts alone"
    ),
    "mask_secrets": Setting(
        "SINKWORKER_MASK_SECRETS",
        _boolean,
        "whether the API shows passwords as `*****`, and given that keeps them",
    ),
}

assert list(SETTINGS) == [each.name for each in fields(Config)]


def load(environ: Mapping[str, str]) -> Config:
    """The configuration that `environ` gives. Raises Invalid that names every wrong or unknown variable at once."""
    known = {setting.name: key for key, setting in SETTINGS.items()}
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, text in sorted(environ.items()):
        if name in known:
            if not text:
                continue  # an empty variable is an unset one, as compose files pass them
            try:
                values[known[name]] = SETTINGS[known[name]].parse(text)
            except ValueError as exc:
                problems.append(f"{name} {exc}")
        elif name.startswith(PREFIX) and not name.startswith(TEST_PREFIX):
            problems.append(f"{name} is no variable of sinkworker")
    config = Config(**values)
    if not problems:
        problems = _contradictions(config)
    if problems:
        raise Invalid("; ".join(problems) + ".", hint="`sinkworker config show` lists every variable.")
    return config


def _contradictions(config: Config) -> list[str]:
    """What is wrong with variables that are right each by itself."""
    problems = []
    if config.claim_lease_s <= config.activation_s:
        problems.append("SINKWORKER_CLAIM_LEASE_S must be longer than SINKWORKER_ACTIVATION_S")
    if (config.api_user is None) != (config.api_password is None and config.api_password_file is None):
        problems.append(
            "SINKWORKER_API_USER needs SINKWORKER_API_PASSWORD or SINKWORKER_API_PASSWORD_FILE, and they need it"
        )
    cluster = config.redis_url is not None and redis_address.parse(config.redis_url.reveal()).is_cluster
    if cluster and config.broker_url is None:
        problems.append("REDIS_URL names a cluster, so SINKWORKER_BROKER_URL must name a Redis for the task queue")
    if (config.api_certificate is None) != (config.api_key is None):
        problems.append("SINKWORKER_API_CERTIFICATE and SINKWORKER_API_KEY need each other")
    return problems


def inherited() -> dict[str, str]:
    """The process's own environment, for children that are to have the same."""
    return dict(os.environ)


def quieten_grpc() -> None:
    """Unless told otherwise, gRPC writes a line of its own to stderr for each handshake that fails."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def crash_folder() -> Path | None:
    """Where tests say at which point a process is to die; None outside of tests."""
    folder = os.environ.get(CRASH_FOLDER)
    return Path(folder) if folder else None


def environment() -> dict[str, str]:
    """The process's environment over the working directory's `.env`."""
    return {**dot_env(), **os.environ}


def dot_env() -> dict[str, str]:
    """The working directory's `.env`, read by honcho's own parser; empty where there is none. Raises Invalid."""
    from honcho.environ import parse

    try:
        return dict(parse(Path(".env").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"The file .env cannot be read: {exc}.") from exc


def origin(name: str) -> str:
    """Where `environment()` has the variable from: `environment`, `.env` or, where nothing sets it, `default`."""
    if os.environ.get(name):
        return "environment"
    return ".env" if name not in os.environ and dot_env().get(name) else "default"
