"""The plan of a training job: memory, time, checkpoint, verdict and recommendations as one value."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from cluster.planning.gpus import GPU
from cluster.planning.memory import ASSUMED as ASSUMED_MEMORY
from cluster.planning.memory import Memory, checkpoint_bytes, memory
from cluster.planning.step_time import ASSUMED as ASSUMED_RATES
from cluster.planning.step_time import ASSUMED_OFFLOADED, StepTime, step_time, write_seconds
from e2llm_core.sizes.workload import Workload

USABLE = 0.95
"""Share of a GPU's memory that a plan may fill."""

_MOST_GPUS = 4096


class Checkpoint(BaseModel):
    """What one checkpoint costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    write_seconds: float
    every_seconds: float


class Training(BaseModel):
    """What the whole run costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    gpu_hours: float


class Setting(BaseModel):
    """A way to run the same training, and what it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overrides: tuple[str, ...]
    gpus: int
    nodes: int
    memory_bytes: int
    step_seconds: float
    samples_per_second: float


class JobPlan(BaseModel):
    """Everything that `e2llm plan --json` prints; sizes in bytes, times in seconds.

    Attributes
    ----------
    usable_bytes
        Memory of one GPU that a plan may fill.
    usable_host_bytes
        Main memory that a plan may fill for each GPU.
    fastest
        The fastest setting that fits on these GPUs, if any does.
    smallest
        Where none fits on these GPUs: the fewest GPUs of this kind on which one does.
    llm_note
        Why this language model is assumed, where neither the spec nor a folder names it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    llm: str | None
    parameters: int
    trainable_parameters: int
    gpu: str
    gpus: int
    nodes: int
    usable_bytes: int
    usable_host_bytes: int
    memory: Memory
    memory_bytes: int
    host_bytes: int
    fits: bool
    step: StepTime
    step_seconds: float
    bound: str
    tokens_per_second: float
    samples_per_second: float
    training: Training
    checkpoint: Checkpoint
    fastest: Setting | None
    smallest: Setting | None
    assumptions: tuple[str, ...]
    llm_note: str | None = None


def plan_job(work: Workload, gpus: int, gpu: GPU) -> JobPlan:
    """Plan a training job on `gpus` GPUs of one kind."""
    needed, step = memory(work, gpus), step_time(work, gpus, gpu)
    size = checkpoint_bytes(work)
    total = work.train.max_steps * step.seconds
    usable = usable_bytes(gpu)
    best = fastest(work, gpus, gpu)
    return JobPlan(
        stage=work.stage,
        llm=None if work.llm is None else work.llm.name,
        parameters=sum(part.parameters for part in work.parts),
        trainable_parameters=work.trainable,
        gpu=gpu.name,
        gpus=gpus,
        nodes=nodes(gpus, gpu),
        usable_bytes=usable,
        usable_host_bytes=usable_host_bytes(gpu),
        memory=needed,
        memory_bytes=needed.total,
        host_bytes=needed.host_total,
        fits=fits(needed, gpu),
        step=step,
        step_seconds=step.seconds,
        bound=step.bound,
        tokens_per_second=step.tokens_per_second,
        samples_per_second=step.samples_per_second,
        training=Training(seconds=total, gpu_hours=total * gpus / 3600),
        checkpoint=Checkpoint(
            size_bytes=size,
            write_seconds=write_seconds(size, gpus, gpu),
            every_seconds=work.train.checkpoint_every * step.seconds,
        ),
        fastest=best,
        smallest=None if best else smallest(work, gpus, gpu),
        assumptions=(*work.assumptions, ASSUMED_MEMORY, ASSUMED_RATES, *_notes(work, gpus)),
        llm_note=work.llm_note,
    )


def _notes(work: Workload, gpus: int) -> tuple[str, ...]:
    found = [] if work.train.offload == "none" else [ASSUMED_OFFLOADED]
    if gpus > work.train.global_batch:
        found.append(f"{gpus - work.train.global_batch} GPUs have no sample: train.global_batch is smaller than --gpus")
    if work.adapts_experts:
        found.append("adapters on a mixture's experts make PEFT build whole expert weights; attention alone is cheaper")
    return tuple(found)


def usable_bytes(gpu: GPU) -> int:
    """Memory of one GPU that a plan may fill."""
    return int(USABLE * gpu.sheet.memory_bytes)


def usable_host_bytes(gpu: GPU) -> int:
    """Main memory that a plan may fill for each GPU."""
    return int(USABLE * gpu.host_memory)


def fits(needed: Memory, gpu: GPU) -> bool:
    """Whether a GPU, and its share of the node's main memory, hold what a plan needs."""
    return needed.total <= usable_bytes(gpu) and needed.host_total <= usable_host_bytes(gpu)


def nodes(gpus: int, gpu: GPU) -> int:
    """Number of nodes for a number of GPUs."""
    return math.ceil(gpus / gpu.per_node)


def settings(work: Workload, gpus: int) -> list[tuple[tuple[str, ...], Workload]]:
    """Settings with the same training curve: micro-batch, activation checkpointing and offload."""
    share = max(1, math.ceil(work.train.global_batch / gpus))
    sizes = [2**power for power in range(share.bit_length()) if 2**power < share] + [share]
    found = []
    offloads = ("none", "cpu") if work.train.zero_stage else ("none",)
    for offload in dict.fromkeys((*offloads, work.train.offload)):
        for recompute in (False, True) if work.llm is not None else (False,):
            for size in sizes:
                changes: dict[str, object] = {"micro_batch": size, "offload": offload}
                changes["nvme_path"] = work.train.nvme_path if offload == "nvme" else None
                if work.sample.tokens:
                    changes["micro_tokens"] = max(16, math.ceil(size * work.sample.tokens))
                changes["activation_checkpointing"] = recompute
                train = work.train.model_copy(update=changes)
                texts = tuple(
                    f"train.{key}={'null' if value is None else str(value).lower()}"
                    for key, value in changes.items()
                    if getattr(work.train, key) != value
                )
                found.append((texts, work.model_copy(update={"train": train})))
    return found


def fastest(work: Workload, gpus: int, gpu: GPU) -> Setting | None:
    """Find the setting that fits and trains fastest; among equals the one nearest to the spec."""
    fitting = []
    for texts, changed in settings(work, gpus):
        held = memory(changed, gpus)
        needed = held.total
        if fits(held, gpu):
            step = step_time(changed, gpus, gpu)
            fitting.append((round(step.seconds, 9), len(texts), needed, texts, step))
    if not fitting:
        return None
    seconds, _, needed, texts, step = min(fitting, key=lambda item: item[:3])
    return Setting(
        overrides=texts,
        gpus=gpus,
        nodes=nodes(gpus, gpu),
        memory_bytes=needed,
        step_seconds=seconds,
        samples_per_second=step.samples_per_second,
    )


def smallest(work: Workload, gpus: int, gpu: GPU) -> Setting | None:
    """Find the fewest GPUs, doubling, on which some setting fits."""
    while gpus < _MOST_GPUS:
        gpus *= 2
        if found := fastest(work, gpus, gpu):
            return found
    return None
