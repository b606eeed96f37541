"""No child, and no child's child, outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from sinkworker.local.family import Family
from tests.processes import HOME, alive, eventually

PARENT = """
import sys, time
from pathlib import Path
from sinkworker.local.family import Family
folder = Path(sys.argv[1])
child = "import os, subprocess, sys, time;"
child += "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
child += "open('pids', 'w').write(f'{os.getpid()} {p.pid} '); time.sleep(600)"
family = Family()
family.spawn([sys.executable, "-c", child], env={}, cwd=folder, log=folder / "log")
(folder / "guardian").write_text(str(family._guardian.pid))
if sys.argv[2] == "replaced":
    family._guardian.kill(); family._guardian.wait()
    family.spawn([sys.executable, "-c", "import time; time.sleep(600)"], env={}, cwd=folder, log=folder / "log")
(folder / "ready").touch()
time.sleep(600)
"""


def parent(folder: Path, how: str = "plain") -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", PARENT, str(folder), how], env={"PYTHONPATH": str(HOME)})
    eventually((folder / "ready").exists)
    eventually(lambda: (folder / "pids").exists() and (folder / "pids").read_text().endswith(" "))
    return process


def pids(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_a_killed_parent_takes_its_children_and_theirs_along(tmp_path: Path) -> None:
    process = parent(tmp_path)
    process.kill()
    process.wait()
    eventually(lambda: not any(alive(pid) for pid in pids(tmp_path)))
    eventually(lambda: not alive(int((tmp_path / "guardian").read_text())))


def test_a_killed_guardian_is_replaced_and_the_old_children_stay_guarded(tmp_path: Path) -> None:
    process = parent(tmp_path, "replaced")
    assert all(alive(pid) for pid in pids(tmp_path))
    process.kill()
    process.wait()
    eventually(lambda: not any(alive(pid) for pid in pids(tmp_path)))


def test_a_guardian_is_not_ended_by_the_signals_that_end_its_parent(tmp_path: Path) -> None:
    with Family() as family:
        child = family.spawn(["sleep", "600"], env=os.environ, cwd=tmp_path, log=tmp_path / "log")
        os.kill(os.getpgid(child.pid), signal.SIGTERM)
        os.kill(os.getpgid(child.pid), signal.SIGHUP)
        assert child.poll() is None
    assert child.poll() == -signal.SIGKILL


def test_what_a_family_holds_is_free_only_when_all_are_gone(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    family = Family(hold=[writer])
    os.close(writer)
    child = family.spawn(["sleep", "600"], env=os.environ, cwd=tmp_path, log=tmp_path / "log")
    os.set_blocking(reader, False)
    try:
        held = os.read(reader, 1) != b""
    except BlockingIOError:
        held = True
    assert held
    family.close()
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""
    assert not alive(child.pid)
    os.close(reader)
