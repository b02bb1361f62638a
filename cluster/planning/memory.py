"""Memory of one GPU, item by item, under DeepSpeed ZeRO. Formulas and assumptions: docs/plan.md. All sizes in bytes."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from e2llm_core.counts import block_numbers
from e2llm_core.sizes.llm import LLMSize, partition_numel
from e2llm_core.sizes.workload import Part, Workload

REDUCE_BUCKET = 500_000_000
"""Numbers in DeepSpeed's gradient bucket (its default `reduce_bucket_size`), allocated whole when it starts, but by the
optimizer of `_sums_whole`, which makes one for each step's exchange."""

LIVE_PARAMETERS = 1_000_000_000
PREFETCH = 50_000_000
"""DeepSpeed's defaults of `stage3_max_live_parameters` and `stage3_prefetch_bucket_size`, in numbers."""

SUB_GROUP = 1_000_000_000
"""Numbers that one pass of the optimizer updates (DeepSpeed's default `sub_group_size`)."""

LOGITS_AT_ONCE = 2**25
"""Numbers in one block of logits; the loss never holds more (`e2llm_core.llm.supervision`)."""

CONTEXT = 1_500_000_000
"""CUDA context, cuBLAS workspace and NCCL buffers. An assumption."""

FRAGMENTATION = 0.05
"""Of what comes and goes within a step: lost in the allocator's blocks. An assumption."""

PADDING = 1.1
"""Attention lays packed samples side by side, padded to the longest. An assumption."""

ASSUMED = (
    f"{CONTEXT / 1e9:g} GB for CUDA, cuBLAS and NCCL, {FRAGMENTATION:.0%} of what comes and goes within a step lost in "
    f"the allocator's blocks, attention padded by {PADDING - 1:.0%} (not measured)"
)
"""Assumptions that were not measured, in words."""

ITEMS = (
    "parameters",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "gathered parameters",
    "buffers",
    "optimizer step",
    "context",
)

HOST_ITEMS = ("parameters", "gradients", "float32 gradients", "optimizer", "checkpoint copy")


class Memory(BaseModel):
    """Peak memory of one GPU, and of its share of the node.

    Attributes
    ----------
    items
        Bytes by name, those of `ITEMS`, at the moment that needs most.
    peak
        That moment: the backward pass, or the optimizer step.
    host
        Bytes of main memory by name, those of `HOST_ITEMS`, while a checkpoint is being written.
    nvme
        Bytes on the NVMe disk.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: dict[str, int]
    peak: Literal["backward", "optimizer step"]
    host: dict[str, int]
    nvme: int

    @property
    def total(self) -> int:
        """Sum of the items."""
        return sum(self.items.values())

    @property
    def largest(self) -> str:
        """Name of the largest item."""
        return max(self.items, key=lambda name: self.items[name])

    @property
    def host_total(self) -> int:
        """Sum of the items in main memory."""
        return sum(self.host.values())

    @property
    def largest_in_host(self) -> str:
        """Name of the largest item in main memory."""
        return max(self.host, key=lambda name: self.host[name])


def memory(work: Workload, gpus: int) -> Memory:
    """Compute the peak memory of one of `gpus` GPUs."""
    train, passing = work.train, _passing(work, gpus)
    trained = sum(partitioned(part, gpus, train.zero_stage >= 1) for part in work.parts if part.trains)
    kept = {
        "parameters": sum(part.bytes_each * partitioned(part, gpus, train.zero_stage == 3) for part in work.parts),
        "gradients": gradient_bytes(work, gpus),
        "optimizer": optimizer_bytes(work, gpus),
        "buffers": work.value_bytes * REDUCE_BUCKET if train.zero_stage and not _sums_whole(work) else 0,
        "context": CONTEXT,
    }
    host, nvme = {"checkpoint copy": checkpoint_copy_bytes(work, gpus)}, 0
    if train.offload != "none":
        away = ["gradients", "optimizer", *(["parameters"] if train.zero_stage == 3 else [])]
        host |= {name: kept[name] for name in away} | {"float32 gradients": 4 * trained}
        kept |= dict.fromkeys(away, 0)
    if train.offload == "nvme":
        nvme = host.pop("parameters", 0)
    step = 0 if train.offload != "none" else min(trained, SUB_GROUP) * 12
    if _sums_whole(work):
        step = max(step, exchanged_bytes(work))
    in_backward = sum(passing.values()) >= step
    moving = passing if in_backward else {"optimizer step": step}
    moving = {name: math.ceil(value * (1 + FRAGMENTATION)) for name, value in moving.items()}
    found = {name: int(kept.get(name, 0) + moving.get(name, 0)) for name in ITEMS}
    in_host = {name: host.get(name, 0) for name in HOST_ITEMS}
    return Memory(items=found, peak="backward" if in_backward else "optimizer step", host=in_host, nvme=nvme)


def partitioned(part: Part, gpus: int, sharded: bool) -> int:
    """Numbers of a part that one GPU keeps."""
    return partition_numel(part.tensors, gpus) if sharded else part.parameters


def _sums_whole(work: Workload) -> bool:
    """Whether DeepSpeed's BF16_Optimizer runs: a whole float32 sum on every GPU beside the bfloat16 gradients."""
    train = work.train
    return train.zero_stage == 1 and train.precision == "bf16" and train.offload == "none"


