"""What may import what: stages keep apart, the core knows no client, the environment is read in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = {
    "kurrentdbclient",
    "redis",
    "confluent_kafka",
    "celery",
    "fastapi",
    "uvicorn",
    "grpc",
    "h2",
    "httpx",
    "sqlite3",
    "py_mini_racer",
    "socket",
}
PURE = (
    "model.py",
    "errors.py",
    "metadata.py",
    "ledger/contract.py",
    "ledger/memory.py",
    "ledger/payload.py",
    "scheduling/arrears.py",
    "scheduling/lanes.py",
    "metrics/series.py",
    "metrics/stretches.py",
    "metrics/tally.py",
    "metrics/exposition.py",
    "keys.py",
    "murmur2.py",
    "scheduling/generations.py",
    "scheduling/grouping.py",
    "scheduling/routing.py",
    "source/framing.py",
    "delivery/window.py",
    "exactly_once/marks.py",
    "delivery/trace_context.py",
    "checkpoint/cadence.py",
    "connectors/settings.py",
    "connectors/configuration.py",
    "connectors/commands.py",
    "connectors/lifecycle.py",
    "connectors/dialect.py",
    "connectors/naming.py",
    "connectors/jsonpath.py",
    "connectors/patterns.py",
    "connectors/protection.py",
    "connectors/streams.py",
    "connectors/topic_template.py",
    "source/filters.py",
    "management/openapi.py",
    "management/shapes.py",
    "management/faults.py",
    "commands/violations.py",
    "commands/effective.py",
)
STAGES = {
    "transform": set[str](),
    # its registry tries a transformation before it accepts it
    "connectors": {"transform"},
    "ledger": set[str](),
    "source": {"connectors"},
    # it keeps counts where the ledger is
    "metrics": {"ledger"},
    "checkpoint": {"connectors", "ledger", "metrics"},
    "exactly_once": {"connectors"},
    "delivery": {"connectors", "exactly_once", "ledger", "metrics", "transform"},
    # its tenure reads from the source, and begins and ends with a checkpoint
    "scheduling": {"checkpoint", "connectors", "exactly_once", "ledger", "metrics", "source"},
    "management": {"connectors", "ledger", "metrics"},
    "local": set[str](),
    "demo": {"connectors", "local"},
    # it previews with the code that reads and the code that delivers
    "commands": {"connectors", "delivery", "ledger", "local", "management", "scheduling", "source"},
    # it runs the same processes as the demo, and judges topics as that does
    "bench": {"demo", "local"},
}
"""The folders of the package, and which others each may import. All may import the modules beside the folders."""


def imported(path: Path) -> set[str]:
    """Every module that the file imports at its top, by full name."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def file_of(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def reached(path: Path) -> set[str]:
    """The foreign packages that the file imports, also by way of modules of ours."""
    seen: set[Path] = set()
    foreign: set[str] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for name in imported(current):
            if name.split(".")[0] != "sinkworker":
                foreign.add(name.split(".")[0])
            elif (found := file_of(name)) is not None:
                waiting.append(found)
    return foreign


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_knows_no_client(name: str) -> None:
    assert reached(ROOT / "sinkworker" / name) & CLIENTS == set()


def test_the_finder_finds() -> None:
    assert "redis" in reached(ROOT / "sinkworker" / "scheduling" / "scheduler.py")


def anywhere_imported(path: Path) -> set[str]:
    """Every module that the file imports, in functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_every_folder_is_a_stage() -> None:
    assert {path.parent.name for path in (ROOT / "sinkworker").glob("*/__init__.py")} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_what_lies_below_it(stage: str) -> None:
    for path in (ROOT / "sinkworker" / stage).rglob("*.py"):
        names = [name.split(".") for name in anywhere_imported(path)]
        assert "tasks" not in {name[0] for name in names}, path
        used = {name[1] for name in names if name[0] == "sinkworker" and len(name) > 1}
        assert used & set(STAGES) <= STAGES[stage] | {stage}, path


def test_the_stages_above_the_queue_know_no_celery() -> None:
    for path in (ROOT / "sinkworker").rglob("*.py"):
        assert "celery" not in imported(path), path


def test_the_environment_is_read_in_one_place() -> None:
    readers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("sinkworker", "tasks")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and ast.unparse(node.value) == "os"
    }
    assert readers == {"sinkworker/config.py"}
