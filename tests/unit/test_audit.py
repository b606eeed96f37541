"""CI's look-up of known vulnerabilities, by the real pip-audit, at a stand-in of the index that tells of them."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.apache_kafka import insisted
from tests.ports import free_port
from tests.processes import HOME
from tests.tls import Authority

PIP_AUDIT = Path(sys.executable).with_name("pip-audit")

Known = dict[str, list[dict[str, Any]]]
"""What an index tells of releases, by `name/version`: their vulnerabilities."""


def vulnerability(number: str, *fixed_in: str) -> dict[str, Any]:
    return {
        "aliases": [],
        "details": "Two lines\nof details.",
        "fixed_in": list(fixed_in),
        "id": number,
        "link": f"https://osv.dev/vulnerability/{number}",
        "published": None,
        "source": "osv",
        "summary": None,
        "withdrawn": None,
    }


CONTROL: Known = {"pycrypto/2.6.1": [vulnerability("PYSEC-2017-94"), vulnerability("PYSEC-2018-97")]}
FAULTLESS: Known = {"requests/2.19.1": [], "orjson/3.11.0": [], "pip/23.2.1": [vulnerability("PYSEC-2023-228", "23.3")]}
FAULTY: Known = {"requests/2.19.1": [vulnerability("PYSEC-2018-28", "2.20.0"), vulnerability("PYSEC-2023-74")]}
SILENT = "NOT AUDITED: no service here knows of vulnerabilities, not even those of pycrypto 2.6.1."


@pytest.fixture(autouse=True)
def _tool() -> None:
    if not PIP_AUDIT.exists():
        (pytest.fail if insisted() else pytest.skip)("no pip-audit: it comes with the extra `dev`")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Where two packages are installed, pip and ourselves: as much of them as says so."""
    folder = tmp_path / "site-packages"
    for name, version in (("requests", "2.19.1"), ("orjson", "3.11.0"), ("pip", "23.2.1"), ("sinkworker", "0.1.0")):
        metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return folder


@contextmanager
def index(folder: Path, known: Known, *, status: int = 404) -> Iterator[dict[str, str]]:
    """The environment in which a proxy leads to an index that knows these releases; `status` answers for others."""
    authority = Authority(folder, "authority")

    class Index(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            # Whichever host pip-audit asks, since it takes no other for its index.
            identity = authority.issue(f"index-{self.client_address[1]}", host=self.path.partition(":")[0])
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(identity.certificate, identity.key)
            self.send_response(200)
            self.end_headers()
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
            self.close_connection = False  # HTTP/1.0, as which some ask for the tunnel, would close it here

        def do_GET(self) -> None:
            release = "/".join(self.path.split("/")[2:4])
            body = json.dumps({"info": {}, "vulnerabilities": known.get(release, [])}).encode()
            self.send_response(200 if release in known else status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"HTTPS_PROXY": f"http://127.0.0.1:{server.server_port}", "REQUESTS_CA_BUNDLE": str(authority.file)}
        server.shutdown()


def audit(installed: Path, **environment: str) -> tuple[int, list[str]]:
    """The exit code and the lines of an audit, without the host and root of its index.

    It keeps no answers for the next, and reaches nothing but a proxy.
    """
    lacking = {"https_proxy", "no_proxy", "NO_PROXY", "SINKWORKER_AUDIT_INSIST"}
    own = {name: value for name, value in os.environ.items() if name not in lacking}
    done = subprocess.run(
        [sys.executable, HOME / ".ci" / "audit", PIP_AUDIT, installed],
        env=own | {"XDG_CACHE_HOME": str(installed.parent / "cache")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, re.sub(r"https://[^/ ]+/\w+/", "", done.stdout).splitlines()


@pytest.mark.parametrize("control", [CONTROL, pytest.param({}, marks=pytest.mark.long)])
def test_a_finding_fails_it_and_names_package_version_vulnerability_and_fix(
    tmp_path: Path, installed: Path, control: Known
) -> None:
    with index(tmp_path, control | FAULTLESS | FAULTY) as environment:
        code, lines = audit(installed, **environment)
    assert code == 1
    assert lines == [
        "requests 2.19.1: PYSEC-2018-28, fixed in 2.20.0",
        "requests 2.19.1: PYSEC-2023-74, fixed in no release yet",
        "2 of 2 packages audited, vulnerabilities: 2" if control else SILENT,
    ]


@pytest.mark.long
def test_all_audited_and_nothing_found_passes_where_it_is_insisted_on(tmp_path: Path, installed: Path) -> None:
    with index(tmp_path, CONTROL | FAULTLESS) as environment:
        assert audit(installed, **environment, SINKWORKER_AUDIT_INSIST="1") == (
            0,
            ["2 of 2 packages audited, vulnerabilities: 0"],
        )


@pytest.mark.parametrize("insist", ["", pytest.param("1", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("known", "status", "lines"),
    [
        pytest.param({}, 404, [SILENT], id="index-without-such-data"),
        pytest.param(
            CONTROL | {"requests/2.19.1": []},
            404,
            ["1 of 2 packages audited, vulnerabilities: 0", "NOT AUDITED: the service does not know orjson."],
            id="some-packages-only",
        ),
        pytest.param(
            {"pycrypto/2.6.1": []} | FAULTLESS, 404, [SILENT], id="index-that-knows-no-fault", marks=pytest.mark.long
        ),
        pytest.param(
            CONTROL | {"requests/2.19.1": []},
            503,
            [
                "NOT AUDITED: requests.exceptions.HTTPError: 503 Server Error: Service Unavailable for url: "
                "orjson/3.11.0/json."
            ],
            id="index-out-of-order",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_is_not_audited_is_said_and_fails_only_where_it_is_insisted_on(
    tmp_path: Path, installed: Path, known: Known, status: int, lines: list[str], insist: str
) -> None:
    with index(tmp_path, known, status=status) as environment:
        assert audit(installed, **environment, SINKWORKER_AUDIT_INSIST=insist) == (1 if insist else 0, lines)


@pytest.mark.long
def test_without_a_network_it_says_why_nothing_is_audited(installed: Path) -> None:
    code, lines = audit(installed, HTTPS_PROXY=f"http://127.0.0.1:{free_port()}")
    assert code == 0
    assert [line.split(":")[:2] for line in lines] == [["NOT AUDITED", " requests.exceptions.ProxyError"]]
