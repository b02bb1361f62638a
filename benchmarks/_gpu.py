"""Cases of `gpu.py` in a process of their own: python benchmarks/_gpu.py SIZE WORK RESULTS CASE..."""

import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.benchmark import Timer

from benchmarks._gpu_inputs import SIZES, Inputs, Size
from benchmarks._report import Row
from benchmarks.gpu import Results
from cluster.planning.gpus import GPU, GPUS
from cluster.planning.plan import JobPlan, plan_job
from e2llm_core.sizes.workload import Sample
from e2llm_core.stages.config import build_stage
from e2llm_core.training.engine import stop_distributed
from e2llm_core.training.gpus import gpu_named
from e2llm_core.training.metrics import METRICS, read_metrics
from e2llm_core.training.stage import Stage
from e2llm_core.training.world import World

ONE_ROUNDING = 2.0**-8
"""Largest relative error of one rounding to bfloat16, which keeps 8 bits."""
_OPERATOR = "aten::_scaled_dot_product_"
_DIGITS = 6


@dataclass(frozen=True)
class Job:
    """Where and how large, and where what is found goes."""

    inputs: Inputs
    results: Results

    @property
    def size(self) -> Size:
        """How large."""
        return self.inputs.size

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return World.from_environment().device

    @property
    def gpu(self) -> GPU:
        """The GPU in the plan's table; an H200 where this is none of them."""
        sheet = gpu_named(torch.cuda.get_device_name(self.device)) if self.device.type == "cuda" else None
        return next((gpu for gpu in GPUS.values() if gpu.sheet is sheet), GPUS["h200"])


def row(
    case: str,
    metric: str,
    ours: float | list[float],
    other: float,
    other_name: str,
    unit: str,
    better: Literal["higher", "lower"] = "higher",
) -> Row:
    """A comparison with one number; `ours` may be several, of which the median counts and the range is kept."""
    values = ours if isinstance(ours, list) else [ours]
    ratios = sorted(value / other if better == "higher" else other / value for value in values)
    numbers = (median(values), other, other_name, median(ratios), ratios[0], ratios[-1])
    return Row(case, metric, *(float(f"{n:.{_DIGITS}g}") if isinstance(n, float) else n for n in numbers), unit, better)


# Kernels


def chosen_kernels(job: Job) -> Iterable[Row]:
    """Note the device, its software, and which attention runs."""
    from e2llm_core.llm.attention import choose_attention, why_no_flash

    query, key, value, lengths = _packed(job)
    usable = {}
    for backend in _backends():
        try:
            with torch.nn.attention.sdpa_kernel(backend):
                F.scaled_dot_product_attention(query, query, query, is_causal=True)
            usable[backend.name] = True
        except RuntimeError:
            usable[backend.name] = False
    with torch.profiler.profile() as profiler:
        _packed_sdpa(query, key, value, lengths)
    ran = sorted({event.key for event in profiler.key_averages() if event.key.startswith(_OPERATOR)})
    kernels = {
        "attention": choose_attention("auto", torch.bfloat16),
        "no FlashAttention 2 because": why_no_flash(torch.bfloat16),
        "SDPA's backends that take the packed shape": usable,
        "packed attention ran": ran,
    }
    job.results.note(device=_device(job), kernels=kernels, planned_for=job.gpu.name)
    return ()


def _backends() -> list[Any]:
    from torch.nn.attention import SDPBackend

    return [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def _device(job: Job) -> dict[str, Any]:
    if job.device.type != "cuda":
        return {"name": "CPU"}
    properties = torch.cuda.get_device_properties(job.device)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "name": properties.name,
        "memory_gb": properties.total_memory / 1e9,
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
    }


def product(job: Job) -> Iterable[Row]:
    """A large matrix product: what of the data sheet can be reached at all."""
    side = job.size.product
    left, right = (torch.randn(side, side, device=job.device, dtype=torch.bfloat16) for _ in range(2))
    rates = [2 * side**3 / seconds for seconds in _times(job, lambda: left @ right)]
    yield row(f"bfloat16 product of {side} x {side}", "FLOP/s", rates, job.gpu.bf16_flops, "data sheet", "FLOP/s")


