"""Public bug reports as small inputs, each with its right value: the folder ``cases`` beside the shared recordings."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import cluster.batch.ingest
from jobs.ingest import ingest_plan
from storage.errors import InputError
from storage.readers import RecordingRef


def one_after_the_other(plan: object, token: str, refs: list[RecordingRef], *_: object) -> Iterator[tuple]:
    """Work on recordings in this process, without Ray."""
    for ref in refs:
        yield ref, cluster.batch.ingest._ingest_one(plan, token, ref)


@pytest.fixture
def cases(shared_data: Path) -> Path:
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"no cases at {folder}")
        pytest.skip(f"no cases at {folder}")
    return folder


@pytest.fixture
def judge(cases: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", cases / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ingest(work: Path) -> tuple[int, str]:
    try:
        plan = ingest_plan(work / "spec.yaml", [])
        cluster.batch.ingest.ingest(plan, cluster.batch.ingest.Resources(), work / "out" / "run")
    except InputError as error:
        return 2, f"error: {error}"
    return 0, ""


def test_every_case_has_its_right_value(
    cases: Path,
    judge: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster.batch.ingest, "_outcomes", one_after_the_other)
    wrong = {}
    for case in sorted(path.parent for path in cases.glob("*/spec.yaml")):
        work = Path(shutil.copytree(case, tmp_path / case.name, symlinks=True))
        monkeypatch.setenv("E2LLM_ROOT", str(work))
        code, said = ingest(work)
        if (work / "later").is_dir():
            shutil.copytree(work / "later", work / "data", dirs_exist_ok=True)
            code, said = ingest(work)
        (work / "rc").write_text(str(code))
        (work / "log.txt").write_text(capsys.readouterr().out + said)
        if problems := judge.look(case, work):
            wrong[case.name] = problems
    assert not wrong
