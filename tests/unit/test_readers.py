"""Which reader serves where libcurl cannot."""

from __future__ import annotations

import logging
import sys

import pycurl
import pytest

from sinkworker.config import SETTINGS
from sinkworker.source.readers import Reader, usable


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
