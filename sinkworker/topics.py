"""What the scheduler and the workers have to know of a topic before they use it."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public names, but the package has no __all__
    AdminClient,
    ConfigResource,
    NewTopic,
    TopicDescription,
    TopicMetadata,
)

from sinkworker.bell import pause
from sinkworker.errors import LIMITS, Exhausted, Invalid, KafkaUnavailable, Misconfigured, exhausted
from sinkworker.outgoing import REFUSALS, refuses

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default of the topic setting `max.message.bytes`, for brokers that do not show it."""

ANSWER_TIMEOUT_S = 2.5
CREATION_TIMEOUT_S = 10.0

REFUSED_PATIENCE_S = 1.0
"""How long connections are tried that every broker refuses."""

MISSING_PATIENCE_S = 2.0
"""How long a topic may be unknown before it is missing, or as long as an answer may take if that is less."""

DESCRIPTORS = 8
"""A client's at first: for each of a few brokers a socket and a pipe."""

CRITICAL_ONLY = 2
"""librdkafka's own log lines below this syslog level repeat what its errors tell us."""

_UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
_CLIENT_OPTIONS = ("bootstrap.servers", "security.protocol", "broker.address.family", "client.id")
_LOG = logging.getLogger("sinkworker.librdkafka")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as its brokers describe it."""

    name: str
    partitions: int
    max_message_bytes: int


class Brokers:
    """A connector's brokers as they are asked about topics, over a connection that lasts as long as this."""

    def __init__(self, options: Mapping[str, Any], timeout_s: float = 5.0) -> None:
        """`options` are the producer's. Raises Misconfigured where nothing can be begun with them."""
        self._servers = options["bootstrap.servers"]
        self._timeout_s = timeout_s
        self._faults: list[KafkaError] = []
        """The connection's errors during a question."""
        self._options = options
        self._admin = _admin(options, self._faults)
        self._unanswered = False

    def check(self) -> None:
        """Whether they answer. Raises Unavailable without an answer, Misconfigured without access."""
        self._forget()
        try:
            _listed(self._admin, self._faults, self._timeout_s)
        except KafkaException as exc:
            raise self._translated(exc) from exc

    def topic(self, name: str) -> Topic:
        """Raises Unavailable without an answer, Misconfigured without a topic or access to it.

        A missing topic is left to the brokers to create where their `auto.create.topics.enable` says so, as it would
        be for any producer.
        """
        self._forget()
        admin, timeout_s = self._admin, self._timeout_s
        try:
            found = _found(admin, self._faults, name, timeout_s)
            if found is None and _broker_creates_topics(admin, timeout_s):
                found = admin.list_topics(name, timeout=timeout_s).topics.get(name)
            if found is None:
                _check_access(admin, name, timeout_s)
        except KafkaException as exc:
            raise self._translated(exc) from exc
        _check_found(name, found, self._servers)
        assert found is not None
        return Topic(name, len(found.partitions), _max_message_bytes(admin, name, timeout_s))

    def topic_id(self, name: str) -> str:
        """What the brokers called the topic by when it was created; empty where they give it no id.

        Raises Unavailable without an answer, Misconfigured where there is no such topic.
        """
        self._forget()
        try:
            found = _described(self._admin, name, self._timeout_s)
        except KafkaException as exc:
            code = exc.args[0].code()
            if code in _UNKNOWN:
                raise _missing(name, self._servers) from exc
            if code == KafkaError._UNSUPPORTED_FEATURE:
                return ""
            raise self._translated(exc) from exc
        except TimeoutError as exc:
            self._unanswered = True
            raise KafkaUnavailable(f"Kafka at {self._servers} does not describe the topic {name!r}.") from exc
        return "" if found.topic_id is None else str(found.topic_id)

    def offsets_retention_s(self) -> float | None:
        """How long the brokers keep a group's offset after its last commit; None where they do not say."""
        try:
            minutes = _broker_settings(self._admin, self._timeout_s).get("offsets.retention.minutes")
        except KafkaException:
            return None
        return None if minutes is None else int(minutes) * 60.0

    def _forget(self) -> None:
        """What went wrong between two questions says nothing about the next. A connection that has brought no answer is
        not used again: the client library would wait a minute for what leads nowhere any more.
        """
        if self._unanswered:
            self._admin = _admin(self._options, self._faults)
            self._unanswered = False
        self._admin.poll(0)
        self._faults.clear()

    def _translated(self, exc: KafkaException) -> KafkaUnavailable | Misconfigured:
        self._admin.poll(0)
        found = _translated(exc.args[0], self._faults, self._servers)
        self._unanswered = isinstance(found, KafkaUnavailable)
        return found


