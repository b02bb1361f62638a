"""What the launcher makes of how an attempt ended; Ray Train itself is made up here."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ray.exceptions import RayActorError
from ray.train import TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

from cluster.resources import TrainingResources
from cluster.train import training
from cluster.train.stopping import Stopped
from e2llm_core.stages.config import StagePlan
from e2llm_core.stages.tiny_llm.plan import TinyLLMPlan
from storage.errors import InputError
from storage.places.location import locate

PLAN = TinyLLMPlan.model_validate(
    {"labels": {"name": "two", "names": ["rest", "task"]}, "train": {"global_batch": 8, "micro_batch": 4}}
)
Ending = Callable[[Path], str]


def failing(error: Exception) -> Ending:
    """An attempt that a worker's exception ended, as Ray Train hands it on."""

    def end(run: Path) -> str:
        raise WorkerGroupError("workers failed", {1: error})

    return end


def checkpointed(step: int, error: Exception) -> Ending:
    """The same, after a checkpoint."""

    def end(run: Path) -> str:
        locate(run).write(f"checkpoints/step-{step:06d}/COMPLETE", b"")
        raise WorkerGroupError("workers failed", {0: error})

    return end


def finished(run: Path) -> str:
    return "finished"


def stopped_for_room(run: Path) -> str:
    """As workers end that were asked for a checkpoint, since the run can grow or its node will be taken."""
    return "stopped"


def signalled(run: Path) -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    while locate(run).read("stop") != b"stop":
        pass
    return "stopped"


LOST = RayActorError()


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[int, StagePlan]]]:
    """Launch a run whose attempts end as given; returns with how many workers, and which plan, each was begun."""
    run, begun = tmp_path / "run", list[tuple[int, StagePlan]]()

    def launch(*endings: Ending, room: tuple[int, ...] = (), **resources: object) -> list[tuple[int, StagePlan]]:
        left, rooms = list(endings), list(room)

        def attempt(plan: StagePlan, run: Path, resources: TrainingResources, workers: int, name: str) -> str:
            assert locate(run).read("stop").decode() == name, "workers of earlier attempts must end"
            begun.append((workers, plan))
            return left.pop(0)(run)

        monkeypatch.setattr(training, "_attempt", attempt)
        monkeypatch.setattr(training, "require_resources", lambda resources: None)
        monkeypatch.setattr(training, "wait_for_listed_nodes", lambda: None)
        monkeypatch.setattr(
            "cluster.train.capacity.room", lambda resources, *, free: rooms.pop(0) if free and rooms else 0
        )
        try:
            training.train(PLAN, run, TrainingResources.model_validate({"workers": 2, **resources}))
        finally:
            assert not left, "as many attempts as were expected"
        return begun

    launch.run, launch.begun = run, begun  # type: ignore[attr-defined]
    return launch


def said(launch) -> str:
    return (launch.run / "progress.log").read_text()


def test_lack_of_memory_halves_the_micro_batch_and_is_no_failure(launch):
    begun = launch(failing(torch.OutOfMemoryError("made up")), finished, max_failures=0)
    assert [plan.train.micro_batch for _, plan in begun] == [4, 2]
    assert {plan.train.global_batch for _, plan in begun} == {8}
    assert "out of memory; goes on with train.micro_batch=2" in said(launch)


def test_a_sample_that_does_not_fit_is_refused(launch):
    with pytest.raises(InputError, match="one sample per worker"):
        launch(*[failing(MemoryError())] * 3)
    assert [plan.train.micro_batch for _, plan in launch.begun] == [4, 2, 1]


def test_lost_workers_are_started_again_and_the_newest_checkpoint_is_named(launch):
    begun = launch(checkpointed(3, LOST), finished)
    assert [workers for workers, _ in begun] == [2, 2]
    assert "lost its workers" in said(launch)
    assert "goes on from step-000003" in said(launch)


def test_failures_count_between_checkpoints(launch):
    """Two in a row without a new checkpoint are one too many; those with one are forgotten."""
    with pytest.raises(TrainingFailedError):
        launch(*(checkpointed(step, LOST) for step in (3, 6, 9)), failing(LOST), max_failures=1)
    assert len(launch.begun) == 4


def test_what_a_worker_refuses_is_not_tried_again(launch):
    refused = InputError("step 8", "the loss is nan", "Lower train.learning_rate.")
    with pytest.raises(InputError) as caught:
        launch(failing(refused))
    assert caught.value is refused


def test_a_full_disk_is_not_tried_again(launch):
    with pytest.raises(InputError, match=r"No space left.*Free space.*goes on from step-000003"):
        launch(checkpointed(3, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "here")))


def test_a_run_shrinks_grows_and_leaves_a_node_in_good_time(launch):
    """Workers are counted anew for each attempt; growth, and a loss that is announced, end one without a failure."""
    endings = (checkpointed(3, LOST), stopped_for_room, stopped_for_room, finished)
    elastic = {"min": 1, "max": 2, "check_seconds": 60}
    begun = launch(*endings, room=(2, 1, 2, 1), workers=elastic, max_failures=1)
    assert [workers for workers, _ in begun] == [2, 1, 2, 1]
    assert said(launch).count("lost its workers") == 1


def test_room_that_is_gone_is_counted_again_and_is_no_failure(launch):
    gone = failing(WorkerGroupStartupTimeoutError(num_workers=2))
    elastic = {"min": 1, "max": 2, "check_seconds": 60}
    begun = launch(gone, gone, finished, room=(2, 2, 1), workers=elastic, max_failures=0)
    assert [workers for workers, _ in begun] == [2, 2, 1]


def test_a_signal_ends_the_run_with_a_checkpoint(launch):
    with pytest.raises(Stopped):
        launch(signalled)
