"""Who may use the API, over what, and from where: Basic authentication, TLS, and what it refuses to listen on."""

from __future__ import annotations

import base64
import logging
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from sinkworker.config import Config, Secret
from sinkworker.errors import Invalid
from sinkworker.management.server import ApiServer
from tests.integration.api.conftest import served
from tests.integration.api.test_api import assert_error, create, listed
from tests.ports import free_port
from tests.processes import eventually

USER, PASSWORD = "clerk", "correct-hörse:battery"
TLS = Path(__file__).parents[1] / "kurrentdb" / "tls"


@pytest.fixture(scope="module")
def guarded(config: Config) -> Iterator[httpx.Client]:
    """An API with a user, and a client that knows nothing of it."""
    access = {"api_user": USER, "api_password": Secret(PASSWORD), "api_port": free_port()}
    with served(replace(config, **access)) as client:  # type: ignore[arg-type]
        yield client


def basic(user: str, password: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode(encoding)).decode()}


RIGHT = basic(USER, PASSWORD)

PATHS = [
    ("GET", "/connectors"),
    ("GET", "/connectors/loans-sink/settings"),
    ("GET", "/connectors/loans-sink/configuration"),
    ("POST", "/connectors/loans-sink"),
    ("POST", "/connectors/loans-sink/start"),
    ("DELETE", "/connectors/loans-sink"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("PATCH", "/connectors"),
    ("GET", "/livez/"),
    ("GET", "//livez"),
]


@pytest.mark.check("A25")
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_request_without_credentials_is_forbidden_whatever_it_asks_for(
    guarded: httpx.Client, method: str, path: str
) -> None:
    response = guarded.request(method, str(guarded.base_url).rstrip("/") + path)
    body = assert_error(response, 403, 7)
    assert body["details"] == [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "PERMISSION_DENIED", "domain": "authorization"}
    ]
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert "www-authenticate" not in response.headers