def gradient_bytes(work: Workload, gpus: int) -> int:
    """Bytes of the gradients that one GPU keeps: float32, in which DeepSpeed accumulates even in bfloat16 runs."""
    sharded, each = work.train.zero_stage >= 2, 6 if _sums_whole(work) else 4
    return each * sum(partitioned(part, gpus, sharded) for part in work.parts if part.trains)


def exchanged_bytes(work: Workload) -> int:
    """Bytes that `_sums_whole`'s optimizer exchanges gradients in: groups joined in float32, and again in bfloat16.

    A bucket is sent once it holds more than `REDUCE_BUCKET` numbers, and the last group of one is joined as a whole.
    """
    return 6 * work.trainable


def optimizer_bytes(work: Workload, gpus: int) -> int:
    """Bytes of AdamW's two moments and DeepSpeed's float32 copy of what trains."""
    sharded = work.train.zero_stage >= 1
    return _state_bytes_each(work) * sum(partitioned(part, gpus, sharded) for part in work.parts if part.trains)


def _state_bytes_each(work: Workload) -> int:
    return 8 if work.train.zero_stage == 0 and work.train.precision == "fp32" else 12


def checkpoint_bytes(work: Workload) -> int:
    """Bytes of one checkpoint, without frozen parameters."""
    return _state_bytes_each(work) * work.trainable + _written_values(work)


def checkpoint_copy_bytes(work: Workload, gpus: int) -> int:
    """Bytes that the first worker, who writes most, copies into main memory to write them beside training."""
    return optimizer_bytes(work, gpus) + _written_values(work)


def _written_values(work: Workload) -> int:
    """Bytes of the values in a checkpoint beside the optimizer's: ZeRO-3 leaves them to its float32 copy."""
    if work.train.zero_stage == 3:
        return 0
    return sum(part.parameters * part.bytes_each for part in work.parts if part.trains)


def _passing(work: Workload, gpus: int) -> dict[str, float]:
    """Temporary memory of a forward and backward pass."""
    samples = work.samples_per_pass(gpus)
    activations = _tower_activations(work, samples)
    logits = 0.0
    if work.llm is not None:
        tokens = samples * work.sample.tokens
        activations = max(activations, _llm_activations(work, work.llm, tokens))
        logits = logits_bytes(work, work.llm, samples * work.sample.supervised)
    return {"activations": activations, "logits": logits, "gathered parameters": _gathered(work, gpus)}


