"""Pure: the documented settings in, one validated immutable value out, every fault named at once (contract §2).

Keys, enum values and booleans are case-insensitive; a blank value counts as none; unknown keys are kept by whoever
stores the settings and ignored here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from sinkworker.config import Secret
from sinkworker.connectors import dialect, jsonpath, patterns, topic_template
from sinkworker.connectors.errors import InvalidSettings

_T = TypeVar("_T")
_Value = TypeVar("_Value")

DEFAULT_SERVERS = "localhost:9092"
TYPE_NAMES = ("kafka-sink", "KafkaSink", "Kurrent.Connectors.Kafka.KafkaSink")
"""Every spelling of the one connector type there is, the canonical one first. Case-sensitive, unlike all else."""

PASSWORD_KEY = "authentication:password"  # noqa: S105 (the name of a setting)
FUNCTION_KEY = "transformer:function"
PROGRESS_TOPIC_KEY = "delivery:progressTopic"
_SENSITIVE = frozenset({PASSWORD_KEY, "sasl.password"})
"""Settings, and options of librdkafka, that nobody but Kafka may see."""

INT32_MAX = 2**31 - 1


def is_sensitive(key: str) -> bool:
    """Whether the value of a setting, or of a librdkafka option, is a secret. Keys have no case."""
    return key.lower() in _SENSITIVE


class Discreet(dict[str, _Value]):
    """A map with sensitive values in plain text, none of which its `repr` shows."""

    def __repr__(self) -> str:
        return repr({key: "***" if is_sensitive(key) else value for key, value in self.items()})


class FilterType(StrEnum):
    STREAM_ID = "streamId"
    REGEX = "regex"
    PREFIX = "prefix"
    JSON_PATH = "jsonPath"


class Scope(StrEnum):
    STREAM = "stream"
    RECORD = "record"


class KeySource(StrEnum):
    PARTITION_KEY = "partitionKey"
    STREAM = "stream"
    STREAM_SUFFIX = "streamSuffix"
    HEADERS = "headers"


class Partitioner(StrEnum):
    """Which hash of a key decides the partition, by librdkafka's name of it."""

    CONSISTENT_RANDOM = "consistent_random"
    """CRC32, as the .NET client places records."""
    MURMUR2_RANDOM = "murmur2_random"
    """As Java's clients do."""


class Format(StrEnum):
    """What a Kafka message is made to be, beside the record it carries."""

    RAW = "raw"
    CLOUDEVENTS = "cloudevents"
    """A CloudEvent in binary mode: the same value, and headers beside the usual ones."""


class ErrorPolicy(StrEnum):
    """Our addition: what becomes of a record that can never be delivered (P5)."""

    STOP = "stop"
    DEAD_LETTER = "deadLetter"


class Guarantee(StrEnum):
    """Our addition `delivery:guarantee`: what a consumer may rely on."""

    AT_LEAST_ONCE = "atLeastOnce"
    EXACTLY_ONCE = "exactlyOnce"
    """One that reads with `isolation.level=read_committed` sees every record once, in order (P4)."""


class InitialPosition(StrEnum):
    LATEST = "latest"
    EARLIEST = "earliest"


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """Which records the connector delivers, the type inferred where none was given (contract §3)."""

    scope: Scope | None = None
    """None only without an expression: then all but system events. With a scope and no expression: those too."""
    type: FilterType | None = None
    """None where there is no expression."""
    expression: str = ""

    @property
    def stream_id(self) -> str:
        """The one stream that is delivered; empty for every other filter."""
        return self.expression if self.type is FilterType.STREAM_ID else ""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The alternatives of a prefix expression."""
        return tuple(part.strip() for part in self.expression.split(",") if part.strip())


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Where a record's partition key comes from (contract §5), and leads. Extraction that is off is `partitionKey`."""

    source: KeySource = KeySource.PARTITION_KEY
    expression: str = ""
    partitioner: Partitioner = Partitioner.CONSISTENT_RANDOM
    """Our addition `partitioner`."""

    @property
    def header_names(self) -> tuple[str, ...]:
        """The names in a `headers` expression, in its order."""
        return tuple(part.strip() for part in self.expression.split(",") if part.strip())

    def fingerprint(self) -> str:
        """A short text that differs where keys or their partitions may differ: the source, and what else decides."""
        text = str(self.source)
        match self.source:
            case KeySource.STREAM if self.expression:
                text += f"-{_digest(self.expression)}"
            case KeySource.HEADERS:
                text += f"-{_digest(self.header_names)}"
        return text if self.partitioner is Partitioner.CONSISTENT_RANDOM else f"{text}-{self.partitioner}"


