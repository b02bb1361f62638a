"""Decide what follows a failed attempt at training: a refusal, a smaller micro-batch, or another attempt."""

import errno
from collections.abc import Iterator
from pathlib import Path

from cluster.ray_private import is_placement_timeout
from e2llm_core.stages.config import StagePlan
from storage.errors import InputError
from storage.places.folder import Folder
from storage.places.location import locate

_PROBE, _PROBE_BYTES = ".probe", 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KILLED_FOR_MEMORY = "running low on memory"
_SIZES = ("micro_batch", "micro_tokens")


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception of Ray Train and all its causes, from all workers."""
    waiting: list[BaseException | None] = [error, *getattr(error, "worker_failures", {}).values()]
    while waiting:
        cause = waiting.pop(0)
        if cause is None:
            continue
        yield cause
        names = ("cause", "health_check_failure", "controller_failure", "__cause__")
        waiting.extend(found for name in names if isinstance(found := getattr(cause, name, None), BaseException))


def is_for_lack_of_memory(error: BaseException) -> bool:
    """Whether a device or a host ran out of memory, or Ray ended a worker to prevent that."""
    from ray.exceptions import OutOfMemoryError, RayActorError

    from e2llm_core.training.faults import is_out_of_memory

    return any(
        is_out_of_memory(cause)
        or isinstance(cause, OutOfMemoryError)
        or (isinstance(cause, RayActorError) and _KILLED_FOR_MEMORY in str(cause))
        for cause in causes(error)
    )


def found_no_room(error: BaseException) -> bool:
    """Whether the cluster shrank before the workers were placed."""
    return any(is_placement_timeout(cause) for cause in causes(error))


def refusal(error: BaseException, run: str | Path) -> InputError | None:
    """Reason why another attempt would fail in the same way, if any."""
    refused = next((cause for cause in causes(error) if isinstance(cause, InputError)), None)
    return refused or _no_space(error, run)


def with_half_the_micro_batch(plan: StagePlan, fewest_workers: int, run: str | Path) -> StagePlan:
    """Make the plan of the next attempt; the global batch, and so the curve, is the same.

    Parameters
    ----------
    plan : StagePlan
        Which needed too much memory.
    fewest_workers : int
        That may share a global batch.
    run : Path
        Named in the refusal.

    Raises
    ------
    InputError
        When a single sample did not fit.
    """
    config = plan.train
    micro_batch = min(config.micro_batch, -(-config.global_batch // fewest_workers))
    if micro_batch == 1:
        raise InputError(
            str(run),
            "out of memory with one sample per worker and forward pass",
            "Add workers (ZeRO-3 shards over them), set train.activation_checkpointing=true or train.offload=cpu.",
        )
    sizes = {"micro_batch": micro_batch} | {name: getattr(config, name) for name in _SIZES[1:] if hasattr(config, name)}
    halved = {name: max(1, size // 2) for name, size in sizes.items()}
    return plan.model_copy(update={"train": config.model_copy(update=halved)})


def size_settings(plan: StagePlan) -> str:
    """Changes of `with_half_the_micro_batch`, as overrides."""
    found = {name: getattr(plan.train, name) for name in _SIZES if hasattr(plan.train, name)}
    return ", ".join(f"train.{name}={size}" for name, size in found.items())


def newest_checkpoint(run: str | Path) -> str:
    """Name of the newest complete checkpoint, empty before the first."""
    from e2llm_core.training.checkpoint import complete_checkpoints

    return next(reversed(complete_checkpoints(locate(run))), "")


def _no_space(error: BaseException, run: str | Path) -> InputError | None:
    """Whether the disk of the run's folder is full. Tested by writing, as not every writer reports why it failed."""
    full = next((cause for cause in causes(error) if isinstance(cause, OSError) and cause.errno in _NO_SPACE), None)
    place = locate(run)
    try:
        if isinstance(place, Folder):
            place.path.stat()  # a file system that is gone is not to be made anew
        place.write(_PROBE, bytes(_PROBE_BYTES))
        place.remove(_PROBE)
    except OSError as found:
        full = found
    if full is None:
        return None
    return InputError(
        str(full.filename or run),
        f"cannot be written: {full.strerror}",
        f"Free space there and start the job again; it goes on from {newest_checkpoint(run) or 'the beginning'}.",
    )