def packed_attention(job: Job) -> Iterable[Row]:
    """Ours, and PyTorch's under the mask that packed rows need, forward and backward."""
    query, key, value, lengths = _packed(job, gradient=True)
    sample = torch.arange(len(lengths), device=job.device).repeat_interleave(lengths)
    mask = (sample[:, None] == sample) & torch.ones_like(sample[:, None] == sample).tril()

    def masked() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)

    ours = _times(job, lambda: _both_ways(_packed_sdpa(query, key, value, lengths)))
    other = median(_times(job, lambda: _both_ways(masked())))
    yield row(_attention_case(query), "seconds", ours, other, "SDPA under a mask", "s", "lower")


def flash_attention(job: Job) -> Iterable[Row]:
    """Ours, and FlashAttention 2, where it is installed."""
    from e2llm_core.llm.attention import why_no_flash

    if why_no_flash(torch.bfloat16):
        return
    from flash_attn import flash_attn_varlen_func

    query, key, value, lengths = _packed(job, gradient=True)
    ends, longest = _ends(lengths), int(lengths.max())
    flat = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]

    def flash() -> Tensor:
        found: Tensor = flash_attn_varlen_func(*flat, ends, ends, longest, longest, causal=True)
        return found

    ours = _times(job, lambda: _both_ways(_packed_sdpa(query, key, value, lengths)))
    other = median(_times(job, lambda: _both_ways(flash())))
    yield row(_attention_case(query), "seconds", ours, other, "FlashAttention 2", "s", "lower")


def _attention_case(query: Tensor) -> str:
    return f"attention of a packed row of {query.shape[2]}, {query.shape[1]} heads, forward and backward"


