"""Bodies as files have them: read in every shape, every fault found without a server, what is meant made explicit."""

from __future__ import annotations

import ast
import base64
import json
from pathlib import Path

import pytest

from sinkworker.cli import run
from sinkworker.commands import effective
from sinkworker.commands.bodies import Body, Shape, parsed
from sinkworker.commands.validation import KNOWN, examine
from sinkworker.connectors import settings as settings_module
from sinkworker.connectors.settings import parse
from sinkworker.errors import Invalid

SETTINGS = {"instanceTypeName": "kafka-sink", "topic": "loans"}
FLAT = {**SETTINGS, "waitForBrokerAck": "true", "lanes:count": "6"}


def body(**members: object) -> Body:
    return parsed(json.dumps(members).encode(), "The body")


@pytest.mark.parametrize(
    ("members", "shape"),
    [
        ({**SETTINGS, "waitForBrokerAck": True, "lanes:count": 6}, Shape.BARE),
        ({"settings": FLAT}, Shape.SETTINGS),
        ({"SETTINGS": FLAT, "configuration": {}}, Shape.SETTINGS),
        ({"configuration": {**SETTINGS, "waitForBrokerAck": "true", "lanes": {"count": 6}}}, Shape.CONFIGURATION),
    ],
)
def test_every_documented_shape_is_understood(members: dict[str, object], shape: Shape) -> None:
    read = body(**members)
    assert (read.given, read.shape, read.faults) == (FLAT, shape, {})


def test_a_function_that_cannot_be_used_is_a_fault() -> None:
    function = base64.b64encode(b"function transformer(record) {}").decode()
    found = examine(body(**SETTINGS, **{"transformer:enabled": True, "transformer:function": function}))
    assert "no function named `transform`" in found.violations["transformer:function"][0]
    assert found.settings is None


def test_a_number_stays_as_it_is_written() -> None:
    assert parsed(b'{"topic": 1.50, "_x": 1e3}', "The body").settings == {"topic": "1.50", "_x": "1e3"}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"settings":\n  {"topic" 1}}', "line 2, column 12"),
        (b"", "is empty"),
        (b"[]", "must hold a JSON object, not an array"),
        (b'{"settings": "x"}', "`settings` must be a JSON object"),
        (b'{"settings": {}, "name": 5}', "`name` must be a text"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": "\xff"}', "is no UTF-8 text: byte 7"),
        (b'{"a": "\\ud800"}', "is no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * 300_000, "larger than 256 KiB"),
    ],
)
def test_what_is_no_body_is_refused_with_the_place(raw: bytes, reason: str) -> None:
    with pytest.raises(Invalid, match=r"^The body") as raised:
        parsed(raw, "The body")
    assert reason in str(raised.value)


def test_every_fault_is_found_at_once() -> None:
    found = examine(body(name="x", settings={"topic": "a b", "waitForBrokerAck": "maybe", "nested": {"a": 1}}))
    assert found.settings is None
    assert found.violations.keys() == {"Name", "instanceTypeName", "topic", "waitForBrokerAck", "nested"}


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("partitionKeyExtracton:source", "partitionKeyExtraction:source"),
        ("subscription:filter:filtertyp", "subscription:filter:filterType"),
        ("defaultHeader:region", "defaultHeaders:region"),
        ("topics", "topic"),
    ],
)
def test_a_key_that_looks_misspelled_is_asked_about(key: str, meant: str) -> None:
    (warning,) = examine(body(**SETTINGS, **{key: "x"})).warnings
    assert warning.startswith(f"{key} is no setting")
    assert warning.endswith(f"did you mean {meant}?")


@pytest.mark.parametrize("key", ["_topics", "defaultHeaders:topic", "resilience:enabled", "TOPIC_OF_INTEREST", "mine"])
def test_a_key_that_may_well_be_meant_is_not(key: str) -> None:
    assert examine(body(**SETTINGS, **{key: "x"})).warnings == []


def test_a_key_that_is_given_twice_is_told() -> None:
    assert examine(body(**SETTINGS, Topic="other")).warnings == [
        "Topic is topic again: keys are case-insensitive, and the last one counts."
    ]


def test_every_key_that_is_parsed_is_known_here() -> None:
    """One that is missing in KNOWN would itself be taken for a misspelling, and never be offered for one."""
    tree = ast.parse(Path(settings_module.__file__).read_text(encoding="utf-8"))
    methods = {"text", "one_of", "boolean", "integer"}
    read = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods
        if node.args and isinstance(node.args[0], ast.Constant)
    }
    assert len(read) > 20
    assert read - set(KNOWN) == set()


def test_what_settings_come_to_has_the_defaults_and_says_what_was_inferred() -> None:
    given = {**SETTINGS, "subscription:filter:expression": "^Loan-"}
    rows = {row.key: row for row in effective.settings_rows(given, parse(given), "kafka:9092")}
    assert (rows["subscription:filter:filterType"].value, rows["subscription:filter:scope"].value) == (
        "regex",
        "stream",
    )
    assert rows["subscription:filter:filterType"].note == "inferred from the expression"
    assert (rows["bootstrapServers"].value, rows["autocommit:interval"].value) == ("kafka:9092", 5000)
    named = {**given, "SUBSCRIPTION:filter:filterType": "regex"}
    assert {row.key: row.note for row in effective.settings_rows(named, parse(named), None)}[
        "subscription:filter:filterType"
    ] == ""


def test_what_settings_come_to_has_our_additions() -> None:
    added = {"partitioner": "Murmur2_Random", "format": "CloudEvents", "headers:traceContext": "TRUE"}
    for given, values in (({}, ("consistent_random", "raw", False)), (added, ("murmur2_random", "cloudevents", True))):
        rows = {row.key: row.value for row in effective.settings_rows(given, parse({**SETTINGS, **given}), None)}
        assert tuple(rows[key] for key in added) == values


def test_no_password_is_shown() -> None:
    given = {
        **SETTINGS,
        "authentication:securityProtocol": "saslSsl",
        "authentication:username": "loans",
        "Authentication:Password": "hunter2",
    }
    options = {row.key: row.value for row in effective.producer_rows("loans-sink", parse(given), None)}
    assert (options["sasl.username"], options["sasl.password"]) == ("loans", "*****")
    assert "hunter2" not in f"{effective.masked(given)} {effective.settings_rows(given, parse(given), None)} {options}"


def test_validate_needs_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({"settings": FLAT}))
    bad.write_text(json.dumps({"settings": {"topic": "a b"}}))
    assert run(["connectors", "validate", str(good)]) == 0
    assert "No faults." in capsys.readouterr().out
    assert run(["connectors", "validate", str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["lanes:count"] == 6
    assert run(["connectors", "validate", str(bad)]) == 2
    assert capsys.readouterr().out.splitlines()[0] == "2 faults:"
    assert run(["connectors", "validate", str(bad), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert (report["valid"], report["violations"].keys()) == (False, {"instanceTypeName", "topic"})


@pytest.mark.parametrize(("source", "reason"), [("", "is a folder"), ("none.json", "No such file")])
def test_a_file_that_is_none_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, reason: str
) -> None:
    assert run(["connectors", "validate", str(tmp_path / source)]) == 2
    said = capsys.readouterr().err
    assert (said.startswith("Error: "), said.count("\n"), reason in said) == (True, 1, True)
