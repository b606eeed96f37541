"""How a Python child of ours is started: this interpreter, and this very package, from any working directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import sinkworker


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` as a child."""
    return [sys.executable, "-m", module, *arguments]


def import_path(environ: Mapping[str, str]) -> str:
    """The PYTHONPATH of a child: the package this process runs from comes first, relative entries become absolute."""
    home = str(Path(sinkworker.__file__).resolve().parents[1])
    given = [str(Path(each).absolute()) for each in environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    return os.pathsep.join([home, *(each for each in given if each != home)])
