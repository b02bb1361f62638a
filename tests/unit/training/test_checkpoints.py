import shutil
from pathlib import Path

import pytest

from e2llm_core.training.checkpoint import Checkpoints, TrainerState
from e2llm_core.training.world import World
from storage.errors import InputError


class Recorder:
    """Stands in for the engine: writes and reads one file, and ends its writing when it is told to."""

    def __init__(self, fail: bool = False, is_saving: bool = False, error: Exception | None = None) -> None:
        self.loaded: Path | None = None
        self.resharded: Path | None = None
        self.fail, self.is_saving, self.error = fail, is_saving, error

    def finish_saving(self) -> None:
        if self.error:
            raise self.error

    def save(self, folder: Path) -> None:
        (folder / "weights").write_text(folder.name)
        if self.fail:
            raise KeyboardInterrupt

    def load(self, folder: Path) -> None:
        self.loaded = folder

    def load_resharded(self, folder: Path, converts: bool) -> None:
        self.resharded = folder


def saved(root: Path, *steps: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(root, keep, World())
    for step in steps:
        save(checkpoints, TrainerState(step, 1))
    return checkpoints


def save(checkpoints: Checkpoints, state: TrainerState) -> None:
    engine = Recorder()
    checkpoints.save(engine, state)
    checkpoints.finish(engine)


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
    assert any(name.startswith("step-000015") for name in names(tmp_path))
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


def test_a_worker_that_was_given_up_writes_into_no_other_attempts_checkpoint(tmp_path):
    """Its node hangs and is replaced; then it goes on writing, and finishes."""

    class Late(Recorder):
        def save(self, folder: Path) -> None:
            self.folder = folder

        def finish_saving(self) -> None:
            self.folder.mkdir(exist_ok=True)
            (self.folder / "weights").write_text("late")

    given_up, late = Checkpoints(tmp_path, 2, World()), Late()
    given_up.save(late, TrainerState(5, 1))
    saved(tmp_path, 5)
    late.finish_saving()
    (folder,) = given_up.complete()
    assert (folder / "weights").read_text().startswith("step-000005.writing-")
    saved(tmp_path, 10)
    assert names(tmp_path) == ["step-000005", "step-000010"]


def test_what_another_attempt_writes_is_left_alone(tmp_path):
    """Its launcher gave it up, but it is alive: what it holds open must not vanish under it and then count."""
    given_up = Checkpoints(tmp_path, 2, World())
    later = Checkpoints(tmp_path, 2, World())
    given_up.save(Recorder(), TrainerState(7, 1))
    for step in (5, 10, 15):
        save(later, TrainerState(step, 1))
    (still_written,) = [name for name in names(tmp_path) if ".writing-" in name]
    assert still_written.startswith("step-000007")
    assert names(tmp_path)[-2:] == ["step-000010", "step-000015"]


def test_a_checkpoint_whose_files_were_removed_does_not_count(tmp_path):
    checkpoints = saved(tmp_path, 5)
    engine = Recorder()
    checkpoints.save(engine, TrainerState(10, 1))
    (written,) = (tmp_path / "checkpoints").glob("*.writing-*")
    shutil.rmtree(written)
    with pytest.raises(InputError, match="was removed while it was being written"):
        checkpoints.finish(engine)
    assert [path.name for path in checkpoints.complete()] == ["step-000005"]


def test_a_checkpoint_that_could_not_be_written_leaves_its_room_free(tmp_path):
    checkpoints, engine = saved(tmp_path, 5), Recorder(error=OSError("No space left on device"))
    checkpoints.save(engine, TrainerState(10, 1))
    with pytest.raises(InputError, match="No space left"):
        checkpoints.finish(engine)
    assert names(tmp_path) == ["step-000005"]


def test_another_number_of_workers_is_resharded(tmp_path):
    save(Checkpoints(tmp_path, 2, World(0, 1)), TrainerState(5, 2))
    engine = Recorder()
    assert Checkpoints(tmp_path, 2, World()).resume(engine) == TrainerState(5, 2)
    assert engine.loaded is None
    assert engine.resharded == tmp_path / "checkpoints" / "step-000005"


def test_the_best_score_survives(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1, World())
    save(checkpoints, TrainerState(3, 1, best_score=0.123456789012345))
    assert checkpoints.resume(Recorder()) == TrainerState(3, 1, 0.123456789012345)


def test_only_the_first_rank_marks_and_removes(tmp_path, monkeypatch):
    monkeypatch.setattr(World, "barrier", lambda self: None)
    monkeypatch.setattr(World, "sum", lambda self, values: list(values))
    monkeypatch.setattr(World, "exchange", lambda self, item: [item, item])
    (tmp_path / "checkpoints" / "step-000001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000002.writing-0").mkdir()
    checkpoints = Checkpoints(tmp_path, 1, World(rank=1, size=2))
    save(checkpoints, TrainerState(2, 2))
    assert names(tmp_path) == ["step-000001", "step-000002.writing-0"]
    assert checkpoints.complete() == []


def test_a_checkpoint_counts_only_once_everybody_has_written_it(tmp_path):
    checkpoints, engine = saved(tmp_path, 5), Recorder(is_saving=True)
    checkpoints.save(engine, TrainerState(10, 1))
    assert not checkpoints.is_written(engine)
    assert [path.name for path in checkpoints.complete()] == ["step-000005"]
    engine.is_saving = False
    assert checkpoints.is_written(engine)
    checkpoints.finish(engine)
    assert checkpoints.complete()[-1].name == "step-000010"


def test_the_next_save_finishes_the_one_before(tmp_path):
    checkpoints, engine = Checkpoints(tmp_path, 2, World()), Recorder()
    checkpoints.save(engine, TrainerState(5, 1))
    checkpoints.save(engine, TrainerState(10, 1))
    assert [path.name for path in checkpoints.complete()] == ["step-000005"]


def test_what_cannot_be_written_is_refused_and_costs_no_other_checkpoint(tmp_path):
    checkpoints, engine = saved(tmp_path, 5), Recorder(error=OSError(28, "No space left on device"))
    checkpoints.save(engine, TrainerState(10, 1))
    with pytest.raises(InputError, match=r"step-000010.*No space left on device.*Free space"):
        checkpoints.finish(engine)
    assert checkpoints.resume(Recorder()) == TrainerState(5, 1)


def test_the_best_step_is_kept_beside_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1, World())
    for step, best in ((1, 1), (2, 1), (3, 3), (4, 3), (5, 3)):
        save(checkpoints, TrainerState(step, 1, 0.5, best))
    assert names(tmp_path) == ["step-000003", "step-000005"]
    engine = Recorder()
    checkpoints.load_best(engine, TrainerState(5, 1, 0.5, 3))
    assert engine.loaded == tmp_path / "checkpoints" / "step-000003"
