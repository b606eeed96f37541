"""Which reader serves where libcurl cannot, and what it means that the server fails at a subscription."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pycurl
import pytest

from sinkworker.bell import SocketBell
from sinkworker.config import SETTINGS
from sinkworker.database import ServerFault
from sinkworker.model import Cursor
from sinkworker.source import readers
from sinkworker.source.filters import FilterRefused, Matching, OneStream, ServerFilter
from sinkworker.source.readers import ATTEMPTS, Reader, subscribe, usable


def test_the_reader_that_is_asked_for_serves(caplog: pytest.LogCaptureFixture) -> None:
    assert [usable(reader) for reader in Reader] == list(Reader)
    assert caplog.records == []


@pytest.mark.parametrize("missing", ["pycurl", "HTTP/2"])
def test_without_libcurls_http2_the_client_reads(
    missing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if missing == "pycurl":
        monkeypatch.setitem(sys.modules, "pycurl", None)
    else:
        features = (*pycurl.version_info()[:4], 0, *pycurl.version_info()[5:])
        monkeypatch.setattr(pycurl, "version_info", lambda: features)
    with caplog.at_level(logging.WARNING):
        assert usable(Reader.LIBCURL) is Reader.CLIENT
    assert "many times the CPU" in caplog.text


def test_the_configuration_names_the_readers() -> None:
    assert [SETTINGS["reader"].parse(reader.value) for reader in Reader] == [reader.value for reader in Reader]
    with pytest.raises(ValueError, match="libcurl or kurrentdbclient"):
        SETTINGS["reader"].parse("curl")


def subscribed(wanted: ServerFilter, faults: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A subscription at a server that fails so often."""
    answers: list[Any] = [ServerFault("It threw.")] * faults + ["subscription"]

    def answer(*_: Any) -> Any:
        if isinstance(found := answers.pop(0), ServerFault):
            raise found
        return found

    monkeypatch.setattr(readers, "PAUSE_S", 0.0)
    monkeypatch.setattr(readers, "_subscription", answer)
    database: Any = None
    return subscribe(database, Reader.LIBCURL, wanted, Cursor.BEGINNING, SocketBell())


def test_a_server_that_fails_once_blames_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert subscribed(Matching("^loan-"), ATTEMPTS - 1, monkeypatch) == "subscription"


def test_a_server_that_fails_each_time_cannot_run_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FilterRefused, match="does not accept the filter"):
        subscribed(Matching("^loan-("), ATTEMPTS, monkeypatch)


def test_without_a_filter_there_is_none_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerFault):
        subscribed(OneStream("loan-1"), ATTEMPTS, monkeypatch)
