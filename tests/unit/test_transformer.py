"""Transformations (contract §6) by the real V8: what becomes of records, and what a function cannot do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import psutil
import pytest

from sinkworker.errors import Exhausted, Transient, Undeliverable
from sinkworker.transform import check, engine, sandbox
from sinkworker.transform.sandbox import Sandbox
from sinkworker.transform.transformer import Outcome, Subject, Transformer
from tests.processes import alive, eventually

PAST_DOUBLES = 2**63 + 1


def subjects(*values: str, headers: str = "{}") -> list[Subject]:
    return [
        Subject(value, f"id-{number}", "user-1", PAST_DOUBLES + number, "UserCreated", 1, headers)
        for number, value in enumerate(values)
    ]


def collected(outcomes: Iterator[Outcome | None]) -> tuple[list[Outcome | None], Undeliverable | None]:
    """What comes before the end or the error, and that."""
    found: list[Outcome | None] = []
    try:
        for outcome in outcomes:
            found.append(outcome)  # noqa: PERF402 (what precedes an error counts)
    except Undeliverable as exc:
        return found, exc
    return found, None


def through(body: str, *given: Subject) -> tuple[list[Outcome | None], Undeliverable | None]:
    with closing(Transformer(f"function transform(record) {{\n{body}\n}}")) as transformer:
        return collected(transformer.outcomes(given))


def test_any_part_may_change_and_what_did_not_is_not_sent_back() -> None:
    (value, changed, other), error = through(
        """
        const { firstName, lastName, ...rest } = record.value;
        if (firstName === undefined) return;
        record.value = { ...rest, name: `${firstName} ${lastName}`, cost: "5$" };
        record.schemaInfo.subject = "User";
        record.schemaInfo.type = 3;
        record.headers.count = 7;
        record.headers.nested = { a: [1] };
        record.headers.half = "\\ud800";
        delete record.headers.gone;
        record.headers.none = null;
        record.recordId = "new";
        record.position.streamId = "person-1";
        record.position.logPosition = 5;
        """,
        *subjects('{"age": 1}', '{"firstName": "Ada", "lastName": "Lovelace", "age": 36}', "{", headers='{"gone":"x"}'),
    )
    assert error is None
    assert value == Outcome('{"age":1}', {})
    assert changed == Outcome(
        '{"age":36,"name":"Ada Lovelace","cost":"5$"}',
        {
            "recordId": "new",
            "streamId": "person-1",
            "logPosition": 5,
            "subject": "User",
            "type": 3,
            "headers": {"count": "7", "nested": '{"a":[1]}', "half": "\ufffd"},
        },
    )
    assert other is None


@pytest.fixture(scope="module")
def obedient() -> Iterator[Transformer]:
    """Does with a record what its value says."""
    with closing(Transformer("function transform(record) { return Function('record', record.value)(record) }")) as made:
        yield made


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("throw new RangeError('too far')", "RangeError: too far"),
        ("throw 'a text'", "failed: a text"),
        ("throw { code: 7 }", r'failed: \{"code":7\}'),
        ("throw null", "failed: null"),
        ("return record", r"transform returned a value \(object\)"),
        ("return 0", "transform returned a value"),
        ("return Promise.resolve()", "must not be async"),
        ("delete record.value", "record.value must be JSON"),
        ("record.value = 10n", "BigInt"),
        ("record.value = record", "circular"),
        ("record.headers = ['x']", "record.headers must be an object"),
        ("record.schemaInfo.type = 'json'", "record.schemaInfo.type must be 1"),
        ("record.schemaInfo = null", "null"),
        ("record.position.logPosition = -1", "record.position.logPosition must be"),
        ("record.recordId = 7", "record.recordId must be a text"),
        ("setTimeout(() => 0, 1)", "setTimeout is not a function"),
        ("Atomics.wait()", "Atomics is not defined"),
        ("require('fs')", "require is not defined"),
        ("fetch('http://127.0.0.1')", "fetch is not defined"),
        ("(function deeper() { deeper() })()", "Maximum call stack"),
    ],
)
def test_a_failure_names_the_javascript_error_and_ends_what_follows(
    obedient: Transformer, statement: str, says: str
) -> None:
    values = (orjson.dumps(text).decode() for text in ("record.value = 0", statement, "record.value = 2"))
    found, error = collected(obedient.outcomes(subjects(*values)))
    assert found == [Outcome("0", {})]
    assert error is not None
    assert error.code == "transform-failed"
    assert re.search(says, str(error)), error


def test_a_failure_names_its_line() -> None:
    found, error = through("const { a } = record.value;\n  a.b.c = 1;", *subjects('{"a": {"b": {}}}', '{"a": {}}'))
    assert len(found) == 1
    assert "TypeError: Cannot set properties of undefined (setting 'c') (line 3, column 9)" in str(error)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "CPU_S", 0.3)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("while (true);", "did not come to an end"),
        ("'x'.repeat(2 ** 29 - 30).split('')", "memory"),  # V8 ends its process over this one
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                ("const all = []; while (true) all.push(new Array(1000).fill(1.5))", "memory|end"),
                ("Promise.resolve().then(() => { while (true); })", "did not come to an end"),
                ("/(a+)+$/.test('a'.repeat(50) + '!')", "did not come to an end"),
                ("new Array(2 ** 27).fill({})", "memory|end"),
                ("const all = []; while (true) all.push(new Uint8Array(1e8).fill(1))", "memory|allocation|end"),
                ("record.value = 'x'.repeat(1e8)", "memory|MB"),
            )
        ),
    ],
)
def test_a_record_that_exceeds_the_limits_is_found_and_costs_only_the_process(statement: str, says: str) -> None:
    values = [str(number) for number in range(7)]
    found, error = through(f"if (record.value === 5) {{ {statement} }}", *subjects(*values))
    assert [outcome.value for outcome in found if outcome] == values[:5]
    assert error is not None
    assert error.code == "transform-failed"
    assert re.search(says, str(error)), error


def test_an_answer_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "ANSWER_BYTES", 2**20)
    found, error = through("if (record.value) record.value = 'x'.repeat(2e6)", *subjects("0", "1"))
    assert found == [Outcome("0", {})]
    assert "more than 1 MB" in str(error)


def test_the_time_that_records_take_is_told() -> None:
    told: list[tuple[float, int]] = []
    with closing(Transformer("function transform(record) {}", lambda *each: told.append(each))) as transformer:
        list(transformer.outcomes(subjects("1", "2", "{")))
    ((seconds, records),) = told
    assert records == 3
    assert 0 < seconds < 60


@pytest.mark.usefixtures("hasty")
def test_a_slow_function_has_the_limit_for_each_record_not_for_all() -> None:
    slow = "const end = Date.now() + 120; while (Date.now() < end); record.value++"
    found, error = through(slow, *subjects(*map(str, range(4))))
    assert error is None
    assert [outcome.value for outcome in found if outcome] == ["1", "2", "3", "4"]


def test_a_process_ended_from_outside_is_no_records_fault_and_the_next_one_works() -> None:
    with closing(Transformer("function transform(record) {}")) as transformer:
        assert collected(transformer.outcomes(subjects("1"))) == ([Outcome("1", {})], None)
        assert transformer._sandbox is not None
        transformer._sandbox._process.kill()
        with pytest.raises(Transient):
            list(transformer.outcomes(subjects("2")))
        assert collected(transformer.outcomes(subjects("3"))) == ([Outcome("3", {})], None)


def test_a_process_that_does_not_get_to_run_is_no_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "ANSWER_S", 0.2)
    with closing(Transformer("function transform(record) {}")) as transformer:
        list(transformer.outcomes(subjects("1")))
        assert transformer._sandbox is not None
        os.kill(transformer._sandbox._process.pid, signal.SIGSTOP)
        with pytest.raises(Transient, match="has not answered"):
            list(transformer.outcomes(subjects("2")))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a system that tells what a process uses")
def test_a_process_that_a_busy_machine_lets_run_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long: else a function that does not end would be tried for ever (P5)."""
    monkeypatch.setattr(sandbox, "CPU_S", 1.5)
    monkeypatch.setattr(sandbox, "ANSWER_S", 1.0)
    called: list[None] = []
    with closing(Transformer("function transform(record) { while (true); }")) as transformer:
        transformer.meanwhile = lambda: called.append(None)
        found, error = collected(transformer.outcomes(subjects("1")))
    assert found == []
    assert "did not come to an end within 1.5 s" in str(error)
    assert called


