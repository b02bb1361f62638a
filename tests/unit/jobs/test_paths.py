"""Relative paths of a spec start from one folder, wherever in the spec they stand."""

from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from e2llm_core.stages.config import FolderOrHub
from jobs.job import absolute
from jobs.load import load_spec
from jobs.paths import CODE, model_folders, root_folder
from jobs.spec import SPECS
from storage.places.base import Place

ROOT = Path("/somewhere")
REPOSITORY = Path(__file__).resolve().parents[3]
NAMES = st.text("abcxyz0189-_.", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))
RELATIVE = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATHS = st.builds(lambda start, path: Path(start + path), st.sampled_from(["", "/"]), RELATIVE)


class Inner(BaseModel):
    folder: Path
    maybe: Path | None = None


class Outer(BaseModel):
    folder: Path
    inner: Inner
    several: tuple[Path, ...]
    by_name: dict[str, Path]
    nested: tuple[dict[str, Inner], ...]
    llm: Annotated[str, FolderOrHub]
    store: Place
    bucket: Place = Place("s3://bucket/prefix")
    maybe: Place | None = None
    runs: dict[str, Place] = {}
    name: str
    number: int


@given(PATHS, PATHS, st.lists(PATHS, max_size=3), st.dictionaries(NAMES, PATHS, max_size=3), NAMES)
def test_every_path_becomes_absolute_and_nothing_else_changes(first, second, several, by_name, name):
    nested = ({"x": Inner(folder=first, maybe=second)},)
    spec = Outer(
        folder=first,
        inner=Inner(folder=second),
        several=tuple(several),
        by_name=by_name,
        nested=nested,
        llm=f"Qwen/{name}",
        store=str(first),
        maybe=first,
        runs={"x": second, "y": "s3://bucket/y"},
        name=name,
        number=3,
    )
    changed = absolute(spec, ROOT)
    assert changed.folder == ROOT / first
    assert (changed.store, changed.bucket, changed.maybe) == (str(ROOT / first), "s3://bucket/prefix", changed.store)
    assert changed.runs == {"x": str(ROOT / second), "y": "s3://bucket/y"}
    assert changed.inner == Inner(folder=ROOT / second)
    assert changed.several == tuple(ROOT / path for path in several)
    assert changed.by_name == {key: ROOT / path for key, path in by_name.items()}
    assert changed.nested == ({"x": Inner(folder=ROOT / first, maybe=ROOT / second)},)
    assert (changed.llm, changed.name, changed.number) == (f"Qwen/{name}", name, 3)
    assert absolute(changed, Path("/elsewhere")) == changed


@given(RELATIVE)
def test_a_language_model_that_is_a_folder_here_becomes_absolute(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("root")
    inner = Inner(folder=ROOT)
    spec = Outer(folder=ROOT, inner=inner, several=(), by_name={}, nested=(), llm=name, store="s", name=name, number=1)
    assert absolute(spec, root).llm == name
    (root / name).mkdir(parents=True)
    assert absolute(spec, root).llm == str(root / name)
    assert absolute(spec, root).name == name


def paths_in(value: object) -> list[Path]:
    if isinstance(value, Path | Place):
        return [Path(value)]
    if isinstance(value, BaseModel):
        return [path for name in type(value).model_fields for path in paths_in(getattr(value, name))]
    if isinstance(value, dict):
        return [path for item in value.values() for path in paths_in(item)]
    return [path for item in value for path in paths_in(item)] if isinstance(value, tuple) else []


@pytest.mark.parametrize("file", sorted((REPOSITORY / "jobs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_no_shipped_spec_keeps_a_relative_path(file):
    spec = absolute(load_spec(file, [], SPECS).spec, ROOT)
    assert paths_in(spec)
    assert all(path.is_relative_to(ROOT) for path in paths_in(spec))


def test_the_hub_id_of_the_shipped_stage_2_is_left_alone():
    spec = absolute(load_spec(REPOSITORY / "jobs" / "stage2.yaml", [], SPECS).spec, ROOT)
    assert spec.model.llm == "Qwen/Qwen3-8B"


def test_the_root_is_the_variable_or_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("E2LLM_ROOT", raising=False)
    assert root_folder() == tmp_path.resolve()
    monkeypatch.setenv("E2LLM_ROOT", str(tmp_path / "data"))
    assert root_folder() == (tmp_path / "data").resolve()


def test_a_language_model_of_the_repository_is_found_from_any_root(tmp_path, monkeypatch):
    assert [folder.parents[1] for folder in model_folders("jobs/stand-in", tmp_path)] == [tmp_path, CODE]
    assert (CODE / "jobs" / "stand-in" / "config.json").is_file()
    monkeypatch.setattr("jobs.paths.CODE", tmp_path / "runtime_resources" / "code")
    assert model_folders("jobs/stand-in", tmp_path) == [tmp_path / "jobs" / "stand-in"]
