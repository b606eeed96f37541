"""`sinkworker connectors …` over the API as it is served: what it prints, what it sends, how it exits."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

from sinkworker.cli import run
from sinkworker.config import Config
from tests.integration.api.original import PASSWORD, Original, serving
from tests.integration.kurrentdb.standin import StandIn
from tests.ports import free_port
from tests.processes import clean_environment, eventually, start_sinkworker

SETTINGS = {"instanceTypeName": "kafka-sink", "topic": "loans"}
TLS = Path(__file__).resolve().parents[1] / "kurrentdb" / "tls"
BODY = json.dumps({"settings": SETTINGS})


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert (self.code, self.err) == (0, "")
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def connectors(
    api: httpx.Client,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Command:
    """`sinkworker connectors` with these arguments, a text on standard input, and no terminal."""
    assert config.kurrentdb_uri is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SINKWORKER_API_URL", str(api.base_url))
    monkeypatch.setenv("KURRENTDB_URI", config.kurrentdb_uri.reveal())
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, stdin: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = run(["connectors", *arguments])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call


@pytest.fixture
def created(connectors: Command, connector_id: str) -> str:
    assert connectors("create", connector_id, stdin=BODY).code == 0
    return connector_id


def settings_of(api: httpx.Client, connector_id: str) -> dict[str, str]:
    return dict(api.get(f"/connectors/{connector_id}/settings").json()["settings"])


# creating, looking, changing


def test_a_body_from_a_file_becomes_a_connector(
    connectors: Command, connector_id: str, api: httpx.Client, tmp_path: Path
) -> None:
    configuration = {**SETTINGS, "waitForBrokerAck": True, "lanes": {"count": 6}}
    (tmp_path / "loans.json").write_text(json.dumps({"name": "Loans", "configuration": configuration}))
    said = connectors("create", connector_id, "loans.json")
    assert said == Said(0, f"Created {connector_id}, stopped.\n", "")
    assert settings_of(api, connector_id) == {**SETTINGS, "waitForBrokerAck": "True", "lanes:count": "6"}
    (row,) = [line for line in connectors("list").out.splitlines() if connector_id in line]
    assert row.split() == [connector_id, "Loans", "STOPPED"]


def test_what_the_api_refuses_has_a_line_for_each_fault(connectors: Command, connector_id: str) -> None:
    said = connectors("create", connector_id, "-", stdin='{"settings": {"topic": "a b", "lanes:count": "0"}}')
    sentence, *faults = said.err.splitlines()
    assert (said.code, said.out) == (2, "")
    assert sentence.startswith("Error: The API at http://127.0.0.1:")
    assert sorted(line.split(":")[0] for line in faults) == ["  instanceTypeName", "  lanes", "  topic"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("create", "{id}"), "exists already"),
        (("start", "nobodys-sink"), "Connector nobodys-sink does not exist"),
        (("show", "nobodys-sink"), "Connector nobodys-sink does not exist"),
        (("show", "a/../b"), "may have only letters"),
        (("rename", "{id}", "x"), "Name: must have 3 to 50 characters"),
        (("delete", "{id}"), "give --yes"),
        (("reconfigure", "{id}", "--set", "topic"), "'topic' is not KEY=VALUE"),
        (("reconfigure", "{id}", "-", "--set", "topic=x"), "not both"),
        (("preview", "-", "--id", "{id}"), "not both"),
        (("preview", "--id", "{id}", "--from", "soon"), "'soon' is neither earliest, latest nor a position"),
    ],
)
def test_what_cannot_be_done_says_why_and_exits_with_2(
    connectors: Command, created: str, arguments: tuple[str, ...], reason: str
) -> None:
    said = connectors(*(each.format(id=created) for each in arguments), stdin=BODY)
    assert (said.code, said.out) == (2, "")
    assert reason in said.err


def test_an_api_that_is_not_there_is_named_without_its_password_and_exits_with_3(connectors: Command) -> None:
    port = free_port()
    said = connectors("list", "--api", f"http://user:hunter2@127.0.0.1:{port}")
    assert (said.code, said.out) == (3, "")
    assert f"The API at http://127.0.0.1:{port} does not answer" in said.err
    assert "sinkworker api" in said.err
    assert "hunter2" not in said.err
    refused = connectors("list", "--api", "ftp://user:hunter2@db")
    assert (refused.code, "hunter2" in refused.err) == (2, False)


def test_the_list_is_whole_and_can_be_narrowed(
    connectors: Command, created: str, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinkworker.commands.api.PER_PAGE", 2)
    for number in range(4):
        api.post(f"/connectors/{created}-{number}", json={"settings": SETTINGS}).raise_for_status()
    ours = {created, *(f"{created}-{number}" for number in range(4))}
    assert ours <= {each["connectorId"] for each in connectors("list", "--json").json}
    assert connectors("start", f"{created}-1").code == 0
    asked = [argument for each in ours for argument in ("--id", each)]
    starting = connectors("list", "--json", "--state", "activating", *asked).json
    assert [each["connectorId"] for each in starting] == [f"{created}-1"]
    assert connectors("delete", f"{created}-0", "--yes").out == f"Deleted {created}-0.\n"
    assert len(connectors("list", "--json", *asked).json) == 4
    assert len(connectors("list", "--json", "--deleted", *asked).json) == 5
    assert connectors("list", *asked).out.splitlines()[0].split() == ["id", "name", "state", "position", "error"]


def test_settings_are_replaced_or_changed(connectors: Command, created: str, api: httpx.Client) -> None:
    said = connectors("reconfigure", created, "--set", "topic=loans-2", "--set", "_x=a=b")
    assert said.out == f"Changed topic, _x of {created}, from --set.\n"
    assert settings_of(api, created) == {**SETTINGS, "topic": "loans-2", "_x": "a=b"}
    assert "from a bare map" in connectors("reconfigure", created, stdin='{"_x": null, "lanes:count": 3}').out
    assert settings_of(api, created) == {**SETTINGS, "topic": "loans-2", "lanes:count": "3"}
    assert connectors("reconfigure", created, stdin=BODY).out.startswith("Replaced all settings")
    assert settings_of(api, created) == SETTINGS


def test_show_has_the_settings_as_given_or_what_they_come_to(
    connectors: Command, created: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    assert connectors("show", created, "--json").json["settings"] == SETTINGS
    table = connectors("show", created)
    assert (table.code, "instanceTypeName" in table.out, "STOPPED since" in table.out) == (0, True, True)
    effective = connectors("show", created, "--effective", "--json").json
    assert effective["producer"]["bootstrap.servers"] == "kafka.example:9092"
    assert (effective["producer"]["enable.idempotence"], effective["producer"]["client.id"]) == (True, created)
    assert effective["settings"]["subscription:initialPosition"] == "latest"
    assert "consistent_random" in connectors("show", created, "--effective").out


def test_waiting_ends_with_what_it_waits_for(connectors: Command, created: str) -> None:
    """No scheduler runs here that could start it."""
    said = connectors("start", created, "--wait", "--timeout", "0")
    assert (said.code, said.out) == (3, "")
    assert f"Connector {created} is ACTIVATING." in said.err
    assert connectors("stop", created, "--json").json["state"] == "CONNECTOR_STATE_DEACTIVATING"


# preview


def test_a_preview_is_what_the_workers_would_send(connectors: Command, stand_in: StandIn, connector_id: str) -> None:
    events = [
        NewEvent(type="LoanRequested", data=b'{"amount": 1}', metadata=b'{"tenant": "north"}'),
        NewEvent(type="LoanNoted", data=b"\x1b[31m\x07", content_type="application/octet-stream"),
        NewEvent(type="LoanScanned", data=b"\xff\x00", content_type="application/octet-stream"),
    ]
    with KurrentDBClient(stand_in.uri) as client:
        others = [NewEvent(type="Other", data=b"{}") for _ in range(5)]
        before = client.append_to_stream(f"x{connector_id}", current_version=StreamState.NO_STREAM, events=others)
        client.append_to_stream(f"{connector_id}-7", current_version=StreamState.NO_STREAM, events=events)
    settings = {
        **SETTINGS,
        "subscription:filter:filterType": "prefix",
        "subscription:filter:expression": connector_id,
        "partitionKeyExtraction:enabled": "true",
        "partitionKeyExtraction:source": "streamSuffix",
        "defaultHeaders:region": "eu",
    }
    body = json.dumps({"settings": settings})
    whole = connectors("preview", "--json", "--partitions", "5", stdin=body)
    assert (whole.code, whole.err) == (0, "That is all: 3 messages up to the end of the log.\n")
    first, second, third = map(json.loads, whole.out.splitlines())
    assert (first["topic"], first["key"], first["partition"]) == ("loans", "7", crc32(b"7") % 5)
    assert (first["value"], second["value"], third["valueBase64"]) == ('{"amount": 1}', "\x1b[31m\x07", "/wA=")
    assert first["headers"]["esdb-record-headers-tenant"] == "north"
    assert (first["headers"]["region"], first["headers"]["esdb-record-id"]) == ("eu", str(events[0].id))

    connectors("create", connector_id, stdin=body)
    after = connectors("preview", "--id", connector_id, "--from", str(first["record"]["position"]), "-n", "1")
    assert (after.code, after.err) == (0, "")
    assert "record   LoanNoted" in after.out
    assert "value    \\x1b[31m\\x07\n" in after.out
    assert f"esdb-connector-id: {connector_id}\n" in after.out
    middle = str(first["record"]["position"] + 1)  # no record's: what is at or before it is dropped all the same
    assert len(connectors("preview", "--json", "--from", middle, stdin=body).out.splitlines()) == 2
    of_stream = json.dumps(
        {
            **settings,
            "subscription:filter:filterType": "streamId",
            "subscription:filter:expression": f"{connector_id}-7",
        }
    )
    for position, count in ((second["record"]["position"], 1), (before, 3), (0, 3)):
        shown = connectors("preview", "--json", "--from", str(position), stdin=of_stream).out.splitlines()
        assert len(shown) == count


def test_a_preview_shows_what_would_be_a_dead_letter(connectors: Command, stand_in: StandIn, connector_id: str) -> None:
    events = [NewEvent(type="LoanRequested", data=b'{"number": %d}' % number) for number in range(3)]
    with KurrentDBClient(stand_in.uri) as client:
        client.append_to_stream(f"{connector_id}-7", current_version=StreamState.NO_STREAM, events=events)
    fails = b"function transform(record) { record.value.number === 1 ? null.x : (record.value = 7) }"
    settings = {
        **SETTINGS,
        "subscription:filter:expression": f"^{connector_id}",
        "transformer:enabled": "true",
        "transformer:function": base64.b64encode(fails).decode(),
        "errors:policy": "deadLetter",
        "errors:deadLetterTopic": "loans-dead",
    }
    shown = connectors("preview", "--json", "--partitions", "5", stdin=json.dumps({"settings": settings}))
    assert shown.code == 0
    first, dead, last = map(json.loads, shown.out.splitlines())
    assert (first["topic"], first["value"], last["topic"], last["value"]) == ("loans", "7", "loans", "7")
    assert (dead["topic"], dead["value"], "partition" in dead) == ("loans-dead", '{"number": 1}', False)
    assert dead["headers"]["sinkworker-error-code"] == "transform-failed"


def test_a_preview_shows_the_topic_that_a_template_names_for_each_record(
    connectors: Command, stand_in: StandIn, connector_id: str
) -> None:
    events = [NewEvent(type="T", data=b"{}", metadata=metadata) for metadata in (b'{"tenant": "north"}', b"{}")]
    with KurrentDBClient(stand_in.uri) as client:
        client.append_to_stream(f"{connector_id}-7", current_version=StreamState.NO_STREAM, events=events)
    filtered = {"subscription:filter:expression": f"^{connector_id}"}
    settings = {**SETTINGS, **filtered, "topic": "loans.{metadata.tenant}"}
    shown = connectors("preview", "--json", "--partitions", "5", stdin=json.dumps({"settings": settings}))
    first = json.loads(shown.out)
    assert (first["topic"], first["partition"]) == ("loans.north", crc32(f"{connector_id}-7".encode()) % 5)
    assert shown.code != 0
    assert f"Record {events[1].id} of stream" in shown.err
    assert "it has no {metadata.tenant}" in shown.err
    set_aside = {**settings, "errors:policy": "deadLetter", "errors:deadLetterTopic": "loans-dead"}
    lines = connectors("preview", "--json", stdin=json.dumps({"settings": set_aside})).out.splitlines()
    assert [json.loads(line)["topic"] for line in lines] == ["loans.north", "loans-dead"]


def test_a_preview_of_a_faulty_body_or_at_no_position_shows_nothing(connectors: Command) -> None:
    faulty = connectors("preview", stdin='{"settings": {"topic": "a b"}}')
    assert (faulty.code, faulty.out, len(faulty.err.splitlines())) == (2, "", 3)
    beyond = connectors("preview", "--from", str(2**60), stdin=BODY)
    assert (beyond.code, "beyond the end of the log" in beyond.err) == (2, True)


def test_ctrl_c_ends_a_preview_that_waits(stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "loans.json").write_text(BODY)
    arguments = ("connectors", "preview", "loans.json", "--from", "latest", "--json")
    environ = clean_environment(KURRENTDB_URI=stand_in.uri)
    process = start_sinkworker(*arguments, cwd=tmp_path, log=tmp_path / "err", environ=environ)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    with KurrentDBClient(stand_in.uri) as client:

        def shown() -> bytes:
            """The first message, of an event that came after the preview had begun."""
            client.append_to_stream(
                "Awaited-1", current_version=StreamState.ANY, events=NewEvent(type="Awaited", data=b"{}")
            )
            return (process.stdout.readline() if process.stdout else None) or b""

        line = eventually(shown, every_s=0.2)
    assert json.loads(line)["record"]["stream"] == "Awaited-1"
    process.send_signal(signal.SIGINT)
    process.wait(10)
    process.stdout.close()
    assert (process.returncode, (tmp_path / "err").read_text().strip()) == (130, "")


# import

SINK = {
    "instanceTypeName": "kafka-sink",
    "topic": "customers",
    "bootstrapServers": "localhost:9092",
    "subscription:filter:scope": "stream",
    "subscription:filter:expression": "example-stream",
    "subscription:initialPosition": "earliest",
}


@pytest.mark.parametrize("documented", [True, False], ids=["documented", "protocol"])
def test_originals_are_copied_and_the_others_are_not_kept_back(
    connectors: Command, connector_id: str, api: httpx.Client, documented: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinkworker.commands.api.PER_PAGE", 2)
    running = {"state": "CONNECTOR_STATE_RUNNING", "name": "Customers", "position": 16829}
    there: dict[str, dict[str, Any]] = {
        f"{connector_id}-a": {"settings": SINK, **running},
        f"{connector_id}-http": {"settings": {"instanceTypeName": "http-sink", "url": "http://x"}},
        f"{connector_id}-bad": {"settings": {**SINK, "topic": "a b", "lanes:count": "0"}},
        f"{connector_id}-b": {"settings": {**SINK, "instanceTypeName": "KafkaSink"}, "position": 7},
    }
    with serving(Original(there, documented)) as original:
        dry = connectors("import", "--from", original.url, "--dry-run")
        assert (dry.code, f"{connector_id}-a: would be created" in dry.out) == (2, True)
        assert "lanes:count: must be between" in dry.out
        assert connectors("list", "--id", f"{connector_id}-a", "--json").json == []

        said = connectors("import", "--from", original.url)
        again = connectors("import", "--from", original.url, "--id", f"{connector_id}-a", "--json")
    assert (said.code, said.err) == (2, "")
    assert f"{connector_id}-http" not in said.out
    assert "  topic: must be a Kafka topic name" in said.out
    assert f"-X POST http://127.0.0.1:{original.port}/connectors/{connector_id}-a/stop" in said.out
    assert f"sinkworker connectors start {connector_id}-a --position P" in said.out
    assert f"sinkworker connectors start {connector_id}-b --position 7" in said.out
    assert not any(secret in said.out + again.out for secret in (PASSWORD, "change%3Ait"))
    assert not any(request.startswith("POST") for request in original.asked)
    assert (again.code, json.loads(again.out)[0]["outcome"]) == (2, "exists already")

    (copy,) = api.get("/connectors", params={"connectorId": f"{connector_id}-a"}).json()["items"]
    assert (copy["state"], copy["name"]) == ("CONNECTOR_STATE_STOPPED", "Customers")
    assert settings_of(api, f"{connector_id}-a") == SINK


def test_of_originals_only_those_named_are_copied(connectors: Command, connector_id: str) -> None:
    there: dict[str, dict[str, Any]] = {f"{connector_id}-{name}": {"settings": SINK} for name in "ab"}
    with serving(Original(there)) as original:
        asked = ("import", "--from", original.url, "--suffix=-sw", "--id", f"{connector_id}-a")
        (copied,) = connectors(*asked, "--json").json
        missing = connectors(*asked, "--id", "nobodys-sink")
    assert (copied["outcome"], copied["connectorId"]) == ("created", f"{connector_id}-a-sw")
    assert (missing.code, "There is no Kafka sink nobodys-sink" in missing.out) == (2, True)


def test_an_id_that_the_database_itself_uses_needs_a_suffix(
    connectors: Command, connector_id: str, stand_in: StandIn
) -> None:
    with KurrentDBClient(stand_in.uri) as client:
        event = NewEvent(type="$conn-mngt-connector-created", data=b"{}")
        client.append_to_stream(f"$connectors/{connector_id}", current_version=StreamState.NO_STREAM, events=event)
    with serving(Original({connector_id: {"settings": SINK}})) as original:
        refused = connectors("import", "--from", original.url)
        copied = connectors("import", "--from", original.url, "--suffix=-sw")
    assert (refused.code, "give --suffix" in refused.err) == (2, True)
    assert (copied.code, f"connectors start {connector_id}-sw" in copied.out) == (0, True)


def test_an_original_that_does_not_let_us_in_is_named_without_the_password(connectors: Command) -> None:
    with serving(Original({})) as original:
        refused = connectors("import", "--from", original.url.replace("change", "hunter2"))
        empty = connectors("import", "--from", original.url)
    assert refused.code == 3
    assert f"KurrentDB at http://127.0.0.1:{original.port} refuses the credentials" in refused.err
    assert "hunter2" not in refused.err
    assert (empty.code, "no Kafka sinks" in empty.err) == (0, True)


def test_a_private_authority_is_trusted_where_it_is_named(connectors: Command) -> None:
    with serving(Original({}), TLS / "server.pem") as original:
        url = original.url.replace("http://", "https://")
        strange = connectors("import", "--from", url)
        trusted = connectors("import", "--from", url, "--ca", str(TLS / "ca.pem"))
    assert (strange.code, "--ca FILE" in strange.err, PASSWORD in strange.err) == (3, True, False)
    assert (trusted.code, "no Kafka sinks" in trusted.err) == (0, True)
    no_certificates = connectors("list", "--ca", str(TLS / "README.md"))
    assert (no_certificates.code, "no certificates that can be read" in no_certificates.err) == (2, True)


def test_no_output_of_an_import_shows_a_password_of_the_settings(connectors: Command, connector_id: str) -> None:
    """The API of these tests has no token to encrypt it with, and so refuses it."""
    authentication = {"securityProtocol": "saslSsl", "username": "loans", "password": "hunter2"}
    settings = {**SINK, **{f"authentication:{key}": value for key, value in authentication.items()}}
    with serving(Original({connector_id: {"settings": settings}})) as original:
        dry = connectors("import", "--from", original.url, "--dry-run", "--json")
        refused = connectors("import", "--from", original.url)
    assert (dry.json[0]["outcome"], refused.code) == ("would be created", 2)
    assert "authentication:password" in refused.out
    assert "hunter2" not in f"{dry} {refused}"
