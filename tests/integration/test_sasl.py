"""Connectors that log in to Apache Kafka, with the right password and with a wrong one; and where those passwords are.

A54: every mechanism over plaintext and TLS. A57: no password in plain text in what is stored, sent, logged or shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public names, but the package has no __all__
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from sinkworker.connectors.lifecycle import State
from sinkworker.connectors.registry import Registry
from sinkworker.connectors.vault import Protection
from sinkworker.errors import SinkworkerError
from tests.apache_kafka import PASSWORD, ApacheKafka, running
from tests.ports import free_port
from tests.processes import eventually
from tests.secrets import Overheard, assert_clean, events, everything, flower_answers
from tests.system import Flow, System

pytestmark = pytest.mark.long

TOKEN = "the token of these tests"
WRONG = "not-the-right-one-at-all"
SECRETS = (PASSWORD, WRONG, TOKEN)

PROTOCOLS = ("saslPlaintext", "saslSsl")
MECHANISMS = ("plain", "scramSha256", "scramSha512")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    with running(tmp_path_factory.mktemp("apache-kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the system: the database's and Redis's files, the logs of every role, and nothing of Kafka's."""
    return tmp_path_factory.mktemp("system")


@pytest.fixture(scope="module")
def system(folder: Path, kafka: ApacheKafka) -> Iterator[System]:
    with System(
        folder,
        KAFKA_BOOTSTRAP_SERVERS=kafka.servers,
        SINKWORKER_DATA_PROTECTION_TOKEN=TOKEN,
        SINKWORKER_LOG_LEVEL="DEBUG",
    ) as running:
        yield running


def refused(flow: Flow, code: str = "kafka-authentication") -> str:
    """Wait until the connector has stopped for a reason of that code; the reason."""
    eventually(lambda: flow.connector.error is not None and flow.connector.state is State.STOPPED, within_s=30)
    error = flow.connector.error
    assert error is not None
    assert error.code == code
    return error.message


@pytest.mark.check("A54")
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_right_password_delivers(system: System, kafka: ApacheKafka, protocol: str, mechanism: str) -> None:
    flow = system.flow(**kafka.access(protocol, mechanism))
    flow.append(50)
    assert flow.delivered().holds
    flow.stop()


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_password_stops_the_connector_and_says_so(
    system: System, kafka: ApacheKafka, protocol: str, mechanism: str
) -> None:
    flow = system.flow(**kafka.access(protocol, mechanism, WRONG))
    assert "SASL authentication error" in refused(flow)
    system.registry.reconfigure(flow.id, {"authentication:password": PASSWORD})
    flow.append(10)
    flow.start()
    assert flow.delivered().holds
    flow.stop()


def test_a_password_that_is_changed_under_a_connector_stops_it(system: System, kafka: ApacheKafka) -> None:
    """The worker meets it, which has a producer already: at its next connection."""
    _set_password(system.admin, "clerk", PASSWORD)
    flow = system.flow(**{**kafka.access("saslSsl", "scramSha512"), "authentication:username": "clerk"})
    flow.append(10)
    assert flow.delivered().holds
    _set_password(system.admin, "clerk", "another")
    kafka.stop()
    kafka.start()
    flow.append(10)
    assert "SASL authentication error" in refused(flow)
    system.registry.reconfigure(flow.id, {"authentication:password": "another"})
    flow.start()
    assert flow.delivered().holds
    flow.stop()


def _set_password(admin: AdminClient, user: str, password: str) -> None:
    information = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    change = UserScramCredentialUpsertion(user, information, password.encode())
    for done in admin.alter_user_scram_credentials([change]).values():
        done.result(10)


def test_tls_without_a_password_delivers(system: System, kafka: ApacheKafka) -> None:
    flow = system.flow(**kafka.access("ssl"))
    flow.append(10)
    assert flow.delivered().holds
    flow.stop()


def test_a_broker_of_an_unknown_ca_is_refused(system: System, kafka: ApacheKafka) -> None:
    flow = system.flow(**{**kafka.access("saslSsl"), "authentication:sslCaLocation": ""})
    assert "certificate" in refused(flow)


def test_a_ca_file_that_is_not_there_is_named(system: System, kafka: ApacheKafka) -> None:
    flow = system.flow(**{**kafka.access("saslSsl"), "authentication:sslCaLocation": "/nowhere/ca.pem"})
    reason = refused(flow, "kafka-settings")
    assert "/nowhere/ca.pem of `authentication:sslCaLocation` cannot be read here" in reason


