"""A stage on Ray Train: workers are placed and restarted here, trained in `e2llm_core`."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from cluster.progress import follow
from cluster.ray_private import data_parallel_trainer, is_node_to_be_taken
from cluster.resources import TrainingResources, require_resources
from cluster.train.capacity import looking_for_room, number_of_workers, wait_for_listed_nodes
from cluster.train.recovery import (
    causes,
    found_no_room,
    is_for_lack_of_memory,
    newest_checkpoint,
    refusal,
    size_settings,
    with_half_the_micro_batch,
)
from cluster.train.stopping import Stopped, StopRequest, first_signal
from e2llm_core.stages.config import StagePlan
from e2llm_core.training.metrics import PROGRESS
from storage.places.location import locate
from storage.places.workspace import Workspace

_PLACEMENT_SECONDS = "30"
Outcome = Literal["finished", "stopped"]


def train(plan: StagePlan, run: str | Path, resources: TrainingResources) -> None:
    """Run a stage on the connected cluster, resuming from the run's newest complete checkpoint.

    Parameters
    ----------
    plan : StagePlan
        Stage to train; its paths are absolute.
    run : str or Path
        A folder that all nodes see, or a URL.
    resources : TrainingResources
        Workers and what each needs.

    Raises
    ------
    InputError
        When the cluster is too small, a worker refused its input, a single sample needs too much memory, or the
        run's folder is full.
    Stopped
        When a SIGTERM or SIGUSR1 asked for the end: the workers wrote a checkpoint of their last step.
    TrainingFailedError
        When workers failed `resources.max_failures` + 1 times in a row without a new checkpoint.
    """
    require_resources(resources)
    request = StopRequest(run)
    with follow(locate(run), PROGRESS), first_signal(request.make_final):
        _attempts(plan, run, resources, request)
    Workspace(run).discard()


def _attempts(plan: StagePlan, run: str | Path, resources: TrainingResources, request: StopRequest) -> None:
    """Restart workers until the run is finished, or another attempt cannot help."""
    from ray.train import TrainingFailedError

    failures, newest = 0, newest_checkpoint(run)
    while True:
        attempt = request.begin()
        workers = number_of_workers(resources, lambda: request.is_final)
        if request.is_final:
            raise Stopped(str(run))
        try:
            with looking_for_room(resources, workers, request.make):
                if _attempt(plan, run, resources, workers, attempt) == "finished":
                    return
        except TrainingFailedError as error:
            if refused := refusal(error, run):
                raise refused from None
            if is_for_lack_of_memory(error):
                plan = with_half_the_micro_batch(plan, workers, run)
                _say(run, f"out of memory; goes on with {size_settings(plan)}")
            elif not found_no_room(error):
                newest, before = newest_checkpoint(run), newest
                failures = failures + 1 if newest == before else 1
                if failures > resources.max_failures:
                    raise
                reason = str(list(causes(error))[-1]).strip().partition("\n")[0]
                _say(run, f"lost its workers ({reason}); goes on from {newest or 'the beginning'}")
        if not request.is_final:
            wait_for_listed_nodes()


def _attempt(plan: StagePlan, run: str | Path, resources: TrainingResources, workers: int, attempt: str) -> Outcome:
    """Place workers and train; Ray Train reports every failure at once.

    Room for a fixed number of workers is waited for. Room for an elastic run's was counted just before: when it is
    gone, it has to be counted again.
    """
    import os

    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", _PLACEMENT_SECONDS)
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")  # the dashboard lists the run
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from cluster.train.backend import ProcessGroupConfig

    workspace = Workspace(run)
    ray_folder = workspace.folder / "ray"  # Ray Train looks for it on this node only, since it keeps no checkpoints
    gpus = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}
    trainer = data_parallel_trainer()(
        train_on_worker,
        backend_config=ProcessGroupConfig(),
        train_loop_config={
            "plan": plan,
            "run": str(run),
            "attempt": attempt,
            "hang_seconds": resources.hang_seconds,
        },
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": resources.cpus_per_worker, **gpus},
        ),
        run_config=RunConfig(
            name=f"{workspace.name}-{1 + sum(1 for _ in ray_folder.glob('*'))}",
            storage_path=str(ray_folder),
            failure_config=FailureConfig(  # type: ignore[call-arg]
                max_failures=0,
                max_preemption_failures=0,
                controller_failure_limit=-1 if isinstance(resources.workers, int) else 0,
            ),
        ),
    )
    return trainer.fit().return_value


def train_on_worker(settings: dict[str, Any]) -> Outcome:
    """Train in one worker; metrics and checkpoints go to the run's folder.

    Ray Train is told nothing: it holds one report per worker and looks for it every two seconds, and until then the
    next report, and with it training, would wait.
    """
    import os

    import ray.train

    if not ray.get_gpu_ids():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from e2llm_core.stages.config import build_stage
    from e2llm_core.training.faults import Watchdog
    from e2llm_core.training.trainer import Trainer
    from e2llm_core.training.world import World

    context = ray.train.get_context()
    world = World(
        context.get_world_rank(),
        context.get_world_size(),
        context.get_local_rank(),
        context.get_node_rank(),
    )
    plan, workspace = settings["plan"], Workspace(settings["run"], world.node_rank)
    is_to_be_taken = is_node_to_be_taken()
    request = StopRequest(settings["run"], settings["attempt"])
    asked = request.watched() if world.is_first else nullcontext(lambda: False)

    with asked as is_asked, Watchdog(workspace.folder, world.rank, settings["hang_seconds"]) as watchdog:

        def stop() -> bool:
            """Whether the launcher, or the announced removal of a node, requests a stop; rank 0 decides for all."""
            return world.is_first and (is_asked() or is_to_be_taken())

        trainer = Trainer(build_stage(plan), plan.train, workspace, world, stop=stop, watchdog=watchdog)
        if world.is_first:
            say = f"[{workspace.name}] on {world.size} worker{'s' if world.size > 1 else ''}\n"
            locate(workspace.folder).append(PROGRESS, say.encode())
        outcome = trainer.fit()
    if trainer.checkpoints.leads:
        workspace.discard()
    return outcome


def _say(run: str | Path, line: str) -> None:
    """Report on the run while no worker does."""
    locate(run).append(PROGRESS, f"[{Workspace(run).name}] {line}\n".encode())
