"""One training run in a process of its own: ours, or the loop that people write around transformers.

torchrun ... benchmarks/_training.py JOB.json, where JOB holds `plan`, `run`, `way` ("ours" or "plain").
Writes `<run>/measured.json`: seconds and tokens of every step, and peak memory above what stood before the first.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import psutil
import torch
from pydantic import TypeAdapter

from e2llm_core.stages.config import build_stage
from e2llm_core.stages.language import LanguageStage
from e2llm_core.stages.table import AnyPlan
from e2llm_core.training.engine import stop_distributed
from e2llm_core.training.stage import Batch
from e2llm_core.training.trainer import Trainer, seed_everything
from e2llm_core.training.world import World


class PeakMemory:
    """Watches this process's resident memory, 100 times a second."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.start = self.peak = self._process.memory_info().rss
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._process.memory_info().rss)
            time.sleep(0.01)

    @property
    def above_start(self) -> int:
        """Bytes."""
        return self.peak - self.start


class TimedTrainer(Trainer):
    """The trainer, with a clock."""

    def fit(self) -> Any:
        """Measure from the first step on."""
        self.memory, self.measured = PeakMemory(), []
        return super().fit()

    def _step(self, step: int, batches: list[Batch], *rest: Any) -> None:
        started = time.perf_counter()
        super()._step(step, batches, *rest)
        tokens = sum(batch.tokens for batch in batches)
        self.measured.append({"seconds": time.perf_counter() - started, "tokens": tokens})


def ours(stage: LanguageStage, plan: Any, run: Path, world: World) -> dict[str, Any]:
    """The project's own loop."""
    trainer = TimedTrainer(stage, plan.train, run, world)
    trainer.fit()
    return {"steps": trainer.measured, "peak": trainer.memory.above_start}


def plain(stage: LanguageStage, plan: Any) -> dict[str, Any]:
    """Padded batches, logits at every position, transformers' own loss, torch's AdamW, one process.

    The samples, their order, the micro-batch and the model are the same.
    """
    config = plan.train
    seed_everything(config.seed)
    model, groups = stage.build()
    model.llm.set_attn_implementation("sdpa")
    trained = [parameter for group in groups for parameter in group.parameters]
    known = {id(parameter) for parameter in trained}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in known)
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate)
    order = stage.order(config.seed)
    model.train()
    memory, measured = PeakMemory(), []
    for step in range(config.max_steps):
        started, tokens = time.perf_counter(), 0
        ids = order.batch(step, config.global_batch)
        positions = step * config.global_batch + np.arange(len(ids))
        parts = range(0, len(ids), config.micro_batch)
        for start in parts:
            inputs = padded(stage, ids[start : start + config.micro_batch], positions[start : start + len(ids)])
            tokens += int(inputs["attention_mask"].sum())
            labels = inputs.pop("labels")
            embeds = model.embed(inputs["input_ids"], inputs["eeg"])
            output = model.llm(
                inputs_embeds=embeds, attention_mask=inputs["attention_mask"], labels=labels, use_cache=False
            )
            (output.loss / len(parts)).backward()
        torch.nn.utils.clip_grad_norm_(trained, config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        measured.append({"seconds": time.perf_counter() - started, "tokens": tokens})
    return {"steps": measured, "peak": memory.above_start}


def padded(stage: LanguageStage, ids: np.ndarray, positions: np.ndarray) -> dict[str, torch.Tensor]:
    """A micro-batch as the processor gives it to anybody."""
    rngs = [np.random.default_rng([stage.train.seed, int(position)]) for position in positions]
    samples = [stage.draw(stage.training, int(n), rng) for n, rng in zip(ids, rngs, strict=False)]
    dialogues = [sample.dialogue for sample in samples]
    prompts = [stage.processor.build_prompt(d.messages(), d.thinking is not None) for d in dialogues]
    targets = [stage.processor.build_target(d.answer, d.thinking, d.thinking is None) for d in dialogues]
    segments = [torch.from_numpy(stage.training.windows.read(np.array(sample.windows))) for sample in samples]
    return stage.processor(prompts, targets, segments)


def main() -> None:
    """Train the job that the command line names."""
    job = json.loads(Path(sys.argv[1]).read_text())
    plan: Any = TypeAdapter(AnyPlan).validate_python(job["plan"])
    stage: Any = build_stage(plan)
    world, run = World.from_environment(), Path(job["run"])
    found = ours(stage, plan, run, world) if job["way"] == "ours" else plain(stage, plan)
    if world.is_first:
        run.mkdir(parents=True, exist_ok=True)
        (run / "measured.json").write_text(json.dumps(found))
    if job["way"] == "ours":
        stop_distributed()


if __name__ == "__main__":
    main()
