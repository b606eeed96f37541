"""The database over TLS, with a password and a certificate of ours: every role gets in, or says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kurrentdb.standin import StandIn
from tests.ports import free_port
from tests.processes import eventually
from tests.system import System
from tests.tls import Authority, Identity, TlsProxy

pytestmark = pytest.mark.long

PASSWORD = "the-password-of-the-database"
WRONG = "another-password-of-the-database"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kurrentdb-access")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "authority")


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Identity:
    return authority.issue("ours")


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[StandIn]:
    server = StandIn(folder / "events.db", "--user", f"admin:{PASSWORD}").start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def proxy(database: StandIn, authority: Authority) -> Iterator[TlsProxy]:
    """What the roles connect to. It talks to those alone who have a certificate."""
    with TlsProxy(database.port, authority.issue("kurrentdb"), clients_of=authority) as running:
        yield running


def uri(proxy: TlsProxy, trusted: Authority, ours: Identity, password: str = PASSWORD) -> str:
    files = f"tlsCaFile={trusted.file}&userCertFile={ours.certificate}&userKeyFile={ours.key}"
    return f"kurrentdb://admin:{password}@127.0.0.1:{proxy.port}?tls=true&{files}"


@pytest.fixture(scope="module", params=["libcurl", "kurrentdbclient"])
def system(
    request: pytest.FixtureRequest, folder: Path, proxy: TlsProxy, authority: Authority, ours: Identity
) -> Iterator[System]:
    own = folder / request.param
    own.mkdir()
    address = uri(proxy, authority, ours)
    with System(own, workers=1, KURRENTDB_URI=address, SINKWORKER_READER=request.param) as running:
        yield running


def test_an_expired_certificate_is_named_and_delivery_goes_on_with_a_new_one(
    system: System, proxy: TlsProxy, authority: Authority
) -> None:
    flow = system.flow()
    flow.append(100)
    assert flow.delivered().holds
    proxy.show(authority.issue("expired", ends_in_days=-1))
    proxy.drop()
    roles = [system.roles[name] for name in ("scheduler", "coordinator")]
    try:
        for role in roles:
            eventually(lambda role=role: role.said("No TLS connection to KurrentDB"), within_s=30)  # type: ignore[misc]
            assert role.said("Check the database's certificate, and tls, tlsCaFile and userCertFile in the URI.")
            assert not role.said("ssl_transport_security.cc")
    finally:
        proxy.show(authority.issue("renewed"))
    flow.append(100)
    assert flow.delivered().holds
    flow.stop()
    assert flow.connector.error is None


ROLES = {
    "scheduler": ["sinkworker", "scheduler"],
    "coordinator": ["sinkworker", "coordinator"],
    "api": ["sinkworker", "api"],
}


@pytest.mark.parametrize("name", ROLES)
def test_a_database_of_an_unknown_authority_is_not_talked_to(
    system: System, proxy: TlsProxy, folder: Path, ours: Identity, name: str
) -> None:
    address = uri(proxy, Authority(folder, f"stranger-{name}"), ours)
    said = what_is_said(system, name, address, "No TLS connection to KurrentDB")
    assert "Check the database's certificate, and tls, tlsCaFile" in said


@pytest.mark.parametrize("name", ROLES)
def test_who_has_no_certificate_is_told_so(system: System, proxy: TlsProxy, authority: Authority, name: str) -> None:
    address = f"kurrentdb://admin:{PASSWORD}@127.0.0.1:{proxy.port}?tls=true&tlsCaFile={authority.file}"
    assert "?tls=true" in what_is_said(system, name, address, f"KurrentDB at kurrentdb://***@127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("name", ROLES)
def test_a_wrong_password_is_said_and_not_shown(
    system: System, proxy: TlsProxy, authority: Authority, ours: Identity, name: str
) -> None:
    said = what_is_said(system, name, uri(proxy, authority, ours, WRONG), "refused the credentials")
    assert "Check the user and password of the URI." in said


def what_is_said(system: System, name: str, address: str, expected: str) -> str:
    """The log of another role with that address of the database, once it has said what is expected."""
    role = system.another(
        f"{name}-refused",
        ROLES[name],
        KURRENTDB_URI=address,
        SINKWORKER_API_PORT=str(free_port()),
        SINKWORKER_LOG_LEVEL="DEBUG",
    )
    role.start()
    try:
        eventually(lambda: role.said(expected), within_s=30)
        assert role.stop() == 0
        said = role.log.read_text()
    finally:
        role.destroy()
    for secret in (PASSWORD, WRONG):
        assert secret not in said
    return said
