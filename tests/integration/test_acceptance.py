"""The acceptance checks of the management API that need a connector which really runs, over HTTP, on real processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.oracle import consume
from tests.ports import free_port
from tests.processes import eventually
from tests.system import Flow, System


@pytest.fixture(scope="module")
def api(system: System) -> Iterator[httpx.Client]:
    port = free_port()
    role = system.another("api", ["sinkworker", "api"], SINKWORKER_API_PORT=str(port))
    role.start()
    try:
        eventually(lambda: role.said("listening on"))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
            yield client
    finally:
        role.destroy()


def listed(api: httpx.Client, flow: Flow) -> dict[str, Any]:
    (item,) = api.get("/connectors", params={"connectorId": flow.id}).json()["items"]
    assert isinstance(item, dict)
    return item


def reaches(api: httpx.Client, flow: Flow, state: str) -> list[str]:
    """Wait until the connector is in that state; the states that were seen until then."""
    seen: list[str] = []

    def there() -> bool:
        now = str(listed(api, flow)["state"]).removeprefix("CONNECTOR_STATE_")
        if now not in seen[-1:]:
            seen.append(now)
        return now == state

    eventually(there)
    return seen


def command(api: httpx.Client, flow: Flow, verb: str) -> tuple[int, int]:
    """Status and code of the answer; the code is 0 where the body is `{}`."""
    path = f"/connectors/{flow.id}"
    answer = api.delete(path) if verb == "delete" else api.post(f"{path}/{verb}")
    body = answer.json()
    assert body == {} or answer.status_code != 200
    return answer.status_code, body.get("code", 0)


@pytest.fixture
def flow(system: System) -> Flow:
    """A connector that is not started yet."""
    flow = Flow(system, system.topic())
    flow.create()
    return flow


@pytest.mark.check("A10", "A11", "A12")
def test_a_running_connector_can_be_stopped_and_nothing_else(api: httpx.Client, flow: Flow) -> None:
    assert command(api, flow, "start") == (200, 0)
    assert reaches(api, flow, "RUNNING") in (["ACTIVATING", "RUNNING"], ["RUNNING"])
    assert [command(api, flow, verb) for verb in ("start", "delete", "reset")] == [(400, 9)] * 3
    assert [command(api, flow, "stop") for _ in range(2)] == [(200, 0)] * 2
    assert reaches(api, flow, "STOPPED") in (["DEACTIVATING", "STOPPED"], ["STOPPED"])
    assert command(api, flow, "delete") == (200, 0)


@pytest.mark.long
@pytest.mark.check("A14")
def test_a_running_connector_keeps_its_settings_until_it_is_started_again(
    api: httpx.Client, system: System, flow: Flow
) -> None:
    new = system.topic()
    command(api, flow, "start")
    reaches(api, flow, "RUNNING")
    assert api.put(f"/connectors/{flow.id}/settings", json={"topic": new}).status_code == 200
    assert api.get(f"/connectors/{flow.id}/settings").json()["settings"]["topic"] == new
    flow.append(20)
    before = flow.log()
    eventually(lambda: flow.position >= before[-1].commit_position)
    command(api, flow, "stop")
    reaches(api, flow, "STOPPED")
    command(api, flow, "start")
    flow.append(20)
    after = flow.log()
    eventually(lambda: flow.position >= after[-1].commit_position)
    delivered = {
        topic: [message.headers["esdb-record-id"].decode() for message in consume(system.servers, topic)]
        for topic in (flow.topic, new)
    }
    assert sorted(delivered[flow.topic]) == sorted(str(event.id) for event in before)
    assert sorted(delivered[new]) == sorted(str(event.id) for event in after[20:])
    command(api, flow, "stop")
