"""The rules of the house: four floors whose imports go straight down, small files, nothing left unfinished."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {
    "storage": {"torch", "ray", "deepspeed", "transformers", "peft", "e2llm_core", "cluster", "jobs"},
    "e2llm_core": {"ray", "cluster", "jobs"},
    "cluster": {"jobs"},
    "jobs": set(),
}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 120
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")

SOURCES = sorted(path for floor in FORBIDDEN for path in (ROOT / floor).rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in SOURCES}


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every import of a module, at any depth of its code: line and full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"} and node.args:
            name = node.args[0]
            yield node.lineno, str(name.value) if isinstance(name, ast.Constant) else ""


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_all_four_floors_are_looked_at() -> None:
    assert {place(path).split("/")[0] for path in SOURCES} == set(FORBIDDEN)


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_imports_go_straight_down(path: Path) -> None:
    floor = place(path).split("/")[0]
    wrong = [
        f"{place(path)}:{line} imports {name}"
        for line, name in imported(TREES[path])
        if name.split(".")[0] in FORBIDDEN[floor] or name.startswith(".")
    ]
    assert not wrong


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_files_and_functions_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MAX_FILE_LINES
    long = [
        f"{place(path)}:{node.lineno} {node.name}"
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_nothing_is_left_unfinished(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [f"{place(path)}:{number}" for number, line in enumerate(lines, 1) if UNFINISHED.search(line)]


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_nothing_loaded_from_disk_is_executed(path: Path) -> None:
    """No pickles, no weights that are pickles, no code that comes with a model, no YAML that makes objects."""
    wrong = []
    for node in ast.walk(TREES[path]):
        if not isinstance(node, ast.Call):
            continue
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        module = owner.id if isinstance(owner, ast.Name) else ""
        unsafe = (
            (called(node) in {"load", "loads", "Unpickler"} and module in {"pickle", "cloudpickle", "joblib", "dill"})
            or (called(node) in {"unsafe_load", "full_load"} and module == "yaml")
            or (called(node) in {"eval", "exec"} and isinstance(node.func, ast.Name))
        )
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else ...
            unsafe |= keyword.arg == "weights_only" and value is not True
            unsafe |= keyword.arg in {"trust_remote_code", "allow_pickle"} and value is not False
        if unsafe:
            wrong.append(f"{place(path)}:{node.lineno} {called(node)}")
    assert not wrong


def test_jobs_can_be_run() -> None:
    """A job file with a shebang has the run bit, and the other way round."""
    for path in sorted((ROOT / "jobs").rglob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            first = file.readline().rstrip("\n")
        assert first.startswith("#!") == os.access(path, os.X_OK), place(path)
        if first.startswith("#!"):
            assert first == "#!/usr/bin/env -S python -m jobs", place(path)
