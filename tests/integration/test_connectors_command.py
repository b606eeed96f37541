"""`sinkworker connectors` beside an API and a scheduler that run: what it waits for, and how it ends."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest

from sinkworker.cli import run
from tests.ports import free_port
from tests.processes import eventually
from tests.system import System


@pytest.fixture(scope="module")
def api_url(system: System) -> Iterator[str]:
    port = free_port()
    role = system.another("api", ["sinkworker", "api"], SINKWORKER_API_PORT=str(port))
    role.start()
    eventually(lambda: role.said("listening on"))
    yield f"http://127.0.0.1:{port}"
    role.destroy()


def test_waiting_is_for_the_state_that_was_asked_for(
    system: System, api_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SINKWORKER_API_URL", api_url)
    connector_id = f"loans-{uuid4().hex[:8]}"

    def connectors(*arguments: str, topic: str = "") -> tuple[int, str, str]:
        body = json.dumps({"settings": {"instanceTypeName": "kafka-sink", "topic": topic}})
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body.encode())))
        code = run(["connectors", *arguments])
        return code, *capsys.readouterr()

    assert connectors("create", connector_id, topic=f"none-{connector_id}")[0] == 0
    code, out, err = connectors("start", connector_id, "--wait")
    assert (code, out) == (3, "")
    assert f"Connector {connector_id} did not come to run: topic-missing: " in err
    code, _, err = connectors("start", connector_id, "--wait")
    assert f"Connector {connector_id} did not come to run: topic-missing: " in err
    assert "is ACTIVATING, topic-missing" not in err  # which would be the error of the run before

    assert "topic-missing" in connectors("reconfigure", connector_id, topic=system.topic())[2]
    assert connectors("reset", connector_id, "--wait")[:2] == (0, f"{connector_id} runs from the beginning.\n")
    code, _, err = connectors("delete", connector_id, "--yes")
    assert (code, "cannot be deleted" in err) == (2, True)
    code, out, _ = connectors("stop", connector_id, "--wait", "--json")
    assert (code, json.loads(out)["state"]) == (0, "CONNECTOR_STATE_STOPPED")
    assert connectors("delete", connector_id, "--yes")[0] == 0
    assert "deleted" in connectors("show", connector_id)[1]
