"""The rules of the house: four floors whose imports go straight down, small files, nothing left unfinished."""

import ast
import os
import re
from collections.abc import Iterator, Set
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from e2llm_core.tasks.registry import TASKS

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
LINES = {path: path.read_text(encoding="utf-8").splitlines() for path in SOURCES}
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


def module(path: Path) -> str:
    """Name by which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def needed(path: Path, modules: Set[str]) -> set[str]:
    """Modules of the project that a file imports; inside functions, only those of other folders.

    So a plan may make its stage without loading it before, and ``from a import b`` may name the module a.b.
    """
    found = set()
    late = {inner for node in ast.walk(TREES[path]) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            below = (f"{node.module}.{alias.name}" for alias in node.names)
            names = {name if name in modules else str(node.module) for name in below}
        else:
            continue
        own_folder = module(path).rpartition(".")[0]
        found |= {name for name in names if node not in late or name.rpartition(".")[0] != own_folder}
    return (found & modules) - {module(path)}


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_all_four_floors_are_looked_at() -> None:
    assert {place(path).split("/")[0] for path in SOURCES} == set(FORBIDDEN)


def test_only_the_twin_and_its_oracle_know_what_the_twin_hides() -> None:
    """Nothing that learns or answers may know what a label of the twin moves, or a recording's latents."""
    twin, oracle = ROOT / "storage" / "twin.py", ROOT / "e2llm_core" / "evaluation" / "references" / "oracle.py"
    hidden = ("SIGNATURES", "BURST_LABELS", "subject_latents")
    found = {name: {path for path, lines in LINES.items() if any(name in line for line in lines)} for name in hidden}
    assert all(twin in paths for paths in found.values()), "the names are still these"
    assert [f"{place(path)}: {name}" for name in hidden for path in sorted(found[name] - {twin, oracle})] == []


def test_imports_go_straight_down() -> None:
    wrong = [
        f"{place(path)}:{line} imports {name}"
        for path, tree in TREES.items()
        for line, name in imported(tree)
        if name.split(".")[0] in FORBIDDEN[place(path).split("/")[0]] or name.startswith(".")
    ]
    assert not wrong


def test_imports_have_no_circles() -> None:
    modules = {module(path) for path in SOURCES}
    TopologicalSorter({module(path): needed(path, modules) for path in SOURCES}).prepare()  # CycleError names one


def test_files_and_functions_are_small() -> None:
    long = [place(path) for path, lines in LINES.items() if len(lines) >= MAX_FILE_LINES]
    long += [
        f"{place(path)}:{node.lineno} {node.name}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not long


def test_nothing_is_left_unfinished() -> None:
    assert not [
        f"{place(path)}:{number}"
        for path, lines in LINES.items()
        for number, line in enumerate(lines, 1)
        if UNFINISHED.search(line)
    ]


def test_nothing_else_spells_the_name_of_a_task() -> None:
    """A task is one file of `e2llm_core/tasks`; what it is called comes from the registry."""
    name = re.compile(rf"\b(?:{'|'.join(TASKS)})\b")
    others = [path for path in SOURCES if not place(path).startswith("e2llm_core/tasks/")]
    others += sorted((ROOT / "benchmarks").rglob("*.py"))
    assert not [
        f"{place(path)}:{number}"
        for path in others
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if name.search(line)
    ]


def test_a_task_stands_in_one_file() -> None:
    """The registry gives its name on; its file alone spells it."""
    files = [path for path in SOURCES if place(path).startswith("e2llm_core/tasks/")]
    for task in TASKS.values():
        spelt = [place(path) for path in files if re.search(rf"\b{task.name}\b", "\n".join(LINES[path]))]
        assert spelt == [f"{type(task).__module__.replace('.', '/')}.py"]


def executes(node: ast.Call) -> bool:
    """Whether a call would execute what it reads: a pickle, weights in one, a model's code, YAML that makes objects."""
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
    return unsafe


def test_nothing_loaded_from_disk_is_executed() -> None:
    assert not [
        f"{place(path)}:{node.lineno} {called(node)}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and executes(node)
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pickle.load(file)", True),
        ("yaml.full_load(text)", True),
        ("eval(text)", True),
        ("torch.load(file, weights_only=False)", True),
        ("AutoModel.from_pretrained(folder, trust_remote_code=given)", True),
        ("np.load(file, allow_pickle=False)", False),
        ("torch.load(file, weights_only=True)", False),
        ("model.eval()", False),
    ],
)
def test_what_executes_is_known(code: str, expected: bool) -> None:
    assert executes(next(node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))) == expected


def test_jobs_can_be_run() -> None:
    """A job file with a shebang has the run bit, and the other way round."""
    for path in sorted((ROOT / "jobs").rglob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            first = file.readline().rstrip("\n")
        assert first.startswith("#!") == os.access(path, os.X_OK), place(path)
        if first.startswith("#!"):
            assert first == "#!/usr/bin/env -S python -m jobs", place(path)