def _packed(job: Job, gradient: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys and values (1, H, L, D) of a packed row, and the lengths of its samples."""
    llm = job.size.llm
    lengths = torch.tensor([200, 260, 180, 240, 160, 300, 220, 190, 210, 88])
    total = int(lengths.sum())

    def drawn(heads: int) -> Tensor:
        made = torch.randn(1, heads, total, llm.head_dim, device=job.device, dtype=torch.bfloat16)
        return made.requires_grad_(gradient)

    return drawn(llm.heads), drawn(llm.kv_heads), drawn(llm.kv_heads), lengths.to(job.device)


def _packed_sdpa(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor) -> Tensor:
    from e2llm_core.llm.packed_attention import packed_sdpa

    ends, longest = _ends(lengths), int(lengths.max())
    module = torch.nn.Identity()
    return packed_sdpa(module, query, key, value, None, cu_seq_lens_q=ends, max_length_q=longest)[0]


def _ends(lengths: Tensor) -> Tensor:
    return F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


def _both_ways(output: Tensor) -> None:
    output.sum().backward()


def _times(job: Job, work: Callable[[], object]) -> list[float]:
    """Seconds of one call, several times measured; the device is waited for."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    timer.timeit(3)
    return list(timer.blocked_autorange(min_run_time=job.size.seconds).times)


# Training


def stage1(job: Job) -> Iterable[Row]:
    """EEGPT large: forward, backward and update."""
    return trained(job, "stage1", "EEGPT large" if not job.size.tower else "a small tower", "windows/s")


def stage3(job: Job) -> Iterable[Row]:
    """Qwen3-8B with LoRA on packed rows; the whole of a run, to the model directory."""
    llm = job.size.llm.name if not job.size.tower else "a small Qwen3"
    yield from trained(job, "stage3", f"{llm}, LoRA, packed rows of 2,048", "tokens/s")
    yield _gathered(job)


def trained(job: Job, name: str, what: str, metric: Literal["windows/s", "tokens/s"]) -> Iterable[Row]:
    """Train with the project's loop; speed, share of peak and memory beside the plan's."""
    from e2llm_core.training.trainer import Trainer, seed_everything

    plan, world, run = job.inputs.plan(name), World.from_environment(), job.inputs.root / name
    seed_everything(plan.train.seed)
    stage = build_stage(plan)
    if job.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(job.device)
    trainer = Trainer(stage, plan.train, run, world)
    whole = [key for key, value in trainer.engine.model.named_parameters() if not hasattr(value, "ds_id")]
    if whole:
        raise RuntimeError(f"ZeRO-3 left {len(whole)} parameters whole, {whole[0]} among them")
    trainer.fit()
    backend = torch.distributed.get_backend()
    rows = [found for found in read_metrics(run / METRICS) if found["split"] == "train"][job.size.warm_up :]
    counted = [_counted(stage, trainer, found["step"]) for found in rows]
    planned = _planned(job, plan, counted, rows)
    peak = planned.memory_bytes - planned.memory.items["context"]
    job.results.note(
        **{
            name: {
                "what": what,
                "backend": backend,
                "choices": dict(stage.choices),
                "loader_wait_share": [found["loader_wait_share"] for found in rows],
                "tokens": [found["tokens"] for found in rows],
                "planned": planned.model_dump(mode="json", include={"memory", "step", "bound", "assumptions"}),
            }
        }
    )
    seconds = [found["seconds_per_step"] - found["loader_wait"] for found in rows]
    done = [found["samples" if metric == "windows/s" else "tokens"] for found in rows]
    speeds = [number / each for number, each in zip(done, seconds, strict=True)]
    shares = [flops / each / job.gpu.bf16_flops for flops, each in zip(counted, seconds, strict=True)]
    step = f"{name}, {what}, ZeRO-3 with {backend} on one rank"
    likely = planned.samples_per_second if metric == "windows/s" else planned.tokens_per_second
    yield row(f"{step}: without the wait for data", metric, speeds, likely, "plan", metric)
    yield row(f"{step}: model FLOPs utilisation", "share of peak", shares, planned.step.mfu, "plan", "of peak")
    memory = max(found["memory_gb"] for found in rows)
    yield row(f"{step}: peak memory", "memory", memory, peak / 1e9, "plan, without its context", "GB", "lower")


def _counted(stage: Stage, trainer: Any, step: int) -> float:
    """Model FLOPs of a step."""
    batch = trainer.config.global_batch
    ids = trainer.order.batch(step - 1, batch)
    batches = stage.batches(ids, (step - 1) * batch, trainer.config, trainer.world)
    return float(sum(stage.flops(each) or float("nan") for each in batches))


def _planned(job: Job, plan: Any, counted: list[float], rows: list[dict[str, Any]]) -> JobPlan:
    """The plan of the run, for samples of the length that this tokenizer gives."""
    work = plan.workload()
    if work.sample.tokens:
        samples = sum(found["samples"] for found in rows)
        tokens, supervised = (sum(found[key] for found in rows) / samples for key in ("tokens", "units"))
        sample = Sample(tokens=tokens, supervised=supervised, segments=work.sample.segments)
        work = work.model_copy(update={"sample": sample})
    return plan_job(work, 1, job.gpu)


def _gathered(job: Job) -> Row:
    """Numbers in the model directory that was gathered from ZeRO-3's partitions, and how many train by the plan."""
    from safetensors import safe_open

    model, numbers = job.inputs.root / "stage3" / "model", 0
    for file in (model / "projector.safetensors", model / "adapter" / "adapter_model.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            found = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
        if wrong := [key for key, value in found.items() if not value.numel() or not bool(value.isfinite().all())]:
            raise RuntimeError(f"{file.name}: empty or not finite: {wrong[:4]}")
        numbers += sum(value.numel() for value in found.values())
    trainable = plan_job(job.inputs.plan("stage3").workload(), 1, job.gpu).trainable_parameters
    case = "stage3: numbers gathered from ZeRO-3 and written"
    return row(case, "parameters", float(numbers), float(trainable), "trainable by the plan", "parameters")


def precision(job: Job) -> Iterable[Row]:
    """Stage 1's model in bfloat16 against itself in float32: outputs, and gradients of its loss."""
    plan = job.inputs.plan("stage1")
    stage = build_stage(plan)
    torch.manual_seed(0)
    model, _ = stage.build()
    model = model.to(job.device).eval()
    batch = stage.batches(np.arange(8), 0, plan.train, World.from_environment())[0].to(job.device)

    def outcome(module: torch.nn.Module) -> dict[str, Tensor]:
        with torch.no_grad():
            outputs = torch.cat([each.float().flatten() for each in module(batch.tensors["eeg"]).values()])
        stage.losses(module, batch).total.backward()
        gradients = [each.grad.float().flatten() for each in module.parameters() if each.grad is not None]
        return {"outputs": outputs, "gradients": torch.cat(gradients)}

    exact = outcome(model)
    model.zero_grad(set_to_none=True)
    rounded = outcome(model.bfloat16())
    for name, value in exact.items():
        error = float((rounded[name] - value).norm() / value.norm())
        case = f"stage1's model in bfloat16 against float32: {name}"
        yield row(case, "relative error", error, ONE_ROUNDING, "one rounding to bfloat16", "", "lower")


# Scoring


def scoring(job: Job) -> Iterable[Row]:
    """Closed-set scoring by `Predictor.likelihood`, against a device that does nothing but multiply at its peak."""
    from e2llm_core.inference.predictor import Predictor
    from e2llm_core.stages.data import EEGData
    from e2llm_core.tasks.registry import LABELLING

    tuned = job.inputs.root / "stage3" / "model"
    predictor = Predictor(tuned if tuned.is_dir() else job.inputs.composite, batch=job.size.windows)
    data = EEGData.open(job.inputs.plan("stage1").data)
    windows = data.windows(data.split.test)
    segments = windows.read(np.arange(job.size.scored) % len(windows))[:, None]
    question = LABELLING.question(predictor.labels)
    predictor.likelihood(question, segments[: job.size.windows])
    speeds = []
    for _ in range(3):
        (seconds,) = Timer("work()", globals={"work": lambda: predictor.likelihood(question, segments)}).timeit(1).times
        speeds.append(len(segments) / seconds)
    bound = job.gpu.bf16_flops / _scoring_flops(predictor, question)
    case = f"closed-set scoring, {len(question.options)} answers, {job.size.windows} windows a pass"
    yield row(case, "windows/s", speeds, bound, "the data sheet's peak", "windows/s")


def _scoring_flops(predictor: Any, question: Any) -> float:
    """Forward arithmetic of one window: the tower, the prompt once, every answer once."""
    from e2llm_core.training.flops import LanguageFlops, causal_pairs, tower_flops

    processor = predictor.processor
    read = [processor.tokenize(question.messages(), option, None) for option in question.options]
    begun, lengths = len(read[0][0]), [len(target) for _, target in read]
    pairs = sum(causal_pairs([begun + length]) - causal_pairs([begun]) for length in lengths) + causal_pairs([begun])
    language = LanguageFlops.of_model(predictor.model.llm)
    return language.forward(begun + sum(lengths), 1 + sum(lengths), pairs) + tower_flops(predictor.model.tower, False)


def inputs(job: Job) -> Iterable[Row]:
    """Make what the other cases work on."""
    job.inputs.make()
    return ()


CASES: dict[str, tuple[Callable[[Job], Iterable[Row]], ...]] = {
    "inputs": (inputs,),
    "kernels": (chosen_kernels, product, packed_attention, flash_attention),
    "stage1": (stage1, precision),
    "stage3": (stage3,),
    "scoring": (scoring,),
}


def run(job: Job, case: str) -> None:
    """Run the measurements of a case; one that raises is recorded, and the next goes on."""
    for measurement in CASES[case]:
        try:
            for found in measurement(job):
                job.results.add(found)
        except Exception as error:  # of any library
            traceback.print_exc()
            job.results.fail(f"{case}: {measurement.__name__}", f"{type(error).__name__}: {error}")


def main() -> None:
    """Run the cases that the command line names."""
    size, work, path, *cases = sys.argv[1:]
    job = Job(Inputs(Path(work), SIZES[size]), Results(Path(path)))
    for case in cases:
        run(job, case)
    stop_distributed()  # once: DeepSpeed cannot join a second process group


if __name__ == "__main__":
    main()
