"""Flower shows each activation with readable arguments and result, and a failure with its reason."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ports import free_port
from tests.processes import eventually
from tests.system import BROKER, System


class Flower:
    """A running Flower, asked over its HTTP API."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def tasks(self, connector: str, state: str) -> list[dict[str, Any]]:
        """The tasks of one connector in that state; none while Flower does not answer."""
        try:
            with urllib.request.urlopen(f"{self._address}/api/tasks?state={state}", timeout=5) as answer:
                found = json.load(answer)
        except OSError:
            return []
        return [task for task in found.values() if repr(connector) in task["kwargs"]]


@pytest.fixture(scope="module")
def flower(system: System) -> Iterator[Flower]:
    port = free_port()
    role = system.another(
        "flower",
        ["celery", "-A", "tasks", "flower", "--address=127.0.0.1", f"--port={port}"],
        FLOWER_UNAUTHENTICATED_API="true",
    )
    role.start()
    try:
        eventually(lambda: role.said("Connected to"), within_s=30)
        yield Flower(port)
    finally:
        assert role.stop() == 0


def test_an_activation_is_a_task_with_readable_arguments_and_result(system: System, flower: Flower) -> None:
    flow = system.flow()
    flow.append(200)
    assert flow.delivered().holds
    tasks = eventually(lambda: whole(flower.tasks(flow.id, "SUCCESS"), 200))
    arguments = [ast.literal_eval(task["kwargs"]) for task in tasks]
    assert all(each.keys() == {"connector", "epoch", "lanes"} for each in arguments)
    assert {each["epoch"] for each in arguments} == {flow.connector.epoch}
    assert {lane for each in arguments for lane, _activation in each["lanes"]} <= set(range(6))
    results = [ast.literal_eval(task["result"]) for task in tasks]
    assert all(each.keys() == {"lanes", "batches", "records", "first_position", "last_position"} for each in results)
    log = flow.log()
    worked = [each for each in results if each["records"]]
    assert min(each["first_position"] for each in worked) == log[0].commit_position
    assert max(each["last_position"] for each in worked) == log[-1].commit_position
    shown = json.dumps(tasks)
    assert "applicant" not in shown, "an event's body"
    assert "LoanRequested" not in shown


def whole(tasks: list[dict[str, Any]], records: int) -> list[dict[str, Any]]:
    """The tasks once they have delivered so many records: Flower hears of them a moment later than Kafka."""
    return tasks if sum(ast.literal_eval(task["result"])["records"] for task in tasks) == records else []


@pytest.mark.long
def test_a_failed_activation_shows_its_reason(system: System, flower: Flower) -> None:
    flow = system.flow()
    flow.append(10)
    assert flow.delivered().holds
    broker = system.part(BROKER)
    os.kill(broker, signal.SIGSTOP)
    try:
        flow.append(10)
        failed = eventually(lambda: flower.tasks(flow.id, "FAILURE"), within_s=30)
    finally:
        os.kill(broker, signal.SIGCONT)
    # A worker that has a producer waits for its confirmations, one that has none yet asks about the topic.
    assert re.search("Kafka (has not confirmed anything for 5 s|at .* does not answer)", failed[0]["exception"])
    assert flow.delivered().holds