@dataclass(frozen=True, slots=True)
class Autocommit:
    """When checkpoints are written (contract §7.2)."""

    enabled: bool = True
    interval_ms: int = 5000
    records_threshold: int = 1000


@dataclass(frozen=True, slots=True)
class Authentication:
    """How the connector shows itself to Kafka."""

    security_protocol: str = "PLAINTEXT"
    """librdkafka's name of it."""
    sasl_mechanism: str = "PLAIN"
    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    ssl_ca_location: str = ""
    """Our addition: a file of the CA certificates to trust, as the processes' machines have it. Empty: the system's."""

    @property
    def is_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL_")

    @property
    def is_tls(self) -> bool:
        return self.security_protocol.endswith("SSL")


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """Everything that a connector's settings say."""

    topic: str
    """A name, or our addition: a template that makes one for each record."""
    bootstrap_servers: str | None = None
    """None: the deployment's `KAFKA_BOOTSTRAP_SERVERS`, else `localhost:9092`."""
    filter: FilterSettings = FilterSettings()
    initial_position: InitialPosition = InitialPosition.LATEST
    key: KeySettings = KeySettings()
    wait_for_broker_ack: bool = False
    autocommit: Autocommit = Autocommit()
    ignore_system_headers: bool = True
    default_headers: Mapping[str, str] = field(default_factory=dict)
    authentication: Authentication = Authentication()
    compression_type: str = "zstd"
    compression_level: int = 6
    broker_address_family: str = "v4"
    reconnect_backoff_max_ms: int = 20_000
    message_send_max_retries: int = INT32_MAX
    logging_enabled: bool = True
    transform: str | None = None
    """JavaScript that has a function `transform`, not yet looked at; None where records stay as they are."""
    lanes: int | None = None
    """Our addition `lanes:count`. None: one for each partition of the topic, at most 64; with a template 32."""
    format: Format = Format.RAW
    """Our addition `format`."""
    trace_context: bool = False
    """Our addition `headers:traceContext`: whether the trace of an event goes on in headers of its message."""
    dead_letter_topic: str | None = None
    """Our addition: where records go that can never be delivered. None: they stop the connector."""
    guarantee: Guarantee = Guarantee.AT_LEAST_ONCE
    given_progress_topic: str = ""
    """Our addition `delivery:progressTopic`."""

    @property
    def exactly_once(self) -> bool:
        return self.guarantee is Guarantee.EXACTLY_ONCE

    @property
    def progress_topic(self) -> str:
        """The topic whose partition 0 the lanes' progress is committed for, where delivery is exactly once."""
        return self.given_progress_topic or self.topic

    @property
    def topic_is_template(self) -> bool:
        return topic_template.is_template(self.topic)

    def servers(self, deployment: str | None = None) -> str:
        """The brokers to connect to, where `deployment` names those of connectors that name none."""
        return self.bootstrap_servers or deployment or DEFAULT_SERVERS

    def producer_options(self, connector_id: str, deployment_servers: str | None = None) -> Discreet[str | int | bool]:
        """Every librdkafka option that the settings decide, and the fixed ones (contract §2.2)."""
        options: dict[str, str | int | bool] = {
            "bootstrap.servers": self.servers(deployment_servers),
            "client.id": connector_id,
            "security.protocol": self.authentication.security_protocol,
            "enable.idempotence": True,
            # The default of five minutes would end the retries, and with them the record, long before the documented
            # 2^31-1 are used up.
            "message.timeout.ms": 0,
            "message.send.max.retries": self.message_send_max_retries,
            # Lanes rely on it: `keys.placement` computes the same (design.md §2).
            "partitioner": str(self.key.partitioner),
            "compression.type": self.compression_type,
            "compression.level": self.compression_level,
            "broker.address.family": self.broker_address_family,
            "reconnect.backoff.max.ms": self.reconnect_backoff_max_ms,
            # librdkafka refuses one above the maximum; 100 is its default
            "reconnect.backoff.ms": min(100, self.reconnect_backoff_max_ms),
        }
        if self.authentication.is_sasl:
            options |= {
                "sasl.mechanism": self.authentication.sasl_mechanism,
                "sasl.username": self.authentication.username,
                "sasl.password": self.authentication.password.reveal(),
            }
        if self.authentication.is_tls and self.authentication.ssl_ca_location:
            options["ssl.ca.location"] = self.authentication.ssl_ca_location
        return Discreet(options)

    def key_fingerprint(self) -> str:
        """A short text of the key settings, for `Layout.keys`."""
        return self.key.fingerprint()

    def generation_fingerprint(self, deployment_servers: str | None = None) -> str:
        """A short text of the settings that decide what progress means: a start with another opens a generation (R3).

        `generation_changes` says which of them two such texts differ in.
        """
        servers = sorted(server.strip() for server in self.servers(deployment_servers).split(","))
        parts = {
            "filter": [self.filter.scope, self.filter.type, self.filter.expression],
            "topic": self.topic,
            "servers": servers,
            "keys": self.key_fingerprint(),
            "lanes": self.lanes,
        }
        if self.exactly_once:
            parts["guarantee"] = [self.guarantee, self.progress_topic]
        return " ".join(f"{name}={_digest(part)}" for name, part in parts.items())


