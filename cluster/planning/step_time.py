"""Time of one training step by roofline: the slowest of compute, memory and interconnect. Formulas: docs/plan.md."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from cluster.planning.gpus import GPU
from e2llm_core.counts import total_numel
from e2llm_core.sizes.tower import temporal_tensors
from e2llm_core.sizes.workload import Workload

COMPUTE_SHARE = 0.55
MEMORY_SHARE = 0.8
LINK_SHARE = 0.7
"""Of the data sheets' rates that good kernels and collectives reach. Assumptions."""

LATENCY = 20e-6
"""Seconds of one collective call per doubling of the GPUs. An assumption."""

HOST_ADAM = 0.4e9
"""Parameters per second that the host's AdamW updates for one GPU. An assumption."""

NVME_RATE = 3e9
"""Bytes per second and GPU that local NVMe disks read or write. An assumption."""

WRITE_RATE = 2e9
"""Bytes per second and node that a shared file system takes. An assumption."""

_KERNELS_PER_LAYER_BYTES = 20
"""Times that a layer's forward and backward read or write a token's hidden state. An assumption."""

ASSUMED = (
    f"{COMPUTE_SHARE:.0%} of the data sheet's arithmetic rate, {MEMORY_SHARE:.0%} of its memory bandwidth and "
    f"{LINK_SHARE:.0%} of the links' are reached; a collective waits {LATENCY * 1e6:g} us per doubling of the GPUs; "
    f"the file system takes {WRITE_RATE / 1e9:g} GB/s per node (not measured)"
)
ASSUMED_OFFLOADED = (
    f"AdamW of the host updates {HOST_ADAM / 1e9:g}e9 parameters/s for each GPU, NVMe reads and writes "
    f"{NVME_RATE / 1e9:g} GB/s (not measured)"
)
"""Assumptions that were not measured, in words."""


