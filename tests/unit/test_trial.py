"""`sinkworker transform test`: what it shows, what it says of wrong input, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sinkworker.cli import run

FUNCTION = "function transform(record) {\n  record.value.n++;\n  record.schemaInfo.subject = 'Counted';\n}\n"


@pytest.fixture
def function(tmp_path: Path) -> Path:
    path = tmp_path / "transform.js"
    path.write_text(FUNCTION)
    return path


def written(tmp_path: Path, event: str, name: str = "event.json") -> str:
    (tmp_path / name).write_text(event)
    return str(tmp_path / name)


def test_the_message_is_shown(tmp_path: Path, function: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event = written(tmp_path, '{"value": {"n": 1}, "streamId": "user-1", "headers": {"esdb.partition-key": "k"}}')
    assert run(["transform", "test", str(function), "--event", event]) == 0
    shown = capsys.readouterr().out
    for line in ("key    k", "esdb-record-schema-subject: Counted", "esdb-record-stream-id: user-1", 'value  {"n":2}'):
        assert f"  {line}\n" in shown


def test_json_is_a_line_for_each_event(tmp_path: Path, function: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {
        "recordId": "5c3bd6ca-7e3a-4b54-8d5f-6a0e5a3f7c11",
        "streamId": "vehicle-1",
        "position": {"streamId": "vehicle-1", "logPosition": 2**63},
        "isTransformed": False,
        "schemaInfo": {"subject": "VehicleRegistered", "type": 3},
        "headers": {"tenant": "7"},
        "value": {"n": 1},
    }
    first, second = written(tmp_path, json.dumps(record)), written(tmp_path, '{"value": {"n": 5}}', "second.json")
    assert run(["transform", "test", str(function), "--event", first, "--event", second, "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert shown[0] == {
        "event": first,
        "key": None,
        "headers": {
            "esdb-record-id": "5c3bd6ca-7e3a-4b54-8d5f-6a0e5a3f7c11",
            "esdb-record-redacted": "false",
            "esdb-record-stream-id": "vehicle-1",
            "esdb-record-stream-revision": "0",
            "esdb-record-log-position": str(2**63),
            "esdb-record-schema-subject": "Counted",
            "esdb-record-schema-type": "avro",
            "esdb-record-is-transformed": "true",
            "esdb-record-headers-tenant": "7",
        },
        "value": '{"n":2}',
    }
    assert [each["value"] for each in shown] == ['{"n":2}', '{"n":6}']


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ('{"value": null}', "TypeError: Cannot read properties of null (reading 'n') (line 2, column"),
        ("{", "it is no JSON"),
        ("[]", "a member `value`"),
        ('{"data": 1, "value": 1}', "a member 'data'; there are value, streamId"),
        ('{"value": 1, "headers": []}', "its headers must be an object"),
        ('{"value": 1, "streamId": 7}', "its streamId must be a text"),
        ('{"value": 1, "position": {"logPosition": -1}}', "its position.logPosition must be"),
        ('{"value": 1, "schemaInfo": {"type": 9}}', "its schemaInfo.type must be 1 (json)"),
    ],
)
def test_a_failure_names_the_file_and_ends_with_code_2(
    tmp_path: Path, function: Path, capsys: pytest.CaptureFixture[str], event: str, says: str
) -> None:
    path = written(tmp_path, event)
    assert run(["transform", "test", str(function), "--event", path]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"Error: {path}: ")
    assert says in told