def client_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a producer's options those that any client takes: where the brokers are and how to come in."""
    return {key: value for key, value in options.items() if key in _CLIENT_OPTIONS or key.startswith(("sasl.", "ssl."))}


def create_topic(name: str, partitions: int, servers: str) -> None:
    """Create a topic with the brokers' own default replication.

    Raises Invalid when it exists or the brokers find it wrong, Unavailable without an answer, Misconfigured for a
    refusal.
    """
    admin = AdminClient({"bootstrap.servers": servers, "log_level": CRITICAL_ONLY}, logger=_LOG)
    try:
        # Whether anyone is there at all is known long before it is known that a topic cannot be created.
        admin.list_topics(timeout=ANSWER_TIMEOUT_S)
        (future,) = admin.create_topics([NewTopic(name, partitions)], request_timeout=CREATION_TIMEOUT_S).values()
        future.result()
    except KafkaException as exc:
        error: KafkaError = exc.args[0]
        if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            raise Invalid(f"The topic {name!r} exists already.", hint="Nothing was changed.") from exc
        if error.code() in (KafkaError.TOPIC_EXCEPTION, KafkaError._INVALID_ARG, KafkaError.INVALID_PARTITIONS):
            raise Invalid(f"The topic {name!r} cannot be created: {error.str()}.") from exc
        if error.code() < 0:  # the client library's own: no broker has said anything
            raise KafkaUnavailable(
                f"Kafka at {servers} does not answer ({error.str()}).",
                hint="Check KAFKA_BOOTSTRAP_SERVERS and that the brokers run.",
            ) from exc
        raise Misconfigured(f"Kafka at {servers} refuses to create the topic {name!r}: {error.str()}.") from exc


def _admin(options: Mapping[str, Any], faults: list[KafkaError]) -> AdminClient:
    """A client with a producer's options, which adds its errors to `faults`."""
    client: dict[str, Any] = {**client_options(options), "error_cb": faults.append, "log_level": CRITICAL_ONLY}
    with making_a_client(options):
        return AdminClient(client, logger=_LOG)


@contextlib.contextmanager
def making_a_client(options: Mapping[str, Any]) -> Iterator[None]:
    """Inside a client is made with these options.

    Raises Exhausted where this machine has no room for its threads or files, Misconfigured for the options.
    """
    _check_descriptors()
    try:
        yield
    except KafkaException as exc:
        error: KafkaError = exc.args[0]
        # The client library has a code for threads, but does not use it in all places.
        if error.code() == KafkaError._CRIT_SYS_RESOURCE or "thread" in error.str():
            raise Exhausted(f"This machine has no room for a Kafka client: {error.str()}.", hint=LIMITS) from exc
        raise _unusable(error, options.get("ssl.ca.location")) from exc