class StepTime(BaseModel):
    """One step's seconds on every GPU, by what limits it, and what follows.

    Attributes
    ----------
    passes
        Forward and backward passes of one GPU per step.
    compute, memory, interconnect
        Seconds each would take alone; they overlap, so the largest counts.
    optimizer
        Seconds of the update.
    busy_gpus
        GPUs that have a sample of their own in a step.
    mfu
        Model FLOPs utilisation: arithmetic of the model itself (recomputation not counted) over the peak rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    passes: int
    compute: float
    memory: float
    interconnect: float
    optimizer: float
    tokens_per_step: float
    samples_per_step: int
    busy_gpus: int
    mfu: float

    @property
    def seconds(self) -> float:
        """Of one step."""
        return max(self.compute, self.memory, self.interconnect) + self.optimizer

    @property
    def bound(self) -> Literal["compute", "memory", "interconnect"]:
        """What limits the step."""
        if self.interconnect >= max(self.compute, self.memory):
            return "interconnect"
        return "compute" if self.compute >= self.memory else "memory"

    @property
    def tokens_per_second(self) -> float:
        """Of all GPUs; 0 where there is no language model."""
        return self.tokens_per_step / self.seconds

    @property
    def samples_per_second(self) -> float:
        """Of all GPUs."""
        return self.samples_per_step / self.seconds


def step_time(work: Workload, gpus: int, gpu: GPU) -> StepTime:
    """Compute the time of one step on `gpus` GPUs."""
    train, sample = work.train, work.sample
    share = math.ceil(train.global_batch / gpus)
    passes = math.ceil(share / work.samples_per_pass(gpus))
    forward, backward = flops_per_sample(work)
    recomputed = forward if train.activation_checkpointing and work.llm is not None else 0.0
    flops = share * (forward + backward + recomputed)
    traffic = passes * _weights_read(work) + share * sample.tokens * _activation_bytes(work)
    compute = flops / (gpu.bf16_flops * COMPUTE_SHARE)
    seconds = {
        "compute": compute,
        "memory": traffic / (gpu.sheet.memory_bandwidth * MEMORY_SHARE),
        "interconnect": passes * _exchange_seconds(work, gpus, gpu),
        "optimizer": _optimizer_seconds(work, gpus, gpu),
    }
    total = max(seconds["compute"], seconds["memory"], seconds["interconnect"]) + seconds["optimizer"]
    useful = train.global_batch * (forward + backward)
    return StepTime(
        passes=passes,
        **seconds,
        tokens_per_step=train.global_batch * sample.tokens,
        samples_per_step=train.global_batch,
        busy_gpus=min(gpus, train.global_batch),
        mfu=useful / (total * gpus * gpu.bf16_flops),
    )


def flops_per_sample(work: Workload) -> tuple[float, float]:
    """Arithmetic of one sample, forward and backward, in floating-point operations.

    Two per weight and token forward; backward as much again for the inputs' gradients, and once more for the gradients
    of weights that train. Causal attention costs 2 x tokens x width per token and layer, twice that backward.
    """
    forward = backward = 0.0
    sample = work.sample
    if work.llm is not None:
        llm = work.llm
        body = 2 * llm.linear_parameters * sample.tokens
        attention = 2 * llm.layers * sample.tokens**2 * llm.query_width
        head = 2 * llm.head_parameters * sample.supervised
        adapters = 2 * sample.tokens * _adapters_per_token(work)
        forward += body + attention + head + adapters
        backward += (2 if work.llm_trains else 1) * (body + head) + 2 * attention + 2 * adapters
    if work.tower is not None:
        tower = _tower_flops(work)
        forward += tower
        backward += 2 * tower if work.tower_trains else 0.0
    return forward, backward


def _adapters_per_token(work: Workload) -> float:
    """Adapter weights that a token meets: all but those of the experts it does not pass."""
    llm = work.llm
    if llm is None:
        return 0.0
    tensors = [tensor for part in work.parts if part.name == "lora" for tensor in part.tensors]
    passed = llm.experts_per_token / llm.experts if llm.experts else 1.0
    return sum(t.numel * t.count * (passed if t.name.startswith("experts") else 1.0) for t in tensors)


def _tower_flops(work: Workload) -> float:
    assert work.tower is not None
    tower, segments = work.tower, work.sample.segments
    late = 2 * total_numel(temporal_tensors(tower)) + 4 * tower.temporal_depth * work.patches * tower.temporal_dim
    return segments * work.patches * (tower.patch_flops(work.channels) + late)


def _weights_read(work: Workload) -> float:
    """Bytes of weights that one pass reads: forward, backward and recomputation; gradients are written and read."""
    times = 3 if work.train.activation_checkpointing else 2
    read = sum(times * part.parameters * part.bytes_each for part in work.parts if part.name != "tower")
    return read + 2 * work.value_bytes * work.trainable


def _activation_bytes(work: Workload) -> float:
    """Bytes of activations that one token moves."""
    if work.llm is None:
        return 0.0
    return work.llm.layers * work.llm.hidden * work.value_bytes * _KERNELS_PER_LAYER_BYTES * 2


def _exchange_seconds(work: Workload, gpus: int, gpu: GPU) -> float:
    """Seconds of one pass's collectives: ZeRO-3 gathers all weights twice and scatters the gradients."""
    zero3 = work.train.zero_stage == 3
    fetched = 0.0
    if zero3 and work.train.offload != "none":
        own = sum(part.parameters * part.bytes_each for part in work.parts) / gpus
        fetched = 2 * own / _fetch_rate(work, gpu)
    if gpus == 1:
        return fetched
    gathered = 2 * sum(part.parameters * part.bytes_each for part in work.parts) if zero3 else 0
    moved = gathered + (1 if zero3 else 2) * work.value_bytes * work.trainable
    within = moved * (min(gpus, gpu.per_node) - 1) / min(gpus, gpu.per_node) / (gpu.sheet.link_bandwidth * LINK_SHARE)
    nodes = math.ceil(gpus / gpu.per_node)
    between = moved * (nodes - 1) / nodes / (gpu.network_bandwidth * LINK_SHARE)
    layers = work.llm.layers if work.llm is not None else 1
    return max(within, between, fetched) + 3 * layers * LATENCY * math.log2(gpus)


def _fetch_rate(work: Workload, gpu: GPU) -> float:
    """Bytes per second between a GPU and where its parameters wait."""
    reached = gpu.host_bandwidth * LINK_SHARE
    return min(reached, NVME_RATE) if work.train.offload == "nvme" else reached


def _optimizer_seconds(work: Workload, gpus: int, gpu: GPU) -> float:
    shards = gpus if work.train.zero_stage else 1
    numbers = work.trainable / shards
    if work.train.offload != "none":
        moved = 2 * numbers * work.value_bytes / (gpu.host_bandwidth * LINK_SHARE)
        stored = numbers * work.value_bytes / NVME_RATE if work.train.offload == "nvme" else 0.0
        return numbers / HOST_ADAM + moved + stored
    return numbers * (28 + 2 * work.value_bytes) / (gpu.sheet.memory_bandwidth * MEMORY_SHARE)


def write_seconds(size: int, gpus: int, gpu: GPU) -> float:
    """Seconds that all nodes together need to write a number of bytes, while training goes on."""
    return size / (WRITE_RATE * math.ceil(gpus / gpu.per_node))
