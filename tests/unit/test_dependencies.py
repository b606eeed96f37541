"""What the package says it needs: all that it imports, and nothing without an upper bound."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain

from tests.unit.test_imports import ROOT, anywhere_imported

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=]", requirement)[0].lower().replace("_", "-")


def test_every_requirement_is_bounded() -> None:
    ours = PROJECT["name"]
    assert [each for each in DECLARED if name_of(each) != ours and not re.search(r">=[^,]+,<\d", each)] == []


def test_every_import_is_declared() -> None:
    paths = chain.from_iterable((ROOT / folder).rglob("*.py") for folder in ("sinkworker", "tasks"))
    imported = {name.split(".")[0] for path in paths for name in anywhere_imported(path)}
    foreign = imported - sys.stdlib_module_names - {"sinkworker", "tasks"}
    names, makers = {name_of(each) for each in DECLARED}, packages_distributions()
    assert {each for each in foreign if not names & {name_of(maker) for maker in makers[each]}} == set()