def generation_changes(old: str, new: str) -> list[str]:
    """The names of what differs between two generation fingerprints: `filter`, `topic`, `servers`, `keys`, `lanes`,
    `guarantee`.
    """
    before = dict(part.split("=") for part in old.split())
    after = dict(part.split("=") for part in new.split())
    return [name for name in {**before, **after} if after.get(name) != before.get(name)]


def parse(settings: Mapping[str, str]) -> SinkSettings:
    """The value of `settings`. Raises InvalidSettings that names every fault under the documented key it is in."""
    reader = _Reader(settings)
    reader.instance_type()
    value = SinkSettings(
        topic=reader.topic(),
        bootstrap_servers=reader.text("bootstrapServers", check=_servers_fault) or None,
        filter=reader.filter(),
        initial_position=reader.one_of(
            "subscription:initialPosition", {each: each for each in InitialPosition}, InitialPosition.LATEST
        ),
        key=reader.key(),
        wait_for_broker_ack=reader.boolean("waitForBrokerAck", False),
        autocommit=Autocommit(
            enabled=reader.boolean("autocommit:enabled", True),
            interval_ms=reader.integer("autocommit:interval", 5000, 1, INT32_MAX),
            records_threshold=reader.integer("autocommit:recordsThreshold", 1000, 1, INT32_MAX),
        ),
        ignore_system_headers=reader.boolean("headers:ignoreSystem", True),
        default_headers=reader.default_headers(),
        authentication=reader.authentication(),
        compression_type=reader.one_of(
            "compression:type", {each: each for each in ("none", "gzip", "lz4", "zstd", "snappy")}, "zstd"
        ),
        compression_level=reader.integer("compression:level", 6, -1, 12),
        broker_address_family=reader.one_of("brokerAddressFamily", {each: each for each in ("any", "v4", "v6")}, "v4"),
        reconnect_backoff_max_ms=reader.integer("resilience:reconnectBackoffMaxMs", 20_000, 0, 3_600_000),
        message_send_max_retries=reader.integer("resilience:messageSendMaxRetries", INT32_MAX, 1, INT32_MAX),
        logging_enabled=reader.boolean("logging:enabled", True),
        transform=reader.transform(),
        lanes=reader.integer("lanes:count", 0, 1, 1024) or None,
        format=reader.one_of("format", {each: each for each in Format}, Format.RAW),
        trace_context=reader.boolean("headers:traceContext", False),
        dead_letter_topic=reader.dead_letter_topic(),
        guarantee=reader.guarantee(),
        given_progress_topic=reader.progress_topic(),
    )
    if reader.violations:
        raise InvalidSettings(reader.violations)
    return value


