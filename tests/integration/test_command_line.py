"""The `sinkworker` script before any command of it runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.processes import clean_environment, eventually, start_sinkworker


@pytest.mark.parametrize("module", ["click", "orjson"])
def test_ctrl_c_while_it_still_imports_ends_it_with_130_and_no_traceback(tmp_path: Path, module: str) -> None:
    begun, shadow = tmp_path / "begun", tmp_path / "shadow"
    shadow.mkdir()
    (shadow / f"{module}.py").write_text(f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(30)\n")
    environ = clean_environment()
    environ["PYTHONPATH"] = f"{shadow}{os.pathsep}{environ['PYTHONPATH']}"
    process = start_sinkworker("config", "show", cwd=tmp_path, log=tmp_path / "err", environ=environ)
    eventually(begun.exists)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out, (tmp_path / "err").read_text()) == (130, b"", "")
