"""A job on SLURM: what ``e2llm slurm`` submits, and ``python -m jobs.slurm``, which the submitted script runs."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.resources import Resources, TrainingResources, WorkerResources
from cluster.slurm.allocation import Allocation, with_task
from cluster.slurm.submission import SCRIPT, Request, submit
from e2llm_core.stages.config import StagePlan
from jobs.console import exit_discipline
from jobs.job import ClusterJob
from jobs.load import LoadedSpec, load_spec
from jobs.paths import CODE, root_folder
from jobs.plan import show_plan
from jobs.source import parse_override
from jobs.spec import SPECS, CrossValidateSpec, TrainingJob
from storage.errors import InputError

_STATE = Path("runs/.slurm")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a spec on the nodes of this process's SLURM job.

    Raises
    ------
    SystemExit
        With the job's own exit status; 2 for what is refused.
    """
    parser = argparse.ArgumentParser(prog="python -m jobs.slurm", description="Run a job spec within a SLURM job.")
    parser.add_argument("spec", type=Path, help="YAML file, for example jobs/stage3.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings that replace the file's")
    options = parser.parse_args(arguments)
    with exit_discipline():
        allocation = Allocation.of_this_process()
        overrides = with_task(options.overrides, allocation.task)
        loaded = load_spec(options.spec, overrides, SPECS)
        from cluster.slurm.launcher import Work, launch

        command = (sys.executable, "-m", "jobs", str(options.spec), *overrides)
        work = Work(command, _resources(loaded), fills=takes_all(loaded))
        raise SystemExit(launch(allocation, work, root_folder() / _STATE))


def submit_job(path: Path, overrides: Sequence[str], request: Request, gpu: str, *, dry_run: bool) -> None:
    """Check a spec, show its plan, and submit it or print what would be submitted.

    Parameters
    ----------
    path, overrides
        The spec, and ``key.path=value`` assignments.
    request
        Allocation requested from SLURM.
    gpu
        Kind of the GPUs, in `cluster.planning.gpus.GPUS`, for the plan.
    dry_run
        Submit nothing.

    Raises
    ------
    InputError
        When the spec is refused, its workers have no GPUs, too few or no use for them, it does not fit on them, or
        SLURM refuses the job.
    """
    if Path.cwd().resolve() != CODE:
        raise InputError(str(Path.cwd()), "is not the root of the repository", f"Change to {CODE}.")
    filled = [with_task(overrides, task) for task in request.tasks()]
    all_loaded = [load_spec(path, each, SPECS) for each in filled]
    for loaded in all_loaded:
        _check_room(loaded, request)
    first = all_loaded[0]
    if request.gpus_per_node and isinstance(first.spec, StagePlan):
        show_plan(path, filled[0], _workers_with_a_gpu(first, request), gpu, as_json=False)
    command = request.model_copy(update={"no_kill": _is_elastic(first)}).command(path, overrides)
    if dry_run:
        print(shlex.join(command), (CODE / SCRIPT).read_text(), sep="\n\n", end="")
        return
    number = submit(command)
    log = f"slurm-{number}_*.out" if request.array else f"slurm-{number}.out"
    print(f"job {number} submitted; log: {log}")


def _check_room(loaded: LoadedSpec, request: Request) -> None:
    """Refuse workers that wait for GPUs which the allocation will not have."""
    resources = _resources(loaded)
    if not resources.gpus_per_worker:
        return
    asked = f"each worker asks for {resources.gpus_per_worker:g} GPUs"
    if not request.gpus_per_node:
        raise InputError("--gpus-per-node", f"is not given, and {asked}", "Add it, such as --gpus-per-node 8.")
    workers = 1 if takes_all(loaded) else resources.fewest_workers
    room = _room(resources, request)
    if workers > room:
        there = f"{request.nodes} nodes with {request.gpus_per_node} GPUs each have room for {room}"
        remedy = "Raise --nodes or --gpus-per-node, or lower resources.workers or resources.gpus_per_worker."
        raise InputError("resources.workers", f"{workers} are needed and {asked}; {there}", remedy)


def _resources(loaded: LoadedSpec) -> Resources | TrainingResources:
    """What a job asks of the cluster; of a cross-validation, its largest step."""
    if isinstance(loaded.spec, CrossValidateSpec):
        return loaded.spec.largest_resources()
    assert isinstance(loaded.spec, ClusterJob | TrainingJob)
    return loaded.spec.resources


def _room(resources: WorkerResources, request: Request) -> int:
    """How many workers the GPUs of the allocation are enough for; none is on two nodes."""
    return request.nodes * int((request.gpus_per_node + 1e-6) // resources.gpus_per_worker)


def _workers_with_a_gpu(loaded: LoadedSpec, request: Request) -> int:
    """How many workers the job will have, of whom each needs a GPU."""
    assert isinstance(loaded.spec, TrainingJob)
    resources = loaded.spec.resources
    if not resources.gpus_per_worker:
        place = f"--gpus-per-node {request.gpus_per_node}"
        raise InputError(place, "the job's workers use no GPU", "Add resources.gpus_per_worker=1.")
    if takes_all(loaded) or not isinstance(resources.workers, int):
        return _room(resources, request)
    return resources.workers


def _is_elastic(loaded: LoadedSpec) -> bool:
    return isinstance(loaded.spec, TrainingJob) and not isinstance(loaded.spec.resources.workers, int)


def takes_all(loaded: LoadedSpec) -> bool:
    """Whether a job gets as many workers as there is room for: training, whose curve does not depend on their number.

    A number among the overrides, and a range, are taken at their word.
    """
    named = any(
        override.keys[:2] == ("resources", "workers")
        or (override.keys == ("resources",) and isinstance(override.value, dict) and "workers" in override.value)
        for override in map(parse_override, loaded.overrides)
    )
    return isinstance(loaded.spec, TrainingJob) and not _is_elastic(loaded) and not named


if __name__ == "__main__":
    main()
