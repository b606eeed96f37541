"""One spelling of Redis's address, for redis-py, Celery and Flower."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from celery import Celery

from sinkworker.redis_address import parse
from tasks import transport

CA = str(Path(__file__).parents[1] / "integration" / "kurrentdb" / "tls" / "ca.pem")


def test_user_password_and_database_are_those_of_the_url() -> None:
    address = parse("redis://clerk:pa%23ss%40@cache.example/3")
    assert address.servers == (("cache.example", 6379),)
    assert (address.username, address.password, address.database) == ("clerk", "pa#ss@", 3)
    assert "pa#ss" not in repr(address)
    assert address.url == "redis://clerk:pa%23ss%40@cache.example:6379/3"


def test_tls_trusts_the_named_authority_and_checks_the_name() -> None:
    address = parse(f"rediss://[::1]:6380?ssl_ca_certs={CA}")
    assert address.url == "rediss://[::1]:6380/0"
    assert address.options["ssl"] is True
    assert address.tls == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, "ssl_ca_certs": CA}


@pytest.mark.parametrize("spelling", ["none", "CERT_NONE"])
def test_a_name_is_not_checked_where_nothing_is(spelling: str) -> None:
    assert parse(f"rediss://cache?ssl_cert_reqs={spelling}").tls == {
        "ssl_cert_reqs": ssl.CERT_NONE,
        "ssl_check_hostname": False,
    }


def test_sentinels_are_several_and_have_access_of_their_own() -> None:
    address = parse("sentinel://:data@one,two:1/2?master_name=cache&sentinel_username=u&sentinel_password=watch")
    assert (address.servers, address.master_name) == ((("one", 26379), ("two", 1)), "cache")
    assert address.sentinel_options == {"username": "u", "password": "watch"}
    assert address.options == {"db": 2, "username": None, "password": "data"}
    assert "watch" not in repr(address)


@pytest.mark.parametrize("path", ["", "/", "/0"])
def test_a_cluster_is_some_of_its_nodes(path: str) -> None:
    address = parse(f"redis+cluster://clerk:hunter2@one,two:7000{path}")
    assert (address.servers, address.is_cluster, address.tls) == ((("one", 6379), ("two", 7000)), True, None)
    assert (address.username, address.password) == ("clerk", "hunter2")
    assert parse(f"rediss+cluster://one?ssl_ca_certs={CA}").options["ssl_ca_certs"] == CA
    assert not parse("redis://one").is_cluster


def test_celery_shows_no_password_of_the_broker() -> None:
    """It hides the first one of a URL."""
    address = parse("sentinels://u:hunter2@one,two/0?master_name=cache&sentinel_password=hunter3")
    app = Celery(set_as_current=False)
    app.conf.update(transport.settings(address))
    connection = app.connection_for_read()
    assert "hunter" not in f"{connection.as_uri()} {connection!r} {app.conf.humanize()} {address!r}"
