"""One line a record, with its fields, and no traceback where a sentence says all."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from sinkworker import logs
from sinkworker.errors import Full, KurrentDBUnavailable, Misconfigured, RedisUnavailable


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def written(level: str = "INFO") -> io.StringIO:
    stream = io.StringIO()
    logs.setup(level, "scheduler", stream=stream)
    return stream


def test_a_record_is_one_line_of_time_level_role_message_and_fields() -> None:
    stream = written()
    logging.getLogger("x").info("took over\nat once", extra={"lane": 0, "connector": "loans", "data": "of a library"})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    scheduler took over at once connector=loans lane=0\n",
        stream.getvalue(),
    )


def test_a_value_with_blanks_is_quoted() -> None:
    stream = written()
    logging.getLogger("x").warning("odd", extra={"connector": 'a "b" c'})
    assert stream.getvalue().endswith('connector="a \\"b\\" c"\n')


def log_an_error_of_ours() -> None:
    try:
        raise Misconfigured("The topic loans does not exist.", hint="Create it.")
    except Misconfigured:
        logging.getLogger("x").exception("connector stopped")


def test_an_error_of_ours_is_logged_as_its_sentence() -> None:
    stream = written()
    log_an_error_of_ours()
    assert stream.getvalue().count("\n") == 1
    assert 'error="The topic loans does not exist. Create it."' in stream.getvalue()


def test_debug_level_adds_the_traceback() -> None:
    stream = written("DEBUG")
    log_an_error_of_ours()
    assert "Traceback" in stream.getvalue()


def test_libraries_that_narrate_are_quiet_unless_debugging() -> None:
    stream = written()
    logging.getLogger("kurrentdbclient").info("chatter")
    assert stream.getvalue() == ""


def test_each_kind_of_trouble_is_said_once_and_once_that_it_is_over() -> None:
    stream = written()
    troubles = logs.Troubles(logging.getLogger("x"), connector="loans")
    for _ in range(2):
        assert not troubles.over("well")
        assert troubles.say(RedisUnavailable("No Redis."), "Waiting.", lane=3)
        assert not troubles.say(RedisUnavailable("Still no Redis."), "Waiting.")
        assert troubles.say(KurrentDBUnavailable("No database."))
        assert not troubles.say(RedisUnavailable("Still no Redis."), "Waiting.")
        assert troubles.over("well")
    said = [line.split("scheduler ")[1] for line in stream.getvalue().splitlines()]
    once = ["No Redis. Waiting. connector=loans lane=3", "No database. connector=loans", "well connector=loans"]
    assert said == [*once, *once]


def test_what_a_whole_role_waits_for_is_said_once_for_all_its_connectors() -> None:
    stream = written()
    now_s = 0.0
    role, log = logs.Role(lambda: now_s), logging.getLogger("x")
    looks = logs.Troubles(log, role)
    loans, tenants = (logs.Troubles(log, role, connector=name) for name in ("loans", "tenants"))
    assert loans.say(RedisUnavailable("No Redis."), "Waiting.")
    assert looks.say(RedisUnavailable("No Redis."), "Looking later.")
    assert tenants.say(RedisUnavailable("No Redis."), "Waiting.")
    assert loans.say(Full("Full."))
    assert tenants.say(Full("Full."))
    said = [line.split("scheduler ")[1] for line in stream.getvalue().splitlines()]
    assert said == [
        "No Redis. Waiting. connector=loans,tenants",
        "Full. connector=loans",
        "Full. connector=tenants",
    ]
    for each in (looks, loans, tenants):
        assert each.over("well")
    assert looks.say(RedisUnavailable("No Redis."))  # from a call that was under way
    assert looks.over("well")
    assert "No Redis. connector" not in stream.getvalue()
    now_s = logs.LATELY_S
    assert looks.say(RedisUnavailable("No Redis."))
    assert stream.getvalue().endswith("No Redis. connector=loans,tenants\n")


def test_a_connector_that_wants_no_log_has_only_its_errors_logged() -> None:
    stream = written()
    log = logging.getLogger("x")
    logs.heed("loans", wanted=False)
    try:
        log.warning("slow", extra={"connector": "loans"})
        log.warning("slow", extra={"connector": "tenants"})
        log.error("stopped", extra={"connector": "loans"})
    finally:
        logs.heed("loans", wanted=True)
    log.info("well", extra={"connector": "loans"})
    said = [line.split("scheduler ")[1] for line in stream.getvalue().splitlines()]
    assert said == ["slow connector=tenants", "stopped connector=loans", "well connector=loans"]