class _Reader:
    """Takes settings out of the map by their documented keys, and collects what is wrong with them."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._values = {key.lower(): value for key, value in settings.items()}
        self._settings = settings
        self.violations: dict[str, list[str]] = {}

    def fault(self, key: str, text: str) -> None:
        self.violations.setdefault(key, []).append(text)

    def text(self, key: str, check: Callable[[str], str | None] | None = None) -> str:
        value = self._values.get(key.lower(), "")
        if not value.strip():
            return ""
        if check and (fault := check(value)):
            self.fault(key, fault)
        return value

    def one_of(self, key: str, choices: Mapping[str, _T], default: _T) -> _T:
        value = self.text(key).strip()
        if not value:
            return default
        by_name = {name.lower(): choice for name, choice in choices.items()}
        if value.lower() not in by_name:
            self.fault(key, f"must be one of {', '.join(choices)}, not {value!r}")
            return default
        return by_name[value.lower()]

    def boolean(self, key: str, default: bool) -> bool:
        return self.one_of(key, {"true": True, "false": False}, default)

    def switch(self, key: str) -> bool:
        """Whether a part is on. Where that is faulty it may be meant to be on, and its own faults are said at once."""
        return self.boolean(key, False) or key in self.violations

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.text(key).strip()
        if not value:
            return default
        if not re.fullmatch(r"[+-]?\d{1,18}", value, re.ASCII):
            self.fault(key, f"must be a whole number, not {value!r}")
            return default
        if not low <= int(value) <= high:
            self.fault(key, f"must be between {low} and {high}, not {value}")
            return default
        return int(value)

    def instance_type(self) -> None:
        value = self.text("instanceTypeName")
        if not value:
            self.fault("instanceTypeName", f"is required; this server runs {TYPE_NAMES[0]}")
        elif value not in TYPE_NAMES:
            self.fault("instanceTypeName", f"must be one of {', '.join(TYPE_NAMES)} (case matters), not {value!r}")

    def topic(self) -> str:
        value = self.text("topic", check=_topic_or_template_fault)
        if not value:
            self.fault("topic", "is required: the Kafka topic to deliver to")
        return value

    def dead_letter_topic(self) -> str | None:
        policy = self.one_of("errors:policy", {each: each for each in ErrorPolicy}, ErrorPolicy.STOP)
        key = "errors:deadLetterTopic"
        topic = self.text(key, check=_topic_fault)
        if policy is ErrorPolicy.STOP:
            return None
        if not topic:
            self.fault(key, "is required when errors:policy is deadLetter: the Kafka topic for what is undeliverable")
        elif topic == self.text("topic"):
            self.fault(key, "must be another topic than `topic`")
        return topic

    def guarantee(self) -> Guarantee:
        key = "delivery:guarantee"
        guarantee = self.one_of(key, {each: each for each in Guarantee}, Guarantee.AT_LEAST_ONCE)
        if guarantee is Guarantee.EXACTLY_ONCE and not self.boolean("autocommit:enabled", True):
            self.fault(key, "must be atLeastOnce where autocommit:enabled is false: exactly once needs checkpoints")
        if guarantee is Guarantee.EXACTLY_ONCE and "{" in self.text("topic") and not self.text(PROGRESS_TOPIC_KEY):
            self.fault(
                PROGRESS_TOPIC_KEY,
                "is required where delivery is exactly once and the topic a template: a topic for the lanes' progress",
            )
        return guarantee

    def progress_topic(self) -> str:
        return self.text(PROGRESS_TOPIC_KEY, check=_topic_fault)

    def default_headers(self) -> dict[str, str]:
        prefix = "defaultheaders:"
        headers = {key[len(prefix) :]: value for key, value in self._settings.items() if key.lower().startswith(prefix)}
        for name in headers:
            if not name or _CONTROL.search(name):
                self.fault(f"defaultHeaders:{name}", "must name a header, without control characters")
        return headers

    def key(self) -> KeySettings:
        enabled = self.switch("partitionKeyExtraction:enabled")
        source = self.one_of(
            "partitionKeyExtraction:source", {each: each for each in KeySource}, KeySource.PARTITION_KEY
        )
        key = "partitionKeyExtraction:expression"
        partitioner = self.one_of("partitioner", {each: each for each in Partitioner}, Partitioner.CONSISTENT_RANDOM)
        settings = KeySettings(source, self.text(key), partitioner)
        if not enabled:
            return KeySettings(partitioner=partitioner)
        if source is KeySource.HEADERS and not settings.header_names:
            self.fault(key, "is required with the source headers: the names of metadata entries, separated by commas")
        if source is KeySource.STREAM and (problem := patterns.fault(settings.expression)):
            self.fault(key, f"is no regular expression to be used here: {problem}")
        return settings

    def filter(self) -> FilterSettings:
        scopes: dict[str, Scope | None] = {"unspecified": None, **{each: each for each in Scope}}
        scope = self.one_of("subscription:filter:scope", scopes, None)
        types: dict[str, str | None] = {
            "unspecified": None,
            **{each: str(each) for each in FilterType},
        }
        given = self.one_of("subscription:filter:filterType", types, None)
        key = "subscription:filter:expression"
        expression = self.text(key)
        if not expression:
            return FilterSettings(scope)
        chosen = given or _inferred_type(expression)
        if chosen == FilterType.JSON_PATH:
            if scope is Scope.STREAM:
                read_as = "" if given else " (the expression reads as a JSONPath; give its filterType if it is none)"
                self.fault("subscription:filter:scope", f"must be record with a jsonPath filter{read_as}")
            if problem := jsonpath.fault(expression):
                self.fault(key, f"is no JSONPath query (RFC 9535): {problem}")
            return FilterSettings(Scope.RECORD, FilterType.JSON_PATH, expression)
        if chosen == FilterType.STREAM_ID and scope is Scope.RECORD:
            self.fault("subscription:filter:scope", "must be stream with a streamId filter")
        settings = FilterSettings(scope or Scope.STREAM, FilterType(chosen), expression)
        if settings.type is FilterType.REGEX and (problem := patterns.fault(expression)):
            self.fault(key, f"is no regular expression to be used here: {problem}")
        if settings.type is FilterType.PREFIX and not settings.prefixes:
            self.fault(key, "needs at least one prefix between its commas")
        return settings

    def transform(self) -> str | None:
        if not self.switch("transformer:enabled"):
            return None
        encoded = "".join(self.text(FUNCTION_KEY).split())  # `base64` breaks lines, and the original takes them
        try:
            source = base64.b64decode(encoded, validate=True).decode("utf-8-sig")
        except UnicodeDecodeError:
            self.fault(FUNCTION_KEY, "must be JavaScript in UTF-8; once decoded, it is not")
            return None
        except ValueError:
            self.fault(FUNCTION_KEY, "must be in base64, as `base64 FILE.js` prints it")
            return None
        if not source.strip():
            self.fault(FUNCTION_KEY, "is required when transformer:enabled is true: JavaScript, in base64")
        return source

    def authentication(self) -> Authentication:
        protocols = {
            "plaintext": "PLAINTEXT",
            "saslPlaintext": "SASL_PLAINTEXT",
            "saslSsl": "SASL_SSL",
            "ssl": "SSL",  # undocumented, but the original's client takes it
        }
        mechanisms = {"plain": "PLAIN", "scramSha256": "SCRAM-SHA-256", "scramSha512": "SCRAM-SHA-512"}
        authentication = Authentication(
            security_protocol=self.one_of("authentication:securityProtocol", protocols, "PLAINTEXT"),
            sasl_mechanism=self.one_of("authentication:saslMechanism", mechanisms, "PLAIN"),
            username=self.text("authentication:username"),
            password=Secret(self._values.get(PASSWORD_KEY, "")),
            ssl_ca_location=self.text("authentication:sslCaLocation", check=_path_fault),
        )
        for key, value in (
            ("authentication:username", authentication.username),
            (PASSWORD_KEY, authentication.password.reveal()),
        ):
            if "\0" in value:
                self.fault(key, "must not contain NUL characters")
        if authentication.is_sasl:
            if not authentication.username:
                self.fault("authentication:username", "is required with a SASL protocol")
            if not authentication.password.reveal():
                self.fault(PASSWORD_KEY, "is required with a SASL protocol")
        return authentication


def _inferred_type(expression: str) -> str:
    """What an expression without a type is: JsonPath, else regex, else prefix (contract §3).

    A JSONPath query is `$` and then a segment; no useful regex begins so.
    """
    if re.match(r"\s*\$\s*([.\[]|$)", expression):
        return FilterType.JSON_PATH
    try:
        patterns.compiled(expression)
    except dialect.Unsupported:
        return (
            FilterType.REGEX
        )  # to the original it is one: to be refused, not to be taken for a prefix that matches nothing
    except ValueError:
        return FilterType.PREFIX
    return FilterType.REGEX


def _topic_fault(topic: str) -> str | None:
    if not topic_template.is_legal(topic):
        return f"must be a Kafka topic name: up to 249 letters, digits, `.`, `_` and `-`, not {topic!r}"
    return None


def _topic_or_template_fault(topic: str) -> str | None:
    if not topic_template.is_template(topic):
        return _topic_fault(topic)
    problem = topic_template.fault(topic)
    return None if problem is None else f"is no template for topic names: it {problem}"


def _path_fault(path: str) -> str | None:
    return "must be the path of a file, without control characters" if _CONTROL.search(path) else None


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SERVER = re.compile(r"([A-Za-z_]+://)?(\[[0-9A-Fa-f:.]+\]|[^\s,:/\[\]]+)(:\d{1,5})?")


def _servers_fault(servers: str) -> str | None:
    for server in servers.split(","):
        if not _SERVER.fullmatch(server.strip()):
            return f"must be HOST:PORT, several separated by commas, not {servers!r}"
    return None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
