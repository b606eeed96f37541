"""The Celery face without Celery at work: what a task's arguments must be, and what becomes of a library's outcry."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from celery.worker.consumer import consumer
from redis.exceptions import ConnectionError as RedisConnectionError

from sinkworker.demo.processes import POOL_PROCESS_DIED
from sinkworker.errors import Invalid
from sinkworker.ledger.contract import Activation
from sinkworker.model import LaneNumber
from tasks import noise, produce

RIGHT: dict[str, Any] = {"connector": "loans", "epoch": 7, "lanes": [[0, 3], [5, 1]]}


def test_what_enqueue_sends_is_understood() -> None:
    assert produce.parse((), RIGHT) == ("loans", 7, [Activation(LaneNumber(0), 3), Activation(LaneNumber(5), 1)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"connector": None},
        {"connector": 5},
        {"epoch": "7"},
        {"epoch": True},
        {"epoch": 7.0},
        {"lanes": None},
        {"lanes": []},
        {"lanes": "03"},
        {"lanes": {"0": 3}},
        {"lanes": [0, 3]},
        {"lanes": [[0, 3], [5]]},
        {"lanes": [[0, 3], [5, "1"]]},
        {"lanes": [[0, 3], [5, None]]},
        {"lanes": [[0, 3, 4]]},
        {"payload": "x"},
        {"connector": "loans}:x"},
        {"connector": "x" * 51},
        {"epoch": -1},
        {"epoch": 2**53 + 1},
        {"lanes": [[10**400, 1]]},
        {"lanes": [[0, 1]] * 1025},
    ],
)
def test_other_arguments_are_refused_in_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="needs exactly the keywords connector"):
        produce.parse((), {**RIGHT, **wrong})


@pytest.mark.parametrize("missing", RIGHT)
def test_a_missing_argument_is_refused(missing: str) -> None:
    with pytest.raises(Invalid):
        produce.parse((), {name: value for name, value in RIGHT.items() if name != missing})


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(Invalid):
        produce.parse(("loans",), RIGHT)


def logged(name: str, error: Exception, message: str = "it went wrong") -> logging.LogRecord | None:
    """The record of an error as the filter leaves it."""
    try:
        raise error
    except Exception:
        record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, None, sys.exc_info())
    return record if noise.OneLine().filter(record) else None


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), ConnectionRefusedError("gone"), WorkerLostError("x")])
def test_a_lost_server_or_process_leaves_no_traceback(error: Exception) -> None:
    record = logged("celery.worker", error)
    assert record is not None
    assert record.exc_info is None


def test_a_lost_process_is_one_line() -> None:
    assert logged("celery.worker.request", WorkerLostError("signal 9")) is None
    record = logging.LogRecord(
        "multiprocessing", logging.ERROR, __file__, 1, noise.EXITED, ("P-1", 7, "signal 9"), None
    )
    assert noise.OneLine().filter(record)
    assert record.getMessage().startswith("P-1 (pid 7) died of signal 9")


def test_a_lost_redis_is_one_line_however_often_it_is_tried() -> None:
    one_line = noise.OneLine()
    attempts = [
        ("%s (%r)", (consumer.CONNECTION_RETRY, "gone")),
        (consumer.CONNECTION_ERROR, ("redis://:**@r:1/0", "refused.", "Trying again in 1.00 second... (1/None)")),
        (consumer.CONNECTION_ERROR, ("redis://:**@r:1/0", "refused.", "Trying again in 2.00 seconds... (2/None)")),
    ]
    for first, words in [
        (0, "The connection to Redis was lost."),
        (1, "Cannot connect to redis://:**@r:1/0: refused."),
    ]:
        records = [
            logging.LogRecord(noise.CONSUMER, logging.ERROR, __file__, 1, *attempt, None)
            for attempt in attempts[first:]
        ]
        assert [one_line.filter(record) for record in records] == [True, *[False] * (len(records) - 1)]
        assert records[0].getMessage() == f"{words} Tasks wait until it answers."
        one_line.connected()


@pytest.mark.parametrize("message", noise.NO_NEWS)
def test_what_becomes_of_a_single_message_is_not_said_beside_a_lost_connection_or_a_stop(message: str) -> None:
    assert logged("kombu.message", RedisConnectionError("gone"), message) is None


@pytest.mark.parametrize(
    ("name", "error"),
    [("celery.worker", KeyError("of Celery")), ("sinkworker.delivery", RedisConnectionError("not translated"))],
)
def test_a_bug_keeps_its_traceback(name: str, error: Exception) -> None:
    record = logged(name, error)
    assert record is not None
    assert record.exc_info is not None


def test_the_demo_understands_what_a_worker_says_of_a_lost_process() -> None:
    said = noise.REPLACED % ("ForkPoolWorker-1", 4711, "signal 9 (SIGKILL)")
    found = POOL_PROCESS_DIED.search(f"2026-01-01T00:00:00.000Z ERROR   worker {said}")
    assert found
    assert (found["pid"], found["how"]) == ("4711", "died of signal 9 (SIGKILL)")
