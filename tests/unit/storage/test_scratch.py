"""Scratch space is this user's own, and a plain folder needs none."""

from pathlib import Path

import pytest

from storage.errors import InputError
from storage.places.fetching import fetched, fetched_file
from storage.places.scratch import is_scratch, scratch_folder
from storage.places.workspace import Workspace, working_folder


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("E2LLM_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_every_url_has_a_folder_of_its_own_that_nobody_else_enters(scratch: Path) -> None:
    folders = {scratch_folder(url) for url in ("s3://bucket/a/run", "s3://bucket/b/run", "s3://other/a/run")}
    assert len(folders) == 3
    assert all(folder.name.startswith("run-") and is_scratch(folder / "model") for folder in folders)
    assert folders == {scratch_folder(url) for url in ("s3://bucket/a/run", "s3://bucket/b/run", "s3://other/a/run")}
    (own,) = scratch.iterdir()
    assert own.stat().st_mode & 0o777 == 0o700
    assert not is_scratch(scratch)


def test_a_folder_that_others_may_write_to_is_refused(scratch: Path) -> None:
    own = scratch_folder("s3://bucket/run").parent
    own.chmod(0o777)
    with pytest.raises(InputError, match=r"is accessible to other users.*E2LLM_SCRATCH"):
        scratch_folder("s3://bucket/run")
    own.rmdir()
    own.symlink_to("/")
    with pytest.raises(InputError, match="is accessible to other users"):
        scratch_folder("s3://bucket/run")


def test_a_run_in_a_folder_is_worked_on_there(tmp_path: Path, scratch: Path) -> None:
    run = tmp_path / "run"
    workspace = Workspace(run, 3)
    assert (workspace.folder, workspace.is_shared, workspace.name) == (run, True, "run")
    with working_folder(run) as folder, workspace.kept("*"):
        (folder / "metrics.jsonl").write_text("one\n")
        workspace.send("*")
        workspace.send_folder("model")
        workspace.send_file(folder / "metrics.jsonl")
        workspace.fetch("*")
        workspace.fetch_folder("model", folder / "copy")
        workspace.discard()
    assert [path.name for path in run.iterdir()] == ["metrics.jsonl"]
    assert not scratch.exists()


def test_a_model_in_a_folder_is_read_there(tmp_path: Path, scratch: Path) -> None:
    assert fetched(tmp_path / "model") == tmp_path / "model"
    assert fetched_file(tmp_path / "weights.ckpt") == tmp_path / "weights.ckpt"
    assert not scratch.exists()
