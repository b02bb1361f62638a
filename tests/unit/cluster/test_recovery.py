import errno
from pathlib import Path

import pytest
import torch
from ray.exceptions import OutOfMemoryError
from ray.train import WorkerGroupError

from cluster.resources import TrainingResources
from cluster.train.recovery import is_for_lack_of_memory, newest_checkpoint, refusal, with_half_the_micro_batch
from e2llm_core.stages.tiny_llm.plan import TinyLLMPlan
from storage.errors import InputError


def plan(micro_batch: int, micro_tokens: int = 1000) -> TinyLLMPlan:
    sizes = {"micro_batch": micro_batch, "micro_tokens": micro_tokens, "global_batch": 64}
    return TinyLLMPlan.model_validate({"labels": {"name": "two", "names": ["rest", "task"]}, "train": sizes})


def on_a_worker(error: Exception) -> WorkerGroupError:
    """As Ray Train hands on what a worker raised, behind what another one raised because of it."""
    wrapped = RuntimeError("user code failed")
    wrapped.__cause__ = error
    return WorkerGroupError("two workers failed", {0: ConnectionError("peer closed"), 1: wrapped})


def test_a_refusal_comes_back_whole(tmp_path: Path) -> None:
    refused = InputError("store", "is empty", "Ingest first.")
    assert refusal(on_a_worker(refused), tmp_path) is refused


def test_a_lost_worker_is_no_refusal(tmp_path: Path) -> None:
    assert refusal(on_a_worker(ConnectionError("lost")), tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_where_to_go_on(tmp_path: Path) -> None:
    marker = tmp_path / "run/checkpoints/step-000040/COMPLETE"
    marker.parent.mkdir(parents=True)
    marker.touch()
    found = refusal(on_a_worker(OSError(errno.ENOSPC, "No space left on device", "/data/x")), tmp_path / "run")
    assert "/data/x: cannot be written: No space left on device" in str(found)
    assert "step-000040" in str(found)


def test_a_folder_that_takes_no_more_is_found_when_nobody_says_so(tmp_path: Path) -> None:
    found = refusal(on_a_worker(RuntimeError("PytorchStreamWriter failed")), tmp_path / "missing")
    assert "missing: cannot be written" in str(found)
    assert "from the beginning" in str(found)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("cuda"), MemoryError(), OutOfMemoryError("host")])
def test_lack_of_memory_is_known_on_any_worker(error: Exception) -> None:
    assert is_for_lack_of_memory(on_a_worker(error))
    assert not is_for_lack_of_memory(on_a_worker(ValueError("other")))


def test_halves_down_to_one_sample_with_the_same_global_batch(tmp_path: Path) -> None:
    sizes, current = [], plan(8)
    while current.train.micro_batch > 1:
        current = with_half_the_micro_batch(current, 1, tmp_path)
        sizes.append((current.train.micro_batch, current.train.micro_tokens))
        assert current.train.global_batch == 64
    assert sizes == [(4, 500), (2, 250), (1, 125)]
    with pytest.raises(InputError, match="one sample per worker"):
        with_half_the_micro_batch(current, 1, tmp_path)


def test_no_attempt_is_spent_on_a_micro_batch_larger_than_a_workers_share(tmp_path: Path) -> None:
    assert with_half_the_micro_batch(plan(512), 4, tmp_path).train.micro_batch == 8


def test_the_newest_checkpoint_is_a_complete_one(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == ""
    for step, names in ((999_999, ["COMPLETE"]), (1_000_000, ["COMPLETE"]), (1_000_001, [])):
        folder = tmp_path / f"checkpoints/step-{step:06d}"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()
    assert newest_checkpoint(tmp_path) == "step-1000000"


@pytest.mark.parametrize(("workers", "fewest"), [(3, 3), ({"min": 1, "max": 8}, 1)])
def test_workers_are_a_number_or_a_range(workers: object, fewest: int) -> None:
    assert TrainingResources.model_validate({"workers": workers}).fewest_workers == fewest


@pytest.mark.parametrize("workers", [0, {"min": 2, "max": 1}, {"min": 0, "max": 1}, {"min": 1}, "many"])
def test_other_workers_are_refused(workers: object) -> None:
    with pytest.raises(ValueError, match="workers"):
        TrainingResources.model_validate({"workers": workers})
