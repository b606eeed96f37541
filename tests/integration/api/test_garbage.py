"""Requests that no client of good will sends. None of them is an error of the API's: no 500, no traceback."""

from __future__ import annotations

import itertools
import json
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from sinkworker.config import Config, Secret
from tests.integration.api.conftest import served, standing_in
from tests.integration.api.test_api import SETTINGS, assert_error, create, listed, settings_of
from tests.ports import free_port

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def api(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Over a database of its own: what others have damaged is rightly said."""
    with standing_in(tmp_path_factory.mktemp("garbage")) as database:
        own = replace(config, kurrentdb_uri=Secret(database.uri), api_port=free_port())
        with served(own) as client:
            yield client


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test sends, the API's log has no error and no traceback."""
    with caplog.at_level(logging.DEBUG):
        yield
    loud = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR or record.exc_info]
    assert loud == []


def raw(api: httpx.Client, request: bytes, *, breaks_off: bool = False) -> tuple[int, bytes]:
    """What is answered to these very bytes: the status, 0 for none, and the whole answer."""
    with socket.create_connection(("127.0.0.1", api.base_url.port or 0), timeout=10) as connection:
        connection.sendall(request)
        if breaks_off:
            connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]) if answer else 0, answer


def test_json_as_deep_as_it_gets_is_refused(api: httpx.Client, connector_id: str) -> None:
    for body in ("[" * 100_000, '{"settings":' * 20_000 + "{}" + "}" * 20_000, '{"a":' * 900 + "1" + "}" * 900):
        response = api.post(f"/connectors/{connector_id}", content=body, headers=JSON)
        assert_error(response, 400, 3)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "nan", "1e", "01", "+1", "'1'", "\x00"])
def test_what_is_no_json_is_refused(api: httpx.Client, connector_id: str, word: str) -> None:
    body = f'{{"settings": {{"instanceTypeName": "kafka-sink", "topic": "loans", "_note": {word}}}}}'
    assert_error(api.post(f"/connectors/{connector_id}", content=body, headers=JSON), 400, 3)


@pytest.mark.parametrize("number", ["1e400", "-0.0", "9" * 5000, "1" + "0" * 400 + ".5"])
def test_a_number_of_any_size_is_a_text(api: httpx.Client, connector_id: str, number: str) -> None:
    body = f'{{"settings": {{"instanceTypeName": "kafka-sink", "topic": "loans", "_note": {number}}}}}'
    assert api.post(f"/connectors/{connector_id}", content=body, headers=JSON).status_code == 200
    assert settings_of(api, connector_id)["_note"] == number
    assert api.get(f"/connectors/{connector_id}/configuration").status_code == 200


def test_of_two_members_of_one_name_the_last_counts(api: httpx.Client, connector_id: str) -> None:
    body = f'{{"name": "first", "name": "second", "settings": {json.dumps(SETTINGS)}}}'
    assert api.post(f"/connectors/{connector_id}", content=body, headers=JSON).status_code == 200
    assert listed(api, connector_id)["name"] == "second"


@pytest.mark.parametrize(
    "body", [b"\xff\xfe{\x00}\x00", b'\xef\xbb\xbf{"name": "a"}', b'{"name": "\xed\xa0\x80abc"}', b"\x00" * 10]
)
def test_bytes_that_are_no_text_are_refused(api: httpx.Client, connector_id: str, body: bytes) -> None:
    assert_error(api.post(f"/connectors/{connector_id}", content=body, headers=JSON), 400, 3)


@pytest.mark.parametrize(
    "kind", ["", "json", "application/json+x", "application/x-www-form-urlencoded", "multipart/form-data", "a" * 5000]
)
def test_a_body_of_no_json_type_is_refused(api: httpx.Client, connector_id: str, kind: str) -> None:
    body = json.dumps({"settings": SETTINGS})
    response = api.post(f"/connectors/{connector_id}", content=body, headers={"content-type": kind})
    assert_error(response, 400, 3)


