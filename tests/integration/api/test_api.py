"""The management API over real HTTP. Numbers are those of the acceptance checks (contract §12)."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import httpx
import pytest
from kurrentdbclient import NewEvent

from sinkworker.config import Config
from sinkworker.connectors import streams
from sinkworker.connectors.lifecycle import EventType
from sinkworker.connectors.registry import Registry
from sinkworker.database import Database
from sinkworker.errors import Misconfigured
from sinkworker.management.server import ApiServer
from sinkworker.model import Epoch

SETTINGS = {"instanceTypeName": "kafka-sink", "topic": "loans"}


def create(api: httpx.Client, connector_id: str, **settings: Any) -> httpx.Response:
    return api.post(f"/connectors/{connector_id}", json={"settings": {**SETTINGS, **settings}})


def listed(api: httpx.Client, connector_id: str, **params: str) -> dict[str, Any]:
    (item,) = api.get("/connectors", params={"connectorId": connector_id, **params}).json()["items"]
    assert isinstance(item, dict)
    return item


def settings_of(api: httpx.Client, connector_id: str) -> dict[str, str]:
    found: dict[str, str] = api.get(f"/connectors/{connector_id}/settings").json()["settings"]
    return found


def assert_error(response: httpx.Response, status: int, code: int) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert body["message"]
    assert isinstance(body["details"], list)
    return body


def violations(response: httpx.Response) -> dict[str, str]:
    body = assert_error(response, 400, 3)
    (detail,) = body["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert json.loads(body["message"]).keys() == {each["field"] for each in detail["fieldViolations"]}
    return {each["field"]: each["description"] for each in detail["fieldViolations"]}


QUICK_START = {
    "instanceTypeName": "kafka-sink",
    "bootstrapServers": "localhost:9092",
    "topic": "customers",
    "subscription:filter:scope": "record",
    "subscription:filter:filterType": "regex",
    "subscription:filter:expression": "example-stream.*?",
}


@pytest.mark.check("A1")
def test_a_created_connector_is_stopped_and_named_by_its_id(api: httpx.Client, connector_id: str) -> None:
    response = api.post(f"/connectors/{connector_id}", json={"settings": QUICK_START})
    assert (response.status_code, response.json()) == (200, {})
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    item = listed(api, connector_id)
    assert (item["state"], item["name"]) == ("CONNECTOR_STATE_STOPPED", connector_id)
    assert settings_of(api, connector_id) == QUICK_START


@pytest.mark.check("A2")
def test_names_are_checked_and_blank_ones_are_the_id(api: httpx.Client, connector_id: str) -> None:
    response = api.post(f"/connectors/{connector_id}", json={"name": "ab", "settings": SETTINGS})
    assert violations(response).keys() == {"Name"}
    api.post(f"/connectors/{connector_id}", json={"name": " " * 4, "settings": SETTINGS})
    assert listed(api, connector_id)["name"] == connector_id
    assert violations(api.put(f"/connectors/{connector_id}/rename", json={"name": " " * 4})).keys() == {"Name"}


def test_a_name_is_kept_as_it_was_given(api: httpx.Client, connector_id: str) -> None:
    assert api.post(f"/connectors/{connector_id}", json={"name": " a ", "settings": SETTINGS}).status_code == 200
    assert listed(api, connector_id)["name"] == " a "
    api.put(f"/connectors/{connector_id}/rename", json={"name": "b  "})
    assert listed(api, connector_id)["name"] == "b  "


@pytest.mark.check("A3")
@pytest.mark.parametrize("wrong", ["abcd", "x" * 51, "a%20b.c!"])
def test_ids_are_checked_on_every_route(api: httpx.Client, wrong: str) -> None:
    described = api.get("/openapi.json").json()["paths"]
    routes = [(method, path) for path, methods in described.items() if "{connector_id}" in path for method in methods]
    assert len(routes) == 13
    for method, path in routes:
        asked = path.replace("{connector_id}", wrong).replace("{position}", "1")
        answer = api.request(
            method, asked, json={"name": "other", "settings": SETTINGS} if method in ("post", "put") else None
        )
        assert violations(answer).keys() == {"ConnectorId"}, (method, path)


def test_every_rule_that_an_id_breaks_is_named_at_once(api: httpx.Client) -> None:
    (detail,) = api.get("/connectors/a.b/settings").json()["details"]
    assert [each["field"] for each in detail["fieldViolations"]] == ["ConnectorId", "ConnectorId"]


def test_faults_of_id_name_and_settings_are_named_at_once(api: httpx.Client) -> None:
    settings = {**SETTINGS, "topic": "a b", "waitForBrokerAck": "perhaps"}
    body = {"name": "ab", "settings": settings}
    assert violations(api.post("/connectors/abcd", json=body)).keys() == {
        "ConnectorId",
        "Name",
        "topic",
        "waitForBrokerAck",
    }
    assert violations(api.post("/connectors/abcd", json={"configuration": {"topic": "loans"}})).keys() == {
        "ConnectorId",
        "instanceTypeName",
    }


@pytest.mark.check("A4")
def test_an_id_is_taken_until_its_connector_is_deleted_and_starts_over(
    api: httpx.Client, database: Database, connector_id: str
) -> None:
    assert create(api, connector_id).status_code == 200
    assert_error(create(api, connector_id), 409, 6)
    assert_error(create(api, connector_id, topic=None), 409, 6)
    checkpoint = NewEvent(type=streams.CHECKPOINT_TYPE, data=b'{"logPosition": "16829"}')
    database.append(streams.checkpoints(connector_id), None, [checkpoint])
    assert listed(api, connector_id)["position"] == 16829
    assert api.delete(f"/connectors/{connector_id}").json() == {}
    assert create(api, connector_id).status_code == 200
    assert "position" not in listed(api, connector_id)


@pytest.mark.check("A5")
@pytest.mark.parametrize(
    "body", ["{", "[]", "3", "", '{"settings": []}', '{"settings": 3}', '{"name": 3}', '{"a": NaN}']
)
def test_a_badly_formatted_body_is_refused(api: httpx.Client, connector_id: str, body: str) -> None:
    response = api.post(f"/connectors/{connector_id}", content=body, headers={"content-type": "application/json"})
    assert_error(response, 400, 3)


@pytest.mark.parametrize("entry", [r'"\ud800abc": "1"', r'"_note": "\ud800abc"'])
def test_text_that_is_no_utf_8_is_refused(api: httpx.Client, connector_id: str, entry: str) -> None:
    headers = {"content-type": "application/json"}
    settings = f'{{"instanceTypeName": "kafka-sink", "topic": "loans", {entry}}}'
    body = f'{{"settings": {settings}}}'
    assert_error(api.post(f"/connectors/{connector_id}", content=body, headers=headers), 400, 3)
    create(api, connector_id)
    assert_error(api.put(f"/connectors/{connector_id}/settings", content=settings, headers=headers), 400, 3)
    name = r'{"name": "\ud800abc"}'
    assert_error(api.put(f"/connectors/{connector_id}/rename", content=name, headers=headers), 400, 3)


def test_a_surrogate_pair_is_text(api: httpx.Client, connector_id: str) -> None:
    body = r'{"name": "\ud83d\ude00 sink", "settings": {"instanceTypeName": "kafka-sink", "topic": "loans"}}'
    api.post(f"/connectors/{connector_id}", content=body, headers={"content-type": "application/json"})
    assert listed(api, connector_id)["name"] == "\U0001f600 sink"


@pytest.mark.parametrize("kib", [257, 5 * 1024])
def test_a_body_beyond_256_kib_is_refused(api: httpx.Client, connector_id: str, kib: int) -> None:
    body = assert_error(create(api, connector_id, _note="x" * (kib * 1024)), 400, 3)
    assert "256 KiB" in body["message"]
    assert create(api, connector_id, _note="x" * (255 * 1024)).status_code == 200


def test_settings_that_grow_beyond_one_event_are_refused(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    parts = [{f"_note{number}": "x" * (250 * 1024)} for number in range(5)]
    answers = [api.put(f"/connectors/{connector_id}/settings", json=part) for part in parts]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400]
    assert "larger than" in assert_error(answers[-1], 400, 3)["message"]
    assert api.delete(f"/connectors/{connector_id}").status_code == 200


@pytest.mark.check("A5")
def test_another_content_type_is_refused(api: httpx.Client, connector_id: str) -> None:
    response = api.post(f"/connectors/{connector_id}", content="{}", headers={"content-type": "text/plain"})
    assert_error(response, 400, 3)


@pytest.mark.check("A6")
def test_booleans_and_numbers_are_stored_as_texts(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id, waitForBrokerAck=True, **{"compression:level": 3})
    found = settings_of(api, connector_id)
    assert (found["waitForBrokerAck"], found["compression:level"]) == ("true", "3")


def test_an_object_is_no_setting(api: httpx.Client, connector_id: str) -> None:
    assert violations(create(api, connector_id, topic={"a": 1})).keys() == {"topic"}


@pytest.mark.check("A7")
def test_a_nested_configuration_wins_over_settings(api: httpx.Client, connector_id: str) -> None:
    nested = {**SETTINGS, "topic": "nested", "autocommit": {"interval": 250}, "subscription": {"filter": {}}}
    api.post(f"/connectors/{connector_id}", json={"configuration": nested, "settings": SETTINGS})
    found = settings_of(api, connector_id)
    assert (found["topic"], found["autocommit:interval"]) == ("nested", "250")


@pytest.mark.parametrize("levels", [33, 600])
def test_a_configuration_too_deep_to_be_shown_is_refused(api: httpx.Client, connector_id: str, levels: int) -> None:
    nested: Any = "x"
    for _ in range(levels):
        nested = {"a": nested}
    refused = api.post(f"/connectors/{connector_id}", json={"configuration": {**SETTINGS, **nested}})
    assert len(violations(refused)) == 1
    assert violations(create(api, connector_id, **{"x:" + "1" * 5000: "1"})).keys() == {"x:" + "1" * 62 + "…"}
    create(api, connector_id)
    refused = api.put(f"/connectors/{connector_id}/settings", json={":".join("a" * levels): "1"})
    assert len(violations(refused)) == 1
    assert api.get(f"/connectors/{connector_id}/configuration").status_code == 200
    assert api.get("/connectors", params={"includeConfiguration": "true"}).status_code == 200


@pytest.mark.check("A8")
def test_every_missing_or_wrong_setting_is_named_at_once(api: httpx.Client, connector_id: str) -> None:
    response = api.post(
        f"/connectors/{connector_id}", json={"settings": {"compression:type": "rar", "autocommit:interval": "0"}}
    )
    assert violations(response).keys() == {"instanceTypeName", "topic", "compression:type", "autocommit:interval"}


@pytest.mark.parametrize("pattern", ["(" * 1500 + ")" * 1500, "(" * 3000 + ")" * 3000, "a++", "(?P<n>a)"])
def test_a_pattern_that_cannot_be_run_is_refused(api: httpx.Client, connector_id: str, pattern: str) -> None:
    settings = {"subscription:filter:filterType": "regex", "subscription:filter:expression": pattern}
    assert violations(create(api, connector_id, **settings)).keys() == {"subscription:filter:expression"}
    settings = {"partitionKeyExtraction:enabled": "true", "partitionKeyExtraction:source": "stream"}
    refused = create(api, connector_id, **settings, **{"partitionKeyExtraction:expression": pattern})
    assert violations(refused).keys() == {"partitionKeyExtraction:expression"}


@pytest.mark.check("A9")
@pytest.mark.parametrize(
    ("alias", "status"),
    [
        ("KafkaSink", 200),
        ("Kurrent.Connectors.Kafka.KafkaSink", 200),
        ("Kafka-Sink", 400),
        ("kafkasink", 400),
        ("http-sink", 400),
    ],
)
def test_the_type_has_two_aliases(api: httpx.Client, connector_id: str, alias: str, status: int) -> None:
    assert create(api, connector_id, instanceTypeName=alias).status_code == status
    if status == 200:
        assert listed(api, connector_id, instanceTypeName="kafka-sink")["instanceTypeName"] == alias


@pytest.mark.check("A10")
def test_a_start_is_accepted_once(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    assert api.post(f"/connectors/{connector_id}/start").json() == {}
    assert listed(api, connector_id)["state"] == "CONNECTOR_STATE_ACTIVATING"
    assert_error(api.post(f"/connectors/{connector_id}/start"), 400, 9)


def test_a_body_where_none_belongs_is_ignored(api: httpx.Client, connector_id: str) -> None:
    """§1.2"""
    create(api, connector_id)
    for verb in ("start", "stop"):
        assert api.post(f"/connectors/{connector_id}/{verb}", content="{", headers={"content-type": "a/b"}).json() == {}
    assert api.request("GET", "/connectors", content="{", params={"connectorId": connector_id}).status_code == 200


def test_a_start_takes_its_position_from_path_or_query(
    api: httpx.Client, database: Database, connector_id: str
) -> None:
    """§1.2"""
    create(api, connector_id)
    for path in ("start/7", "start?start.position=7", "reset/7", "start?START.POSITION=7"):
        Registry(database).report_stopped(connector_id, Registry(database).take_over(connector_id, "here").epoch)
        assert api.post(f"/connectors/{connector_id}/{path}").json() == {}
        connector = Registry(database).get(connector_id)
        assert connector is not None
        assert connector.start_request == 7
        api.post(f"/connectors/{connector_id}/stop")


@pytest.mark.check("A11")
def test_a_stop_may_be_repeated(api: httpx.Client, database: Database, connector_id: str) -> None:
    create(api, connector_id)
    assert api.post(f"/connectors/{connector_id}/stop").json() == {}
    api.post(f"/connectors/{connector_id}/start")
    assert api.post(f"/connectors/{connector_id}/stop").json() == {}
    assert api.post(f"/connectors/{connector_id}/stop").json() == {}
    assert listed(api, connector_id)["state"] == "CONNECTOR_STATE_DEACTIVATING"
    types = [event.type for event in database.read_stream(streams.of_connector(connector_id))]
    assert types == [EventType.CREATED, EventType.ACTIVATING, EventType.DEACTIVATING]


def test_a_connector_that_is_stopping_may_be_started_again(api: httpx.Client, connector_id: str) -> None:
    """§1.7"""
    create(api, connector_id)
    for command, state in (("start", "ACTIVATING"), ("stop", "DEACTIVATING"), ("start", "ACTIVATING")):
        assert api.post(f"/connectors/{connector_id}/{command}").json() == {}
        assert listed(api, connector_id)["state"] == f"CONNECTOR_STATE_{state}"


@pytest.mark.check("A12")
def test_what_runs_cannot_be_deleted_or_reset(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    api.post(f"/connectors/{connector_id}/start")
    assert_error(api.delete(f"/connectors/{connector_id}"), 400, 9)
    assert_error(api.post(f"/connectors/{connector_id}/reset"), 400, 9)


@pytest.mark.check("A13")
@pytest.mark.parametrize("deleted", [False, True])
def test_an_unknown_and_a_deleted_connector_are_not_found(api: httpx.Client, connector_id: str, deleted: bool) -> None:
    if deleted:
        create(api, connector_id)
        api.delete(f"/connectors/{connector_id}")
    assert_error(api.post(f"/connectors/{connector_id}/start"), 404, 5)
    assert_error(api.get(f"/connectors/{connector_id}/settings"), 404, 5)
    assert_error(api.get(f"/connectors/{connector_id}/configuration"), 404, 5)
    assert_error(api.put(f"/connectors/{connector_id}/settings", json=SETTINGS), 404, 5)


@pytest.mark.check("A15")
def test_a_full_body_replaces_the_settings(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id, **{"compression:level": "3"})
    body = {**SETTINGS, "topic": "other"}
    assert api.put(f"/connectors/{connector_id}/settings", json=body).json() == {}
    assert settings_of(api, connector_id) == body
    assert api.put(f"/connectors/{connector_id}/settings", json=body).status_code == 200


@pytest.mark.check("A16")
@pytest.mark.parametrize("path", ["", "/settings"])
def test_a_partial_body_merges(api: httpx.Client, connector_id: str, path: str) -> None:
    create(api, connector_id, **{"compression:level": "3"})
    change = {"defaultHeaders:Team": "lending", "compression:level": None}
    assert api.put(f"/connectors/{connector_id}{path}", json=change).json() == {}
    assert settings_of(api, connector_id) == {**SETTINGS, "defaultHeaders:Team": "lending"}


@pytest.mark.check("A17")
def test_a_configuration_goes_in_nested_and_comes_out_typed(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    nested = {**SETTINGS, "compression": {"level": 6}, "waitForBrokerAck": True}
    assert api.put(f"/connectors/{connector_id}/configuration", json=nested).json() == {}
    assert settings_of(api, connector_id)["compression:level"] == "6"
    assert settings_of(api, connector_id)["waitForBrokerAck"] == "True"
    assert api.get(f"/connectors/{connector_id}/configuration").json()["configuration"] == nested
    api.put(f"/connectors/{connector_id}/settings", json={"compression:level": "6", "waitForBrokerAck": "true"})
    body = api.get(f"/connectors/{connector_id}/configuration").json()
    assert body.keys() == {"configuration", "configurationUpdateTime"}
    assert body["configuration"] == nested


@pytest.mark.check("A18")
def test_a_connector_can_be_renamed(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    assert api.put(f"/connectors/{connector_id}/rename", json={"Name": "Loan requests"}).json() == {}
    item = listed(api, connector_id)
    assert item["name"] == "Loan requests"
    api.put(f"/connectors/{connector_id}/rename", json={"name": "Loan requests"})
    assert listed(api, connector_id) == item
    assert violations(api.put(f"/connectors/{connector_id}/rename", json={"name": ""})).keys() == {"Name"}


@pytest.mark.check("A19")
def test_settings_come_with_their_time_and_a_small_first_letter(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id, **{"Transformer:Enabled": "false"})
    body = api.get(f"/connectors/{connector_id}/settings").json()
    assert body.keys() == {"settings", "settingsUpdateTime"}
    assert body["settings"]["transformer:Enabled"] == "false"
    assert body["settingsUpdateTime"].endswith("Z")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("function transformer(record) {}", "no function named `transform`"),
        ("function transform(record) {\n  let = ;\n}", "(line 2)"),
    ],
)
def test_a_transformation_that_cannot_be_one_is_refused(
    api: httpx.Client, connector_id: str, function: str, says: str
) -> None:
    """A44"""
    settings = {
        "transformer:enabled": "true",
        "transformer:function": base64.b64encode(function.encode()).decode(),
    }
    answer = api.post(f"/connectors/{connector_id}", json={"settings": {**SETTINGS, **settings}})
    assert_error(answer, 400, 3)
    assert says in violations(answer)["transformer:function"]
    create(api, connector_id)
    assert_error(api.put(f"/connectors/{connector_id}/settings", json=settings), 400, 3)
    settings["transformer:function"] = base64.b64encode(b"const transform = record => {}").decode()
    assert api.put(f"/connectors/{connector_id}/settings", json=settings).status_code == 200


@pytest.mark.check("A20")
def test_the_list_is_filtered_by_state_type_and_id(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    state, other = "CONNECTOR_STATE_STOPPED", "CONNECTOR_STATE_RUNNING"

    def count(**params: Any) -> int:
        return int(api.get("/connectors", params={"connectorId": connector_id, **params}).json()["totalCount"])

    assert count(state=[state, other], instanceTypeName="KafkaSink") == 1
    assert count(state="4") == 1
    assert count(state=other) == 0
    assert count(instanceTypeName="http-sink") == 0
    assert_error(api.get("/connectors", params={"state": "STOPPED"}), 400, 3)


@pytest.mark.check("A21")
@pytest.mark.parametrize(("page", "size"), [("page", "pageSize"), ("paging.page", "paging.pageSize")])
def test_the_list_has_pages(api: httpx.Client, connector_id: str, page: str, size: str) -> None:
    ids = [f"{connector_id}-{number}" for number in range(7)]
    for each in ids:
        create(api, each)
    body = api.get("/connectors", params={"connectorId": ids, page: "2", size: "3"}).json()
    assert [item["connectorId"] for item in body["items"]] == ids[3:6]
    assert (body["totalSize"], body["totalCount"]) == (3, 7)
    for wrong in ({size: "0"}, {size: "101"}, {page: "0"}, {page: "x"}, {page: "9" * 5000}):
        assert_error(api.get("/connectors", params=wrong), 400, 3)


def test_of_two_spellings_the_protos_counts_and_both_must_be_right(api: httpx.Client) -> None:
    """§1.3"""
    both = {"paging.page": "2", "page": "3", "paging.pageSize": "5", "pageSize": "7"}
    assert api.get("/connectors", params=both).json()["paging"] == {"page": 2, "pageSize": 5}
    half = {"page": "3", "paging.pageSize": "5"}
    assert api.get("/connectors", params=half).json()["paging"] == {"page": 3, "pageSize": 5}
    assert violations(api.get("/connectors", params=both | {"page": "0"})).keys() == {"Paging.Page"}
    assert violations(api.get("/connectors", params=both | {"pageSize": "101"})).keys() == {"Paging.PageSize"}


@pytest.mark.check("A22")
def test_settings_and_deleted_connectors_are_listed_on_request(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    assert listed(api, connector_id)["settings"] == {}
    assert listed(api, connector_id, includeSettings="true")["settings"] == SETTINGS
    assert listed(api, connector_id, includeConfiguration="true")["configuration"] == SETTINGS
    api.delete(f"/connectors/{connector_id}")
    assert api.get("/connectors", params={"connectorId": connector_id}).json()["items"] == []
    assert "deleteTime" in listed(api, connector_id, show_deleted="true")


def test_configuration_in_a_list_takes_the_place_of_settings(api: httpx.Client, connector_id: str) -> None:
    """§1.3"""
    create(api, connector_id)
    for wanted, shown in (("true", SETTINGS), ("false", {})):
        item = listed(api, connector_id, includeConfiguration=wanted, includeSettings="true")
        assert (item["configuration"], item["settings"]) == (shown, {})
        assert "configurationUpdateTime" in item
        assert "settingsUpdateTime" not in item


def test_what_failed_is_told_until_it_runs_again_or_is_stopped(
    api: httpx.Client, database: Database, connector_id: str
) -> None:
    """§1.8"""
    create(api, connector_id)
    registry = Registry(database)

    def fail() -> Epoch:
        activation = registry.start(connector_id).activation
        epoch = registry.take_over(connector_id, "a scheduler").epoch
        registry.report_running(connector_id, epoch)
        assert listed(api, connector_id)["state"] == "CONNECTOR_STATE_RUNNING"
        assert "errorDetails" not in listed(api, connector_id)
        registry.report_failed(connector_id, epoch, activation, "topic-missing", "There is no topic loans.")
        item = listed(api, connector_id)
        assert item["state"] == "CONNECTOR_STATE_STOPPED"
        assert item["errorDetails"] == {"code": "topic-missing", "message": "There is no topic loans."}
        return epoch

    fail()
    epoch = fail()  # the second time it began with what was told of the first
    assert api.post(f"/connectors/{connector_id}/start").status_code == 200
    assert "errorDetails" in listed(api, connector_id)
    assert api.post(f"/connectors/{connector_id}/stop").status_code == 200
    registry.report_stopped(connector_id, epoch)
    assert listed(api, connector_id)["state"] == "CONNECTOR_STATE_STOPPED"
    assert "errorDetails" not in listed(api, connector_id)


@pytest.mark.check("A23")
def test_the_list_has_canonical_and_documented_names(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    create(api, f"{connector_id}-2")
    body = api.get("/connectors", params={"connectorId": [connector_id, f"{connector_id}-2"], "pageSize": "1"}).json()
    assert body.keys() == {"items", "totalSize", "totalCount", "paging"}
    assert (len(body["items"]), body["totalSize"], body["totalCount"]) == (1, 1, 2)
    assert body["paging"] == {"page": 1, "pageSize": 1}
    assert {
        "stateUpdateTime",
        "stateTimestamp",
        "settingsUpdateTime",
        "settingsTimestamp",
        "createTime",
        "updateTime",
    } <= body["items"][0].keys()


@pytest.mark.check("A24")
def test_an_error_says_what_kind_it_is(api: httpx.Client, connector_id: str) -> None:
    body = assert_error(api.post(f"/connectors/{connector_id}/start"), 404, 5)
    assert body["details"][0]["@type"] == "type.googleapis.com/google.rpc.ResourceInfo"
    assert connector_id in body["message"]
    assert body.keys() == {"code", "message", "details"}
    assert body["details"][0].keys() == {"@type", "resourceType", "resourceName", "owner", "description"}
    create(api, connector_id)
    assert create(api, connector_id).json()["details"][0]["@type"] == "type.googleapis.com/google.rpc.ResourceInfo"
    assert assert_error(api.post(f"/connectors/{connector_id}/start/x"), 400, 3)["details"] == []
    api.post(f"/connectors/{connector_id}/start")
    assert assert_error(api.post(f"/connectors/{connector_id}/start"), 400, 9)["details"] == []


@pytest.mark.check("A26")
def test_keys_and_values_have_no_case(api: httpx.Client, connector_id: str) -> None:
    assert create(api, connector_id, **{"SUBSCRIPTION:InitialPosition": "Earliest"}).status_code == 200
    api.put(f"/connectors/{connector_id}", json={"subscription:initialposition": "latest"})
    found = {key.lower(): value for key, value in settings_of(api, connector_id).items()}
    assert found["subscription:initialposition"] == "latest"
    assert len(found) == 3


@pytest.mark.check("A27")
def test_unknown_keys_are_kept(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id, **{"_foo:bar": "1"})
    assert settings_of(api, connector_id)["_foo:bar"] == "1"


def test_a_password_is_refused_while_nothing_can_protect_it(api: httpx.Client, connector_id: str) -> None:
    response = create(api, connector_id, **{"Authentication:Password": ""})
    assert_error(response, 400, 9)
    assert_error(api.get(f"/connectors/{connector_id}/settings"), 404, 5)


@pytest.mark.parametrize("position", ["-1", "x", "1.5", str(2**64), "%C2%B2", "9" * 5000])
def test_a_position_is_an_unsigned_number(api: httpx.Client, connector_id: str, position: str) -> None:
    create(api, connector_id)
    assert_error(api.post(f"/connectors/{connector_id}/start?start.position={position}"), 400, 3)
    assert_error(api.post(f"/connectors/{connector_id}/start/{position}"), 400, 3)
    assert_error(api.post(f"/connectors/{connector_id}/reset/{position}"), 400, 3)


def test_what_does_not_exist_is_answered_in_the_same_shape(api: httpx.Client, connector_id: str) -> None:
    assert_error(api.get("/nothing"), 404, 5)
    assert_error(api.get("/connectors//"), 404, 5)
    assert_error(api.get(f"/connectors/{connector_id}"), 405, 12)


def test_a_slash_at_the_end_of_a_path_changes_nothing(api: httpx.Client, connector_id: str) -> None:
    assert api.post(f"/connectors/{connector_id}/", json={"settings": SETTINGS}).json() == {}
    assert api.get("/connectors/", params={"connectorId": connector_id}).json()["totalSize"] == 1
    assert api.get(f"/connectors/{connector_id}/settings/").json()["settings"] == SETTINGS
    assert_error(api.post("/connectors/"), 405, 12)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "", "DELETE, POST, PUT"),
        ("DELETE", "/settings", "GET, PUT"),
        ("PATCH", "/configuration", "GET, PUT"),
        ("GET", "/start", "POST"),
    ],
)
def test_a_wrong_method_is_answered_with_every_right_one(
    api: httpx.Client, connector_id: str, method: str, path: str, allowed: str
) -> None:
    response = api.request(method, f"/connectors/{connector_id}{path}")
    assert_error(response, 405, 12)
    assert response.headers["allow"] == allowed


def test_readiness_names_what_is_down_and_nothing_else_minds(api: httpx.Client, connector_id: str) -> None:
    response = api.get("/readyz")
    assert (response.status_code, response.json()["waitingFor"]) == (503, ["Redis"])
    assert create(api, connector_id).status_code == 200
    assert api.post(f"/connectors/{connector_id}/start").status_code == 200


def test_a_port_in_use_is_said_in_a_sentence(api: httpx.Client, config: Config) -> None:
    with pytest.raises(Misconfigured, match=f"cannot listen on 127.0.0.1:{config.api_port}"):
        ApiServer(config).run(threading.Event())


def test_every_described_body_is_accepted(api: httpx.Client, connector_id: str) -> None:
    described = api.get("/openapi.json").json()["paths"]
    bodies = [
        (method, path, name, example["value"])
        for path, methods in described.items()
        for method, operation in methods.items()
        for name, example in _examples(operation).items()
    ]
    assert len(bodies) == 9
    create(api, connector_id)
    for number, (method, path, name, body) in enumerate(bodies):
        wanted = f"{connector_id}-{number}" if method == "post" else connector_id
        answer = api.request(method, path.replace("{connector_id}", wanted), json=body)
        assert answer.status_code == 200, (method, path, name, answer.text)


def _examples(operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {"content": {"application/json": {"examples": {}}}})
    return dict(body["content"]["application/json"]["examples"])


def parameters(operation: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each["schema"] for each in operation["parameters"]}


def test_the_api_describes_what_it_takes(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    start = paths["/connectors/{connector_id}/start/{position}"]["post"]
    wanted = {"minLength": 5, "maxLength": 50, "pattern": "^[A-Za-z0-9_-]*$"}
    assert parameters(start)["connector_id"].items() >= wanted.items()
    position = {"type": "integer", "format": "uint64", "minimum": 0, "maximum": 2**64 - 1}
    assert parameters(start)["position"].items() >= position.items()
    query = parameters(paths["/connectors/{connector_id}/start"]["post"])
    assert query["start.position"].items() >= position.items()
    rename = paths["/connectors/{connector_id}/rename"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert rename["properties"]["name"].items() >= {"minLength": 3, "maxLength": 50}.items()


def test_every_described_parameter_of_the_list_is_known_to_it(api: httpx.Client) -> None:
    """§1.3"""
    described = parameters(api.get("/openapi.json").json()["paths"]["/connectors"]["get"])
    texts = {"instanceTypeName", "connectorId"}
    assert described.keys() == texts | {
        "state",
        "includeSettings",
        "includeConfiguration",
        "showDeleted",
        "page",
        "pageSize",
        "paging.page",
        "paging.pageSize",
    }
    for name in described.keys() - texts:
        assert_error(api.get("/connectors", params={name: "?", "connectorId": "no-such-connector"}), 400, 3)
    for state in described["state"]["items"]["enum"]:
        assert api.get("/connectors", params={"state": state}).status_code == 200


def test_no_answer_is_described_that_is_never_given(api: httpx.Client) -> None:
    operations = [each for path in api.get("/openapi.json").json()["paths"].values() for each in path.values()]
    assert all("422" not in operation["responses"] for operation in operations)
