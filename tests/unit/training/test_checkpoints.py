from pathlib import Path

import pytest

from e2llm_core.training.checkpoint import Checkpoints, TrainerState
from e2llm_core.training.world import World


class Recorder:
    """Stands in for the engine: writes and reads one file."""

    def __init__(self, fail: bool = False) -> None:
        self.loaded: Path | None = None
        self.resharded: Path | None = None
        self.fail = fail

    def save(self, folder: Path) -> None:
        (folder / "weights").write_text(folder.name)
        if self.fail:
            raise KeyboardInterrupt

    def load(self, folder: Path) -> None:
        self.loaded = folder

    def load_resharded(self, folder: Path) -> None:
        self.resharded = folder


def saved(root: Path, *steps: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(root, keep, World())
    for step in steps:
        checkpoints.save(Recorder(), TrainerState(step, 1))
    return checkpoints


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "checkpoints").iterdir())


def test_a_run_without_checkpoints_starts_anew(tmp_path):
    engine = Recorder()
    assert Checkpoints(tmp_path, 2, World()).resume(engine) is None
    assert engine.loaded is None


def test_the_newest_complete_checkpoint_is_resumed(tmp_path):
    checkpoints = saved(tmp_path, 5, 10)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(Recorder(fail=True), TrainerState(15, 1))
    assert "step-000015" in names(tmp_path)
    engine = Recorder()
    assert checkpoints.resume(engine) == TrainerState(10, 1)
    assert engine.loaded == tmp_path / "checkpoints" / "step-000010"


def test_steps_are_ordered_as_numbers(tmp_path):
    checkpoints = saved(tmp_path, 999_999, 1_000_000)
    assert [path.name for path in checkpoints.complete()] == ["step-999999", "step-1000000"]
    assert checkpoints.resume(Recorder()).step == 1_000_000


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_rotation_keeps_the_newest(tmp_path, keep):
    saved(tmp_path, 1, 2, 3, 4, keep=keep)
    assert names(tmp_path) == [f"step-{step:06d}" for step in range(5 - keep, 5)]


def test_leftovers_of_a_kill_are_removed_by_the_next_save(tmp_path):
    checkpoints = saved(tmp_path, 5)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(Recorder(fail=True), TrainerState(7, 1))
    saved(tmp_path, 10)
    assert names(tmp_path) == ["step-000005", "step-000010"]


def test_a_step_saved_again_replaces_what_a_kill_left(tmp_path):
    leftover = tmp_path / "checkpoints" / "step-000005"
    leftover.mkdir(parents=True)
    (leftover / "zero_pp_rank_7").touch()
    checkpoints = saved(tmp_path, 5)
    assert not (leftover / "zero_pp_rank_7").exists()
    assert checkpoints.complete() == [leftover]


def test_another_number_of_workers_is_resharded(tmp_path):
    Checkpoints(tmp_path, 2, World(0, 1)).save(Recorder(), TrainerState(5, 2))
    engine = Recorder()
    assert Checkpoints(tmp_path, 2, World()).resume(engine) == TrainerState(5, 2)
    assert engine.loaded is None
    assert engine.resharded == tmp_path / "checkpoints" / "step-000005"


def test_the_best_score_survives(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1, World())
    checkpoints.save(Recorder(), TrainerState(3, 1, best_score=0.123456789012345))
    assert checkpoints.resume(Recorder()) == TrainerState(3, 1, 0.123456789012345)


def test_only_the_first_rank_marks_and_removes(tmp_path, monkeypatch):
    monkeypatch.setattr(World, "barrier", lambda self: None)
    (tmp_path / "checkpoints" / "step-000001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000002").mkdir()
    checkpoints = Checkpoints(tmp_path, 1, World(rank=1, size=2))
    checkpoints.save(Recorder(), TrainerState(2, 2))
    assert names(tmp_path) == ["step-000001", "step-000002"]
    assert checkpoints.complete() == []