@pytest.mark.check("A25")
@pytest.mark.parametrize(
    "authorization",
    [
        basic(USER, "wrong")["Authorization"],
        basic("other", PASSWORD)["Authorization"],
        basic("", "")["Authorization"],
        basic(USER.upper(), PASSWORD)["Authorization"],
        basic(USER, PASSWORD + "x")["Authorization"],
        basic(USER, PASSWORD, "latin-1")["Authorization"],
        "Basic " + base64.b64encode(USER.encode()).decode(),
        RIGHT["Authorization"].replace("Basic", "Bearer"),
        RIGHT["Authorization"] + "=",
        RIGHT["Authorization"].replace("Basic ", "Basic"),
        "Basic",
        "Basic ???",
        "Basic \xe4\xf6",
        "Basic " + "A" * 20_000,
        "",
    ],
)
def test_wrong_credentials_are_refused_and_named_nowhere(
    guarded: httpx.Client, caplog: pytest.LogCaptureFixture, authorization: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = guarded.get("/connectors", headers={b"Authorization": authorization.encode("latin-1")})
    assert_error(response, 401, 16)
    assert response.headers["www-authenticate"] == 'X-Basic realm="ESDB"'
    assert PASSWORD not in response.text + caplog.text


def test_right_credentials_may_do_everything(guarded: httpx.Client, connector_id: str) -> None:
    guarded = httpx.Client(base_url=guarded.base_url, auth=(USER, PASSWORD), trust_env=False)
    assert create(guarded, connector_id).status_code == 200
    assert listed(guarded, connector_id)["name"] == connector_id
    assert guarded.get("/openapi.json").status_code == 200
    lower = {"Authorization": RIGHT["Authorization"].replace("Basic", "basic")}
    assert guarded.get("/connectors", headers=lower).status_code == 200


def test_one_wrong_authorization_beside_a_right_one_is_refused(guarded: httpx.Client) -> None:
    both = [("Authorization", RIGHT["Authorization"]), ("Authorization", "Basic eA==")]
    assert_error(guarded.get("/connectors", headers=both), 401, 16)


def test_what_looks_whether_it_lives_needs_no_credentials(guarded: httpx.Client) -> None:
    assert guarded.get("/livez").json() == {"status": "alive"}
    assert guarded.get("/readyz").json()["waitingFor"] == ["Redis"]


def test_the_description_names_how_to_log_in_where_that_is_needed(api: httpx.Client, guarded: httpx.Client) -> None:
    described = guarded.get("/openapi.json", headers=RIGHT).json()
    (name,) = described["components"]["securitySchemes"]
    assert described["components"]["securitySchemes"][name] == {"type": "http", "scheme": "basic"}
    listing = described["paths"]["/connectors"]["get"]
    assert listing["security"] == [{name: []}]
    assert listing["responses"].keys() >= {"401", "403"}
    assert "security" not in described["paths"]["/livez"]["get"]
    assert described["paths"]["/livez"]["get"]["responses"].keys() == {"200"}
    open_to_all = api.get("/openapi.json").json()
    assert "securitySchemes" not in open_to_all.get("components", {})
    assert not open_to_all["paths"]["/connectors"]["get"]["responses"].keys() & {"401", "403"}


def test_the_password_may_be_in_a_file(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    access = replace(config, api_user=USER, api_password=Secret("other"), api_password_file=file, api_port=free_port())
    with served(access) as client:
        assert client.get("/openapi.json", headers=RIGHT).status_code == 200
        assert client.get("/openapi.json", headers=basic(USER, "other")).status_code == 401
    file.unlink()
    with pytest.raises(Invalid, match="SINKWORKER_API_PASSWORD_FILE names a file that cannot be read"):
        run(access)


def run(config: Config) -> None:
    """Until it refuses. Whatever it listens on meanwhile is closed at once."""
    stop = threading.Event()
    stop.set()
    ApiServer(config).run(stop)


@pytest.fixture
def tls(config: Config) -> Config:
    return replace(config, api_port=free_port(), api_certificate=TLS / "server.pem", api_key=TLS / "server.key")


def test_with_a_certificate_it_speaks_https_alone(tls: Config, caplog: pytest.LogCaptureFixture) -> None:
    trusted = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    with caplog.at_level(logging.INFO), served(tls, "https", verify=trusted) as client:
        assert client.get("/connectors").status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{tls.api_port}/livez", trust_env=False)
        assert client.get("/connectors").status_code == 200
    assert f"listening on https://127.0.0.1:{tls.api_port}" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"api_certificate": Path("/nowhere.pem")}, "SINKWORKER_API_CERTIFICATE names a file that cannot be read"),
        ({"api_key": Path("/nowhere.pem")}, "SINKWORKER_API_KEY names a file that cannot be read"),
        ({"api_key": TLS}, "SINKWORKER_API_KEY names a file that cannot be read"),
        ({"api_certificate": TLS / "ca.pem"}, "SINKWORKER_API_KEY names is not that of the certificate"),
        ({"api_certificate": TLS / "README.md"}, "SINKWORKER_API_CERTIFICATE and SINKWORKER_API_KEY name are no"),
        ({"api_key": TLS / "README.md"}, "SINKWORKER_API_CERTIFICATE and SINKWORKER_API_KEY name are no"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_said_in_a_sentence(tls: Config, wrong: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said) as raised:
        run(replace(tls, **wrong))
    assert raised.value.exit_code == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to encrypt a key")
def test_an_encrypted_key_is_refused_and_no_password_asked_for(tls: Config, tmp_path: Path) -> None:
    key = tmp_path / "server.key"
    encrypt = ["openssl", "pkey", "-in", str(TLS / "server.key"), "-out", str(key), "-aes256", "-passout", "pass:x"]
    subprocess.run(encrypt, check=True, capture_output=True)
    with pytest.raises(Invalid, match="not encrypted"):
        run(replace(tls, api_key=key))


BEYOND = ["0.0.0.0", "::"]


@pytest.mark.parametrize("host", BEYOND)
def test_it_listens_for_others_only_with_a_user_or_when_told_to(
    config: Config, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    beyond = replace(config, api_host=host, api_port=free_port())
    with pytest.raises(Invalid, match="let everybody do everything") as raised:
        run(beyond)
    for way_out in ("SINKWORKER_API_USER", "SINKWORKER_API_HOST=127.0.0.1", "SINKWORKER_API_ALLOW_ANONYMOUS=true"):
        assert way_out in str(raised.value)
    run(replace(beyond, api_allow_anonymous=True))
    assert "unencrypted" not in caplog.text
    run(replace(beyond, api_user=USER, api_password=Secret(PASSWORD)))
    assert "The password travels unencrypted" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_on_loopback_it_listens_without_a_user(config: Config, host: str) -> None:
    run(replace(config, api_host=host, api_port=free_port()))


def test_an_ipv6_address_is_logged_as_a_url_has_it(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run(replace(config, api_host="::1", api_port=free_port()))
    eventually(lambda: "listening on http://[::1]:" in caplog.text)
