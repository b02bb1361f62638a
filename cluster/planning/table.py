"""The table of docs/plan.md: ``python -m cluster.planning.table``."""

from __future__ import annotations

from pathlib import Path

from cluster.planning.gpus import GPUS
from cluster.planning.memory import checkpoint_bytes
from cluster.planning.plan import fastest
from cluster.planning.step_time import step_time
from cluster.planning.units import duration, gigabytes
from e2llm_core.sizes.llm import LLM_SIZES
from e2llm_core.sizes.workload import Workload
from e2llm_core.stages.config import CachedDataConfig
from e2llm_core.stages.stage3.plan import LoraSettings, Stage3Plan, Stage3TrainConfig, TunedModel

GPU_COUNTS = (8, 64, 256, 1024)
"""GPUs of the table."""

TOKENS_PER_GPU = 2048
"""Tokens of one step on every GPU."""

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def stage3(llm: str, gpus: int, *, full: bool) -> Workload:
    """Stage 3 at a size where every GPU has one packed row of `TOKENS_PER_GPU` tokens per step."""
    lora = LoraSettings(target_modules=_ATTENTION) if LLM_SIZES[llm].experts else LoraSettings()
    train = Stage3TrainConfig(lora=None if full else lora, precision="bf16", micro_tokens=TOKENS_PER_GPU)
    plan = Stage3Plan(
        data=CachedDataConfig(store="store"), model=TunedModel(start=Path("absent"), llm=llm), train=train
    )
    work = plan.workload()
    rows = max(1, int(TOKENS_PER_GPU / work.sample.tokens))
    sized = train.model_copy(update={"global_batch": rows * gpus, "micro_batch": rows})
    return work.model_copy(update={"train": sized})


def rows() -> list[str]:
    """Lines of the Markdown table."""
    gpu = GPUS["h200"]
    lines = [
        "| language model | training | " + " | ".join(f"{gpus:,} GPUs" for gpus in GPU_COUNTS) + " | checkpoint |",
        "|---|---|" + "---|" * len(GPU_COUNTS) + "---|",
    ]
    for name in LLM_SIZES:
        if not name.startswith("Qwen/Qwen3") and name != "Qwen/Qwen2.5-72B":
            continue
        for full in (False, True):
            cells = []
            for gpus in GPU_COUNTS:
                work = stage3(name, gpus, full=full)
                found = fastest(work, gpus, gpu)
                if found is None:
                    cells.append("does not fit")
                    continue
                tokens = step_time(work, gpus, gpu).tokens_per_step / found.step_seconds
                how = "".join(
                    mark
                    for word, mark in (("offload=cpu", " o"), ("checkpointing=true", " c"))
                    if any(word in text for text in found.overrides)
                )
                cells.append(
                    f"{gigabytes(found.memory_bytes)}, {duration(found.step_seconds)}, {tokens / 1e3:,.0f} k{how}"
                )
            size = gigabytes(checkpoint_bytes(stage3(name, 8, full=full)))
            lines.append(f"| {name} | {'full' if full else 'LoRA'} | {' | '.join(cells)} | {size} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
