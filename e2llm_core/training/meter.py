"""How fast a run trains and what holds it up: one row of numbers over the steps since the last row."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from e2llm_core.training.gpus import gpu_named
from e2llm_core.training.world import World

_COLLECTIVES = ("gloo:", "ncclDevKernel", "ncclKernel")
_FIRST_SAMPLE = 3
MEASURED = (
    "seconds",
    "seconds_per_step",
    "samples_per_second",
    "tokens_per_second",
    "loader_wait",
    "loader_wait_share",
    "mfu",
    "communication_share",
    "memory_gb",
)
"""Names in a row of metrics that say how fast, not what was learned: they differ from run to run."""


@dataclass
class _Sums:
    """Work of this rank since the last row."""

    steps: float = 0.0
    seconds: float = 0.0
    loader_wait: float = 0.0
    samples: float = 0.0
    tokens: float = 0.0
    flops: float = 0.0


class StepMeter:
    """Measures optimizer steps; every rank has one and calls it at the same places.

    Parameters
    ----------
    world : World
        This rank's place.
    precision : str
        Precision of matrix products, which selects the device's peak.
    sample_every : int
        Steps from one step whose collectives are timed to the next, the first being the third; 0 for never.
        Such a step is left out of all other numbers, because timing it costs some milliseconds.

    Notes
    -----
    A step lasts from `begin`, which follows the wait for its batch, to `end`, plus that wait. Validation and
    checkpoints lie between steps and are not counted. Neither waits for the device: `begin` is called while it has
    nothing to do, and `end` after the step's one exchange, which has waited for it.
    """

    def __init__(self, world: World, precision: Literal["fp32", "bf16"] = "fp32", sample_every: int = 100) -> None:
        self._world, self._every = world, sample_every if world.size > 1 else 0
        self._peak = peak_flops(world.device, precision)
        self._sums, self._step, self._started = _Sums(), 0, 0.0
        self._share: float | None = None
        self._profiler: Any = None

    def begin(self) -> None:
        """Start a step, when its batch has arrived."""
        self._step += 1
        since = self._step - _FIRST_SAMPLE
        if self._every and since >= 0 and since % self._every == 0:
            self._profiler = _start_profiler(self._world.device)
        self._started = time.perf_counter()

    def end(self, samples: float, tokens: float, loader_wait: float, flops: float | None = None) -> None:
        """End a step, in which this rank alone did so much.

        Parameters
        ----------
        samples, tokens
            This rank's real ones, without fillers and padding.
        loader_wait
            Seconds that this rank waited for the step's batch.
        flops
            Model FLOPs of this rank's forward and backward passes, see `e2llm_core.training.flops`; None if unknown.
        """
        seconds = time.perf_counter() - self._started
        if self._profiler is not None:
            self._share = _share(self._profiler, seconds)
            self._profiler = None
            return
        sums = self._sums
        sums.steps += 1
        sums.seconds += seconds + loader_wait
        sums.loader_wait += loader_wait
        sums.samples += samples
        sums.tokens += tokens
        sums.flops += float("nan") if flops is None else flops

    def row(self) -> dict[str, float]:
        """Average the steps since the last row over all ranks and reset; a collective call.

        Returns
        -------
        dict
            ``seconds_per_step``, ``samples_per_second``, ``tokens_per_second``, ``loader_wait`` (seconds per step),
            ``loader_wait_share``, ``memory_gb``; ``mfu`` where the device's peak and the FLOPs are
            known, ``communication_share`` from the first timed step on. No rates before a step was counted.
        """
        sums, share = self._sums, self._share
        mine = [*vars(sums).values(), peak_memory_bytes(self._world.device), float("nan") if share is None else share]
        ranks = _table(mine, self._world)
        self._sums = _Sums()
        steps = ranks[0][0]
        row: dict[str, float] = {}
        if steps:
            seconds = max(rank[1] for rank in ranks)
            samples, tokens, flops = (sum(rank[place] for rank in ranks) for place in (3, 4, 5))
            row = {
                "seconds_per_step": seconds / steps,
                "samples_per_second": samples / seconds,
                "tokens_per_second": tokens / seconds,
                "loader_wait": max(rank[2] for rank in ranks) / steps,
                "loader_wait_share": max(rank[2] / rank[1] for rank in ranks),
            }
            if self._peak is not None and flops == flops:
                row["mfu"] = flops / seconds / (self._peak * len(ranks))
        shares = [rank[-1] for rank in ranks]
        if all(value == value for value in shares):
            row["communication_share"] = sum(shares) / len(shares)
        row["memory_gb"] = max(rank[-2] for rank in ranks) / 1e9
        return row


def peak_flops(device: torch.device, precision: Literal["fp32", "bf16"]) -> float | None:
    """Dense peak of a device in FLOP/s; None on a CPU and on GPUs that `e2llm_core.training.gpus` does not know.

    float32 products that torch may round to TF32 are held to the TF32 peak, half of bfloat16's.
    """
    gpu = gpu_named(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    if gpu is None:
        return None
    if precision == "bf16":
        return gpu.bf16_flops
    tf32 = torch.get_float32_matmul_precision() != "highest" and gpu.bf16_flops
    return gpu.bf16_flops / 2 if tf32 and gpu.bf16_flops else gpu.fp32_flops


def peak_memory_bytes(device: torch.device) -> float:
    """Most memory this process has used: tensors on its GPU, or on a CPU its resident set."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def covered(intervals: Iterable[tuple[int, int]]) -> int:
    """Length of the union of (start, stop) intervals."""
    total, reached = 0, None
    for start, stop in sorted(intervals):
        begin = start if reached is None else max(start, reached)
        if stop > begin:
            total, reached = total + stop - begin, stop
    return total


def _start_profiler(device: torch.device) -> Any:
    """Start to record kernels (on a GPU) or operators (gloo's among them); None when somebody else is recording."""
    from torch.profiler import ProfilerActivity, profile

    if torch.autograd._profiler_enabled():
        return None
    profiler = profile(activities=[ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU])
    profiler.start()
    return profiler


def _share(profiler: Any, seconds: float) -> float | None:
    """Share of `seconds` in which a collective was under way; None when nothing was recorded."""
    profiler.stop()
    events = profiler.profiler.kineto_results.events()
    spans = [(e.start_ns(), e.start_ns() + e.duration_ns()) for e in events if e.name().startswith(_COLLECTIVES)]
    return min(1.0, covered(spans) / 1e9 / seconds) if len(events) else None


def _table(mine: list[float], world: World) -> list[list[float]]:
    """Every rank's values, by rank: each adds its own row to a table of zeros; a collective call."""
    width = len(mine)
    table = [0.0] * (width * world.size)
    table[world.rank * width : (world.rank + 1) * width] = mine
    summed = world.sum(table)
    return [summed[start : start + width] for start in range(0, len(summed), width)]
