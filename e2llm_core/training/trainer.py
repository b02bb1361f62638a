"""The training loop, the same under Ray Train, `torchrun` and in one plain process."""

import random
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from e2llm_core.training.checkpoint import Checkpoints, TrainerState
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import Engine, start_distributed, zero3_loading
from e2llm_core.training.metrics import PROGRESS, MetricsLog
from e2llm_core.training.sharding import shard
from e2llm_core.training.stage import Batch, Stage
from e2llm_core.training.world import World
from storage.sampling.loader import Prefetcher

_BEST = "best"


class Trainer:
    """Trains one stage in one run folder, going on from the newest complete checkpoint.

    Parameters
    ----------
    stage : Stage
        What is trained.
    config : TrainConfig
        How.
    run : Path
        Run folder, on storage that all ranks see.
    world : World
        This rank's place.
    """

    def __init__(self, stage: Stage, config: TrainConfig, run: Path, world: World) -> None:
        self.stage, self.config, self.run, self.world = stage, config, run, world
        run.mkdir(parents=True, exist_ok=True)
        seed_everything(config.seed)
        start_distributed(world)
        with zero3_loading(config, world):
            model, groups = stage.build()
        self.engine = Engine(model, groups, config, world)
        self.order = stage.order(config.seed)
        self.checkpoints = Checkpoints(run, config.keep_checkpoints, world)

    def fit(self) -> None:
        """Train to `max_steps` and write `<run>/model`. A collective call."""
        state = self.checkpoints.resume(self.engine) or TrainerState(0, self.world.size)
        if state.step and self.world.is_first:
            with (self.run / PROGRESS).open("a") as file:
                file.write(f"[{self.stage.name}] resumed at step {state.step}\n")
        config, best = self.config, state.best_score
        log = MetricsLog(self.run, self.stage.name, config.max_steps, state.step, self.world)
        steps = range(state.step + 1, config.max_steps + 1)
        prepared = Prefetcher(self._prepare, steps, depth=1)
        for step, batches in zip(steps, prepared, strict=True):
            metrics = self._train_step(step, batches) | {"loader_wait": prepared.last_wait_seconds}
            last = step == config.max_steps
            if step % config.log_every == 0 or step == 1 or last:
                log.write(step, "train", metrics)
            if step % config.validate_every == 0 or last:
                validation = self._validate()
                log.write(step, "validation", validation)
                if config.select == "best" and (best is None or validation["score"] > best):
                    best = validation["score"]
                    self._hand_on(self.run / _BEST)
            if step % config.checkpoint_every == 0 or last:
                self.checkpoints.save(self.engine, TrainerState(step, self.world.size, best))
        log.close()
        self._finish()

    def _prepare(self, step: int) -> list[Batch]:
        """Read this rank's micro-batches of global batch number `step`; runs ahead of training, in a thread."""
        ids = self.order.batch(step - 1, self.config.global_batch)
        first = (step - 1) * self.config.global_batch
        micro_batches = shard(ids, first, self.config.micro_batch, self.world)
        batches = [self.stage.prepare(micro) for micro in micro_batches]
        return [batch.pinned() for batch in batches] if self.world.device.type == "cuda" else batches

    def _train_step(self, step: int, prepared: list[Batch]) -> dict[str, float]:
        """One optimizer step on global batch number `step`; returns means over the step's units."""
        batches = [batch.to(self.world.device) for batch in prepared]
        (units,) = self.world.sum([sum(batch.units for batch in batches)])
        totals: dict[str, Tensor] = {}
        rates = self.engine.learning_rates()
        for batch in batches:
            losses = self.stage.losses(self.engine.forward_model(), batch)
            self.engine.backward(losses.total, units)
            self.engine.step()
            for name, value in {"loss": losses.total, **losses.parts}.items():
                totals[name] = totals.get(name, torch.zeros(())) + value.detach().cpu()
        sums = self.world.sum([float(total) for total in totals.values()])
        metrics = {name: value / units for name, value in zip(totals, sums, strict=True)}
        if not np.isfinite(metrics["loss"]):
            raise FloatingPointError(f"loss is {metrics['loss']} at step {step}; lower train.learning_rate")
        metrics |= {f"lr/{name}": rate for name, rate in rates.items()}
        return metrics | {"gradient_norm": self.engine.gradient_norm(), "units": units}

    def _validate(self) -> dict[str, float]:
        self.engine.model.eval()
        with torch.no_grad():
            metrics = self.stage.validate(self.engine.model, self.world)
        self.engine.model.train()
        return metrics

    def _hand_on(self, folder: Path) -> None:
        """Write a model directory next to its final place, then move it there. A collective call."""
        state = self.engine.gathered_state()
        if self.world.is_first:
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self.stage.hand_on(self.engine.model, state, partial)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        self.world.barrier()

    def _finish(self) -> None:
        best = self.run / _BEST
        if self.config.select == "last" or not best.exists():
            self._hand_on(self.run / "model")
        elif self.world.is_first:
            partial = self.run / "model.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(best, partial)
            shutil.rmtree(self.run / "model", ignore_errors=True)
            partial.rename(self.run / "model")
        self.world.barrier()


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