@pytest.mark.parametrize("role", ["scheduler", "worker-0"])
def test_a_process_without_the_token_stops_the_connector_and_says_so(
    system: System, kafka: ApacheKafka, role: str
) -> None:
    """One of another token as well: the words are held in `tests/integration/api`."""
    roles = [system.roles["scheduler"]] if role == "scheduler" else system.workers
    with without_token(system, role):
        for each in roles:
            assert each.stop() == 0
        flow = system.flow(**kafka.access("saslPlaintext"))
        flow.append(10)
        assert "this process has no token" in refused(flow, "secrets-unreadable")
    for each in roles:
        each.start()
    flow.start()
    assert flow.delivered().holds
    flow.stop()


@contextlib.contextmanager
def without_token(system: System, role: str) -> Iterator[None]:
    """Inside, a process of that role runs that was given no token."""
    argv = ["sinkworker", "scheduler"] if role == "scheduler" else ["celery", "-A", "tasks", "worker"]
    process = system.another(f"{role}-without-token", argv, SINKWORKER_DATA_PROTECTION_TOKEN="")
    process.start()
    try:
        eventually(process.ready, within_s=30)
        yield
        assert process.stop() == 0
    finally:
        process.destroy()


@pytest.mark.check("A54")  # its connector is created over HTTP, and delivers with SCRAM-SHA-256 over TLS
@pytest.mark.check("A57")
def test_no_secret_is_anywhere_in_plain_text(system: System, kafka: ApacheKafka, folder: Path) -> None:
    """After a whole life: created, refused, corrected, delivering, listed, read, stopped, deleted; all at DEBUG."""
    port, flower_port = free_port(), free_port()
    flower_argv = ["celery", "-A", "tasks", "flower", "--address=127.0.0.1", f"--port={flower_port}"]
    api = system.another("api", ["sinkworker", "api"], SINKWORKER_API_PORT=str(port))
    flower = system.another("flower", flower_argv, FLOWER_UNAUTHENTICATED_API="true")
    sent = Overheard(system.redis)
    try:
        for role in (api, flower):
            role.start()
        eventually(lambda: api.said("listening on"), within_s=30)
        eventually(lambda: flower.said("Connected to"), within_s=30)
        with sent, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            answers = a_whole_life(system, kafka, client)
            tasks = eventually(lambda: flower_answers(flower_port, "SUCCESS"))
    finally:
        for role in (api, flower):
            role.destroy()
    assert_clean("answers of the API", answers, SECRETS)
    assert_clean("Flower", tasks, SECRETS)
    assert_clean("commands to Redis", "\n".join(sent.commands), SECRETS)
    assert sum("ack" in each or "EVALSHA" in each for each in sent.commands) > 3, "nothing was overheard"
    assert_clean("keys and values of Redis", repr(list(everything(system.redis))), SECRETS)
    stored = events(system.client)
    assert any("authentication:password" in event for event in stored), "the settings are not among the events"
    assert_clean("events", "\n".join(stored), SECRETS)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"scheduler.log", "worker-0.log", "another-api.log", "another-flower.log"} <= {path.name for path in files}
    for path in files:
        for secret in SECRETS:
            assert secret.encode() not in path.read_bytes(), path


def a_whole_life(system: System, kafka: ApacheKafka, client: httpx.Client) -> str:
    """Of a connector with a wrong password, then the right one. What the API answered that is not to show it."""
    flow = Flow(system, system.topic())
    body = {
        "instanceTypeName": "kafka-sink",
        "topic": flow.topic,
        "subscription:initialPosition": "earliest",
        "subscription:filter:scope": "stream",
        "subscription:filter:filterType": "prefix",
        "subscription:filter:expression": f"{flow.prefix}-",
        "autocommit:interval": "300",
        **kafka.access("saslSsl", "scramSha256", WRONG),
    }
    path = f"/connectors/{flow.id}"
    spoilt = body | {"authentication:saslMechanism": "none", "compression:level": "99", "lanes:count": "x"}
    answers = [
        client.post(path, json={"settings": spoilt}),
        client.post(path, json={"settings": body}),
        client.post(path, json={"settings": body}),
        client.post(f"{path}/start"),
    ]
    message = refused(flow)
    answers.append(client.get("/connectors"))
    answers.append(client.put(path, json={"authentication:password": PASSWORD}))
    answers.append(client.post(f"{path}/start"))
    flow.append(50)
    assert flow.delivered().holds
    answers.append(client.get("/connectors"))
    assert client.get(f"{path}/settings").json()["settings"]["authentication:password"] == PASSWORD
    shown, active = system.registry.shown_settings(flow.connector), system.registry.active_settings(flow.connector)
    for each in (flow.connector, shown, active, active.producer_options(flow.id), vars(system.registry)):
        assert_clean("repr", repr(each), SECRETS)
    flow.stop()
    with pytest.raises(SinkworkerError) as raised:
        Registry(system.database, Protection()).active_settings(flow.connector)
    answers.append(client.delete(path))
    assert [each.status_code for each in answers] == [400, 200, 409, 200, 200, 200, 200, 200, 200]
    return "\n".join([message, str(raised.value), *(each.text for each in answers)])