def test_closing_ends_the_process() -> None:
    running = Sandbox("function transform(record) {}")
    running.close()
    assert running._process.returncode is not None


@pytest.mark.parametrize("body", ["", pytest.param("while (true);", marks=pytest.mark.long)])
def test_the_process_ends_with_the_one_that_started_it(body: str) -> None:
    """However that dies, and even out of a loop."""
    batch = b'[["1","","",1,"",1,"{}"]]'
    script = (
        "import os; from sinkworker.transform.sandbox import Sandbox, engine;"
        f"made = Sandbox('function transform(record) {{ {body} }}');"
        "print(made._process.pid, flush=True);"
        f"made._channel.sendall(engine.LENGTH.pack({len(batch)}) + {batch!r});"
        "os.kill(os.getpid(), 9)"
    )
    home = Path(engine.__file__).parents[2]
    started = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=home)
    eventually(lambda: not alive(int(started.stdout)))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("const transform = record => { record.value = 1; };", None),
        ("var transform = function (record) {}", None),
        ("function transform(record) {", "SyntaxError: .*line"),
        ("\n\nlet = = 1", r"SyntaxError: .*\(line 3\)"),
        ("export function transform(record) {}", "SyntaxError"),
        ("function transformer(record) {}", "no function named `transform`"),
        ("const transform = 7;", "no function named `transform`"),
        ("undefinedThing;\nfunction transform(record) {}", r"ReferenceError: undefinedThing is not defined \(line 1\)"),
        ("while (true);", "before any record, it did not come to an end"),
    ],
)
@pytest.mark.usefixtures("hasty")
def test_what_can_be_told_without_a_record_is_told(source: str, says: str | None) -> None:
    told = check.fault(source)
    if says is None:
        assert told is None
    else:
        assert told is not None
        assert re.search(says, told), told


@pytest.mark.parametrize("ends", ["os.abort()", f"os._exit({engine.SHORT})"])
def test_a_machine_without_room_for_v8_is_no_fault_of_the_function(
    ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (dies := tmp_path / "engine.py").write_text(f"import os; {ends}", encoding="utf-8")
    monkeypatch.setattr(engine, "__file__", str(dies))
    with pytest.raises(Exhausted):
        Sandbox("function transform(record) {}")


def test_a_process_that_cannot_be_started_is_no_fault_of_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with (
        closing(Transformer("function transform(record) {}")) as transformer,
        pytest.raises(Transient, match="started"),
    ):
        list(transformer.outcomes(subjects("1")))


def test_the_process_gets_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINKWORKER_TEST_SECRET", "hush")
    with closing(Sandbox("function transform(record) {}")) as running:
        assert "SINKWORKER_TEST_SECRET" not in psutil.Process(running._process.pid).environ()
