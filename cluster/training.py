"""A stage on Ray Train: workers are placed and restarted here, trained in `e2llm_core`."""

import time
from pathlib import Path
from typing import Any

from cluster.progress import follow
from cluster.session import Resources, require_resources
from e2llm_core.stages.config import Plan
from e2llm_core.training.metrics import PROGRESS
from storage.errors import InputError

_START_TIMEOUT_SECONDS = "300"


def train(plan: Plan, run: Path, resources: Resources) -> None:
    """Run a stage on the connected cluster; goes on from the run's newest complete checkpoint.

    Parameters
    ----------
    plan : Plan
        What to train; its paths are absolute.
    run : Path
        Run folder on storage that all nodes see.
    resources : Resources
        Workers and what each needs.

    Raises
    ------
    InputError
        When the cluster is too small, or a worker refused its input.
    """
    import os

    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", _START_TIMEOUT_SECONDS)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    require_resources(resources)
    gpus = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}
    trainer = TorchTrainer(
        train_on_worker,
        train_loop_config={"plan": plan, "run": str(run)},
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": resources.cpus_per_worker, **gpus},
        ),
        run_config=RunConfig(
            name=f"{time.time_ns()}",
            storage_path=str(run / "ray"),
            failure_config=FailureConfig(max_failures=resources.max_failures),
        ),
    )
    with follow(run / PROGRESS):
        try:
            trainer.fit()
        except Exception as error:
            raise _refusal(error) or error from None


def train_on_worker(settings: dict[str, Any]) -> None:
    """What one worker does; metrics and checkpoints go to the run's folder.

    Ray Train is told nothing: it holds one report per worker and looks for it every two seconds, and until then the
    next report, and with it training, would wait.
    """
    import os

    import ray.train

    if not ray.get_gpu_ids():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from e2llm_core.stages.table import build_stage
    from e2llm_core.training.trainer import Trainer
    from e2llm_core.training.world import World

    context = ray.train.get_context()
    world = World(
        context.get_world_rank(),
        context.get_world_size(),
        context.get_local_rank(),
        context.get_node_rank(),
    )
    plan: Plan = settings["plan"]
    trainer = Trainer(build_stage(plan), plan.train, Path(settings["run"]), world)
    trainer.fit()


def _refusal(error: BaseException) -> InputError | None:
    """The refusal that a worker raised, if that is what ended the run."""
    failures = getattr(error, "worker_failures", None) or {}
    for failure in [error, *failures.values()]:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, InputError):
                return cause
            cause = getattr(cause, "cause", None) or cause.__cause__
    return None
