"""Other releases of sinkworker than this one, as folders that a role's PYTHONPATH may name."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.processes import HOME

PREVIOUS = "6303dc8a"
"""The commit of the previous release: whoever changes a format finds out here what that does to an upgrade."""

PACKAGES = ("sinkworker", "tasks")


def previous(folder: Path) -> Path:
    """The previous release. Skips the test where the repository's history does not reach back to it."""
    try:
        command = ["git", "-C", str(HOME), "archive", "--format=zip", PREVIOUS, *PACKAGES]
        archived = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("the previous release cannot be had without git")
    except subprocess.CalledProcessError as exc:
        pytest.skip(f"the previous release cannot be had: {exc.stderr.decode().strip()}")
    home = folder / "previous"
    with zipfile.ZipFile(BytesIO(archived.stdout)) as archive:
        archive.extractall(home)
    return home


def next_one(folder: Path, *changes: tuple[str, str, str]) -> Path:
    """This release, but for some lines: of each a module, how it reads there and how it reads in the next release."""
    home = folder / "next"
    for package in PACKAGES:
        shutil.copytree(HOME / package, home / package, ignore=shutil.ignore_patterns("__pycache__"))
    for module, line, becomes in changes:
        text = (home / module).read_text()
        assert text.count(f"\n{line}\n") == 1, f"{module} has no line {line!r} of its own"
        (home / module).write_text(text.replace(f"\n{line}\n", f"\n{becomes}\n"))
    return home