def _check_descriptors() -> None:
    """The client library goes on without the pipes that wake its threads: then it only says that no broker answers, and
    may not even end.
    """
    with contextlib.ExitStack() as taken:
        try:
            for _ in range(DESCRIPTORS // 2):
                for descriptor in os.pipe():
                    taken.callback(os.close, descriptor)
        except OSError as exc:
            raise exhausted(exc) or exc from exc


def _unusable(error: KafkaError, ca_location: str | None) -> Exhausted | Misconfigured:
    """Options that the client library cannot begin anything with, the file of certificates before all."""
    message = f"The Kafka client cannot be made: {error.str()}."
    hint = ""
    if ca_location is not None and "ssl.ca.location" in error.str():
        fault = "holds no CA certificate in PEM"
        try:
            Path(ca_location).open("rb").close()
        except OSError as exc:
            if (shortage := exhausted(exc)) is not None:
                return shortage
            fault = f"cannot be read here: {exc.strerror}"
        message = f"The file {ca_location} of `authentication:sslCaLocation` {fault}."
        hint = "Every machine with a scheduler or a worker needs it."
    return Misconfigured(message, hint=hint, code="kafka-settings")


def _translated(error: KafkaError, faults: list[KafkaError], servers: str) -> KafkaUnavailable | Misconfigured:
    refused = [fault for fault in faults if refuses(fault)]
    if len(refused) >= REFUSALS:
        return Misconfigured(
            f"Kafka at {servers} refuses the connection: {refused[0].str()}.",
            hint="Check the connector's `authentication:` settings.",
            code="kafka-authentication",
        )
    return KafkaUnavailable(
        f"Kafka at {servers} does not answer ({error.str()}).",
        hint="Check `bootstrapServers` and that the brokers run.",
    )


def _found(admin: AdminClient, faults: list[KafkaError], name: str, timeout_s: float) -> TopicMetadata | None:
    """The topic's metadata; None where the brokers do not know it for a while: one that starts learns of it late."""
    topics = _listed(admin, faults, timeout_s)
    deadline = time.monotonic() + min(MISSING_PATIENCE_S, timeout_s)
    while (found := topics.get(name)) is None and time.monotonic() < deadline:
        pause(0.2)
        topics = admin.list_topics(timeout=timeout_s).topics
    return found


def _listed(admin: AdminClient, faults: list[KafkaError], timeout_s: float) -> dict[str, TopicMetadata]:
    """All topics. Gives up early where no broker lets us connect at all: librdkafka by itself would wait on."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return admin.list_topics(timeout=min(REFUSED_PATIENCE_S, timeout_s)).topics
        except KafkaException:
            admin.poll(0)
            refusals = sum(map(refuses, faults))
            nobody = not refusals and any(fault.code() == KafkaError._ALL_BROKERS_DOWN for fault in faults)
            if nobody or refusals >= REFUSALS or time.monotonic() >= deadline:
                raise


def _described(admin: AdminClient, name: str, timeout_s: float) -> TopicDescription:
    """The topic as described; see `_found`. Raises KafkaException, TimeoutError."""
    deadline = time.monotonic() + min(MISSING_PATIENCE_S, timeout_s)
    while True:
        (future,) = admin.describe_topics(TopicCollection([name]), request_timeout=timeout_s).values()
        try:
            return future.result(timeout_s + 1)  # type: ignore[no-any-return]
        except KafkaException as exc:
            if exc.args[0].code() not in _UNKNOWN or time.monotonic() > deadline:
                raise
        pause(0.2)


def _check_access(admin: AdminClient, name: str, timeout_s: float) -> None:
    """Raises Misconfigured for a topic that the user may not describe: a list of all topics leaves it out."""
    try:
        admin.describe_topics(TopicCollection([name]), request_timeout=timeout_s)[name].result()
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise _forbidden(name) from exc


def _forbidden(name: str) -> Misconfigured:
    return Misconfigured(
        f"The topic {name!r} may not be used with these credentials.",
        hint="Grant the user Describe and Write on it.",
        code="topic-authorization",
    )


def _check_found(name: str, found: TopicMetadata | None, servers: str) -> None:
    if found is not None and found.error is not None:
        code = found.error.code()
        if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise _forbidden(name)
        if code not in _UNKNOWN:
            raise KafkaUnavailable(f"Kafka at {servers} cannot describe the topic {name!r}: {found.error.str()}.")
        found = None
    if found is None or not found.partitions:
        raise _missing(name, servers)


def _missing(name: str, servers: str) -> Misconfigured:
    """That a topic does not exist."""
    return Misconfigured(
        f"The topic {name!r} does not exist on Kafka at {servers}.",
        hint="Create it (its partition count decides how far deliveries spread), then start the connector again.",
        code="topic-missing",
    )


def _broker_creates_topics(admin: AdminClient, timeout_s: float) -> bool:
    return _broker_settings(admin, timeout_s).get("auto.create.topics.enable") == "true"


def _broker_settings(admin: AdminClient, timeout_s: float) -> dict[str, str]:
    """Those of one of the brokers; see `_settings`."""
    brokers = list(admin.list_topics(timeout=timeout_s).brokers)
    if not brokers:
        return {}
    return _settings(admin, ConfigResource(ConfigResource.Type.BROKER, str(brokers[0])), timeout_s)


def _max_message_bytes(admin: AdminClient, name: str, timeout_s: float) -> int:
    settings = _settings(admin, ConfigResource(ConfigResource.Type.TOPIC, name), timeout_s)
    return int(settings.get("max.message.bytes") or DEFAULT_MAX_MESSAGE_BYTES)


def _settings(admin: AdminClient, resource: ConfigResource, timeout_s: float) -> dict[str, str]:
    """A resource's settings; empty where the broker does not know the call or the user may not make it."""
    try:
        (future,) = admin.describe_configs([resource], request_timeout=timeout_s).values()
        return {key: entry.value for key, entry in future.result(timeout_s).items()}
    except (KafkaException, TimeoutError):
        return {}
