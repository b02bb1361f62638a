"""The planner's memory against what DeepSpeed holds and what the kernel counts on two workers; drills have more."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.planning.memory import FRAGMENTATION, Memory, memory
from e2llm_core.encoders.eegpt.config import EEGPTTower
from e2llm_core.llm.tiny_llm import tiny_llm
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.sizes.llm import LLMSize, size_from_folder
from e2llm_core.sizes.tower import projector_tensors, tower_tensors
from e2llm_core.sizes.workload import Part, Sample, Workload
from e2llm_core.training.config import TrainConfig

pytestmark = [pytest.mark.integration, pytest.mark.slow]

WORKER = Path(__file__).with_name("plan_worker.py")
REPOSITORY = Path(__file__).resolve().parents[2]
TOWER = EEGPTTower(dim=32, depth=1, num_heads=2, temporal_dim=32, temporal_depth=1, temporal_heads=2)
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TOKENS, LONGEST, SUPERVISED = 512, 64, 256
"""Rows of eight samples of one length, so that attention pads nothing."""


def random_llm(folder: Path) -> Path:
    """A random model whose states, activations and logits each outweigh an interpreter's own noise."""
    torch.manual_seed(0)
    tiny_llm(32_000, 512, 4, 8, 4, 1536).save_pretrained(folder)
    tiny_llm(300, 32, 1, 2, 1, 64).save_pretrained(folder.with_name("warm"))
    return folder


def planned(size: LLMSize, train: TrainConfig, lora: int | None, value: int) -> Workload:
    """The same training as the worker's, as the planner sees it."""
    projector = projector_tensors(ProjectorConfig(), TOWER.temporal_dim, size.hidden)
    parts = [
        Part(name="llm", tensors=tuple(size.tensors()), trains=lora is None, bytes_each=value),
        Part(name="tower", tensors=tuple(tower_tensors(TOWER)), trains=False, bytes_each=4),
        Part(name="projector", tensors=tuple(projector), trains=True, bytes_each=4),
    ]
    if lora is not None:
        parts.append(Part(name="lora", tensors=tuple(size.lora_tensors(lora, MODULES)), trains=True, bytes_each=4))
    return Workload(
        stage="stage3",
        llm=size,
        tower=TOWER,
        parts=tuple(parts),
        sample=Sample(tokens=LONGEST, supervised=LONGEST * SUPERVISED / TOKENS, segments=0),
        patches=16,
        channels=2,
        lora_modules=MODULES if lora is not None else None,
        train=train,
    )


def launch(llm: Path, folder: Path, work: Workload, lora: int | None, workers: int) -> list[dict[str, int]]:
    """Train on `workers` processes; return what each measured."""
    job: dict[str, Any] = {
        "llm": str(llm),
        "train": work.train.model_dump(),
        "lora": None if lora is None else {"r": lora, "target_modules": MODULES},
        "encoder": {"dim": TOWER.dim, "depth": TOWER.depth, "num_heads": TOWER.num_heads},
        "temporal": {"dim": TOWER.temporal_dim, "depth": TOWER.temporal_depth, "num_heads": TOWER.temporal_heads},
        "vocab": work.llm.vocab if work.llm else 0,
        "tokens": TOKENS,
        "longest": LONGEST,
        "supervised": SUPERVISED,
        "warm": {"llm": str(llm.with_name("warm")), "vocab": 300},
        "found": str(folder / "found"),
    }
    name = folder / "job.json"
    name.write_text(json.dumps(job))
    # Freed memory goes back to the kernel at once, or its high-water mark would count what nobody uses.
    malloc = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    environment = os.environ | malloc | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(REPOSITORY)}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    done = subprocess.run(
        [*launcher, str(WORKER), str(name)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(workers)]


def cpu_bytes(found: Memory, work: Workload) -> float:
    """The plan's total on a CPU.

    There is no CUDA context and no caching allocator, and of the gradient bucket only what is written becomes resident:
    the gradients of what trains.
    """
    moving = ("activations", "logits", "gathered parameters", "optimizer step")
    items = {name: size / (1 + FRAGMENTATION if name in moving else 1) for name, size in found.items.items()}
    return sum(items.values()) - items["context"] - items["buffers"] + work.value_bytes * work.trainable


def test_what_two_workers_hold(tmp_path: Path) -> None:
    compare(random_llm(tmp_path / "llm"), tmp_path, 2, "fp32", None, recompute=False)


def compare(llm: Path, folder: Path, workers: int, precision: str, lora: int | None, *, recompute: bool) -> None:
    """Partitions within 2 % of the plan; the second step's peak over the memory before it, within 15 %."""
    train = TrainConfig(
        precision=precision,
        activation_checkpointing=recompute,
        global_batch=TOKENS // LONGEST * workers,
        micro_batch=64,
        micro_tokens=TOKENS,
    )
    work = planned(size_from_folder(llm), train, lora, 2 if precision == "bf16" else 4)
    expected = memory(work, workers)
    for found in launch(llm, folder, work, lora, workers):
        for name in ("parameters", "gradients", "optimizer"):
            assert found[name] == pytest.approx(expected.items[name], rel=0.02), name
        print(f"peak {found['peak'] / 1e6:.0f} MB, planned {cpu_bytes(expected, work) / 1e6:.0f} MB")
        assert found["peak"] == pytest.approx(cpu_bytes(expected, work), rel=0.15)