def layer_bytes_per_token(llm: LLMSize, value: int, trains: bool, lora_modules: tuple[str, ...] | None) -> float:
    """Bytes that autograd keeps of one token in one layer, between forward and backward.

    Parameters
    ----------
    llm
        Size.
    value
        Bytes of one number.
    trains
        Whether the layer's own weights train: then the inputs of all its linear layers are kept.
    lora_modules
        Linear layers with adapters. Their float32 adapters keep a float32 copy of the input each, unless it is
        float32 already and shared.
    """
    hidden, query, kv = llm.hidden, llm.query_width, llm.kv_width
    width = llm.experts_per_token * llm.moe_intermediate if llm.experts else llm.intermediate
    qk_norm = 4 * (query + kv) if llm.architecture.qk_norm else 0
    norms = 2 * 4 * hidden + qk_norm
    attention = PADDING * value * 5 * query
    gated = 3 * value * width
    copies = max(llm.experts_per_token, 1) * hidden
    inputs = {"q_proj": hidden, "o_proj": query, "gate_proj": copies, "down_proj": width}
    if trains:
        normalised = value * (2 * hidden + (query + kv if qk_norm else 0))
        return norms + attention + gated + normalised + value * sum(inputs.values())
    adapted = 0
    for name in lora_modules or ():
        shared = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}.get(name, name)
        if value == 2 or shared == name:
            adapted += 4 * inputs.get(shared, 0)
    return norms + attention + gated + adapted


def _llm_activations(work: Workload, llm: LLMSize, tokens: float) -> float:
    value, hidden = work.value_bytes, llm.hidden
    width = llm.experts_per_token * llm.moe_intermediate if llm.experts else llm.intermediate
    layer = tokens * layer_bytes_per_token(llm, value, work.llm_trains, work.lora_modules)
    working = tokens * (value * (3 * width + 2 * hidden) + 8 * hidden)
    ends = tokens * (8 * hidden + value * hidden)
    experts = 0
    if work.adapts_experts:
        # PEFT adds the adapters to all experts of a layer before it multiplies.
        experts = 3 * llm.experts * llm.hidden * llm.moe_intermediate * (value + 4)
    if work.train.activation_checkpointing:
        return llm.layers * tokens * value * hidden + layer + working + ends + experts
    return llm.layers * (layer + experts) + working + ends


def logits_bytes(work: Workload, llm: LLMSize, supervised: float) -> float:
    """Bytes of the loss: one block of logits in float32 with its working copy, and the gradients kept from it."""
    at_once = min(supervised, max(1, LOGITS_AT_ONCE // llm.vocab))
    head = 2 * llm.head_parameters * work.value_bytes if work.llm_trains else 0
    return 8 * at_once * llm.vocab + supervised * llm.hidden * work.value_bytes + head


def _tower_activations(work: Workload, samples: float) -> float:
    """All of the tower's in stage 1; one block's working memory where it is frozen."""
    if work.tower is None:
        return 0.0
    tower, segments = work.tower, samples * work.sample.segments
    tokens = segments * work.patches * tower.patch_tokens(work.channels)
    late = segments * (work.patches + 1)
    if not work.tower_trains:
        return 4 * tower.working_numbers(tokens, backward=False)
    value = work.value_bytes
    return value * (
        tower.kept_numbers(tokens)
        + late * tower.temporal_dim * tower.temporal_depth * block_numbers(4.0)
        + tower.working_numbers(tokens, backward=True)
    )


def _gathered(work: Workload, gpus: int) -> float:
    """Whole parameters that ZeRO-3 has gathered, and gradients before they are cut, at the worst moment."""
    if work.train.zero_stage != 3:
        return 0.0
    whole = sum(part.parameters * part.bytes_each for part in work.parts)
    widest = max((_module_numel(work, part) * part.bytes_each for part in work.parts), default=0)
    each = max(part.bytes_each for part in work.parts)
    live = max(LIVE_PARAMETERS * each, widest) + PREFETCH * each
    gradients = 0.0
    if work.llm is not None and work.llm_trains:
        gradients = max(0, widest - 2 * work.llm.head_parameters * work.value_bytes)
    elif work.tower_trains:
        gradients = widest
    return (min(whole, live) if gpus > 1 or work.train.offload != "none" else 0) + gradients


def _module_numel(work: Workload, part: Part) -> int:
    """Numbers that one module needs at once: its tensors, or the experts of a layer together."""
    if part.name == "llm" and work.llm is not None and work.llm.experts:
        experts = 3 * work.llm.experts * work.llm.hidden * work.llm.moe_intermediate
        return max(experts, work.llm.head_parameters)
    return max(tensor.numel for tensor in part.tensors)