@pytest.mark.parametrize("kind", ["application/problem+json", "APPLICATION/JSON", "application/json; charset=utf-8"])
def test_a_body_of_any_json_type_is_taken(api: httpx.Client, connector_id: str, kind: str) -> None:
    body = json.dumps({"settings": SETTINGS})
    response = api.post(f"/connectors/{connector_id}", content=body, headers={"content-type": kind})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/connectors/a%2Fb%2Fc/settings", 404),
        ("/connectors/loans%2Fsettings/settings", 404),
        ("/connectors/..%2f..%2fetc/settings", 404),
        ("/connectors/loans%00sink/settings", 400),
        ("/connectors/loans%0Asink%0A/settings", 400),
        ("/connectors/loans-sink%0A/settings", 400),
        ("/connectors/%FF%FE%FD%FC%FB/settings", 400),
        ("/connectors/%ED%A0%80%ED%A0%80/settings", 400),
        ("/connectors/%zz%zz%zz/settings", 400),
        ("/connectors/ｌｏａｎｓ/settings", 400),
        ("/connectors/" + "x" * 8000 + "/settings", 400),
        ("/connectors/;loans;a=b/settings", 400),
        ("//connectors", 404),
        ("/connectors/loans-sink/settings/", 404),
        ("/CONNECTORS", 404),
    ],
)
def test_a_path_of_any_bytes_is_answered(api: httpx.Client, path: str, status: int) -> None:
    answered, answer = raw(api, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    if path.isascii():
        assert answered == status
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == {400: 3, 404: 5}[status]
    else:
        assert answered == 400


@pytest.mark.parametrize(
    "query",
    ["page=", "pageSize=", "state=", "includeSettings=", "showDeleted=1", "paging.page=%20", "page=%FF", "state=%00"],
)
def test_an_empty_or_odd_value_of_a_parameter_is_refused(api: httpx.Client, query: str) -> None:
    assert_error(api.get(f"/connectors?{query}"), 400, 3)


@pytest.mark.parametrize("query", ["connectorId=", "&&&", "=", "a=%zz", "page=1&page=2", "connectorId=%FF", "PAGE=2"])
def test_a_query_that_means_something_or_nothing_is_answered(api: httpx.Client, query: str) -> None:
    assert api.get(f"/connectors?{query}").status_code == 200


def test_of_a_parameter_given_twice_the_last_counts(api: httpx.Client) -> None:
    assert api.get("/connectors?paging.page=1&paging.page=2").json()["paging"]["page"] == 2


@pytest.mark.parametrize(
    ("position", "status"),
    [("0", 200), (str(2**64 - 1), 200), ("007", 200), (str(2**64), 400), ("+1", 400), ("-0", 400), ("1_000", 400)],
)
def test_the_bounds_of_a_position(api: httpx.Client, connector_id: str, position: str, status: int) -> None:
    create(api, connector_id)
    assert api.post(f"/connectors/{connector_id}/reset/{position}").status_code == status
    api.post(f"/connectors/{connector_id}/stop")
    query = position.replace("+", "%2B")
    assert api.post(f"/connectors/{connector_id}/start?start.position={query}").status_code == status


def request_of(connector_id: str, *headers: str, body: bytes = b"{}") -> bytes:
    head = [f"POST /connectors/{connector_id} HTTP/1.1", "Host: a", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(head).encode() + body


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: -1"],
        ["Content-Length: x"],
        ["Content-Length: 2", "Content-Length: 3"],
        ["Content-Length: " + "9" * 30],
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip"],
        ["X" * 70_000 + ": 1"],
        ["No colon"],
    ],
)
def test_a_request_that_is_no_http_is_refused_or_dropped(
    api: httpx.Client, connector_id: str, headers: list[str]
) -> None:
    status, _ = raw(api, request_of(connector_id, *headers), breaks_off=True)
    assert status in (0, 400)
    assert api.get("/livez").status_code == 200


def test_a_body_that_breaks_off_changes_nothing(api: httpx.Client, connector_id: str) -> None:
    body = json.dumps({"settings": SETTINGS}).encode()
    raw(api, request_of(connector_id, f"Content-Length: {len(body) + 1}", body=body), breaks_off=True)
    assert_error(api.get(f"/connectors/{connector_id}/settings"), 404, 5)


def test_http_1_0_is_answered(api: httpx.Client) -> None:
    status, answer = raw(api, b"GET /livez HTTP/1.0\r\n\r\n")
    assert status == 200
    assert answer.endswith(b'{"status":"alive"}')


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "FOO"])
def test_an_unknown_method_is_a_wrong_one(api: httpx.Client, method: str) -> None:
    request = f"{method} /connectors HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    status, answer = raw(api, request.encode())
    assert status == 405
    assert b"allow: GET" in answer


def at_once(*calls: Callable[[], httpx.Response]) -> Counter[int]:
    """The statuses that these calls are answered, all made at the same moment."""
    gate = threading.Barrier(len(calls))

    def call(asked: Callable[[], httpx.Response]) -> int:
        gate.wait(10)
        return asked().status_code

    with ThreadPoolExecutor(len(calls)) as pool:
        return Counter(pool.map(call, calls))


def test_of_creations_at_the_same_moment_one_wins(api: httpx.Client, connector_id: str) -> None:
    for number in range(5):
        statuses = at_once(*[lambda n=number: create(api, f"{connector_id}-{n}")] * 4)
        assert statuses == {200: 1, 409: 3}


def test_starts_at_the_same_moment_start_it_once(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    assert at_once(*[lambda: api.post(f"/connectors/{connector_id}/start")] * 4) == {200: 1, 400: 3}


def test_commands_that_cross_are_answered_as_if_one_came_first(api: httpx.Client, connector_id: str) -> None:
    create(api, connector_id)
    path = f"/connectors/{connector_id}"
    asked: list[Callable[[], httpx.Response]] = [
        lambda: api.post(f"{path}/start"),
        lambda: api.post(f"{path}/stop"),
        lambda: api.put(path, json={"topic": "other"}),
        lambda: api.put(f"{path}/rename", json={"name": "other"}),
        lambda: api.post(f"{path}/reset"),
        lambda: api.delete(path),
        lambda: api.get("/connectors", params={"connectorId": connector_id}),
        lambda: create(api, connector_id),
    ]
    seen: Counter[int] = Counter()
    for _ in range(4):
        seen += at_once(*itertools.chain(asked, asked))
    assert seen.keys() <= {200, 400, 404, 409}


def test_without_a_database_every_request_is_answered_503_in_the_documented_form(
    config: Config, connector_id: str
) -> None:
    nowhere = Secret(f"kurrentdb://127.0.0.1:{free_port()}?tls=false")
    with served(replace(config, kurrentdb_uri=nowhere, api_port=free_port())) as api:
        path = f"/connectors/{connector_id}"
        asked = [
            create(api, connector_id),
            api.get("/connectors"),
            api.get("/metrics"),
            api.post(f"{path}/start"),
            api.delete(path),
        ]
        for response in asked:
            body = assert_error(response, 503, 14)
            assert "KurrentDB" in body["message"]
            assert body["details"] == []
        assert api.get("/readyz").json()["waitingFor"] == ["KurrentDB", "Redis"]
