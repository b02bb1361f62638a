"""The training loop, the same under Ray Train, `torchrun` and in one plain process."""

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from e2llm_core.training.checkpoint import Checkpoints, TrainerState
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import Engine, start_distributed, zero3_loading
from e2llm_core.training.faults import STACKS, Watchdog
from e2llm_core.training.meter import StepMeter
from e2llm_core.training.metrics import PROGRESS, RECORDS, MetricsLog, record_choices
from e2llm_core.training.stage import Batch, LossTerm, Stage
from e2llm_core.training.world import World
from storage.errors import InputError
from storage.places.folder import Folder
from storage.places.workspace import Workspace
from storage.sampling.loader import Prefetcher

_AHEAD = 1
"""Steps that wait prepared while one is being prepared."""


@dataclass(frozen=True)
class Prepared:
    """A step's micro-batches on this rank, and the totals over all ranks."""

    batches: list[Batch]
    num_targets: float
    samples: float
    tokens: float


class Trainer:
    """Trains one stage in one run folder, resuming from the newest complete checkpoint.

    Parameters
    ----------
    stage : Stage
        Stage to train.
    config : TrainConfig
        How.
    run : Workspace, Path or str
        Where this node works on the run; or the run's folder, which all ranks see, or URL.
    world : World
        This rank's place.
    stop : callable, optional
        Asked on every rank before the first step and at the end of each: True ends training with a checkpoint there.
        What it says during a validation or a checkpoint is read after one more whole step.
    watchdog : Watchdog, optional
        Times the steps.
    """

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        run: Workspace | Path | str,
        world: World,
        stop: Callable[[], bool] = lambda: False,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.stage, self.config, self.world = stage, config, world
        self.workspace = run if isinstance(run, Workspace) else Workspace(run, world.node_rank)
        self.run = self.workspace.folder
        self._stop, self._watchdog = stop, watchdog
        self.run.mkdir(parents=True, exist_ok=True)
        if world.is_first:
            self.workspace.fetch(*RECORDS)
        seed_everything(config.seed)
        start_distributed(world)
        with zero3_loading(config, world):
            model, groups = stage.build()
        record_choices(self.run, stage.name, stage.choices, world)
        self.engine = Engine(model, groups, config, world, written=self.workspace.send_file)
        self.order = stage.order(config.seed)
        self.meter = StepMeter(world, config.precision)
        self.checkpoints = Checkpoints(self.workspace, config.keep_checkpoints, world)
        if self.checkpoints.leads:
            self.workspace.send(f"{STACKS}/*")  # of an attempt that hung

    def fit(self) -> Literal["finished", "stopped"]:
        """Train to `max_steps` and write `<run>/model`, or stop early with a checkpoint. A collective call.

        Raises
        ------
        InputError
            When a loss or a gradient is not finite, or a checkpoint cannot be written.
        """
        with self.workspace.kept(*(RECORDS if self.world.is_first else ())):
            return self._fit()

    def _fit(self) -> Literal["finished", "stopped"]:
        self.state = self.checkpoints.resume(self.engine) or TrainerState(0, self.world.size)
        self._saved_step = self.state.step
        first = self.state.step + 1
        if self.state.step and self.world.is_first:
            with (self.run / PROGRESS).open("a") as file:
                file.write(f"[{self.stage.name}] resumed at step {self.state.step}\n")
        log = MetricsLog(self.run, self.stage.name, self.config.max_steps, self.state.step, self.world)
        self._last = self.config.max_steps
        self._exchange([], [])
        prepared = Prefetcher(self._prepare, self._steps(first), depth=_AHEAD)
        try:
            for step, ready in enumerate(prepared, first):
                if self._stops:
                    self._save()
                    self.checkpoints.finish(self.engine)
                    self._drain(step, prepared)
                    return "stopped"
                self._step(step, ready, prepared.last_wait_seconds, log)
                if self._watchdog:
                    self._watchdog.feed()
        finally:
            log.close()
            if self._watchdog:
                self._watchdog.rest()
        self._finish()
        return "finished"

    def _steps(self, first: int) -> Iterator[int]:
        """Steps to prepare; the last step may be moved earlier while they are prepared."""
        step = first
        while step <= self._last:
            yield step
            step += 1

    def _drain(self, step: int, prepared: Prefetcher[int, Prepared]) -> None:
        """Let all ranks prepare up to the same step: a rank that ended earlier would leave others waiting.

        What cannot be read any more is not needed any more, nor is what a rank that left would have sent.
        """
        self._last = min(self._last, step + _AHEAD + 1)
        with contextlib.suppress(OSError, InputError, RuntimeError):  # the last is of torch.distributed
            for _ in prepared:
                pass

    def _step(self, step: int, ready: Prepared, loader_wait: float, log: MetricsLog) -> None:
        """One optimizer step and what is due after it: metrics, validation, a checkpoint."""
        config, best = self.config, self.state.best_score
        self.state = replace(self.state, step=step, world_size=self.world.size)
        metrics = self._train_step(step, ready, loader_wait)
        last = step == config.max_steps
        if step % config.log_every == 0 or step == 1 or last:
            norm = self.engine.gradient_norm()
            log.write(step, "train", metrics | ({} if norm is None else {"gradient_norm": norm}) | self.meter.row())
        better = False
        if step % config.validate_every == 0 or last:
            validation = self._validate()
            log.write(step, "validation", validation)
            better = config.select == "best" and (best is None or validation["score"] > best)
            if better:
                self.state = replace(self.state, best_score=validation["score"], best_step=step)
        if step % config.checkpoint_every == 0 or last or better:
            self._save()

    def _exchange(self, totals: list[Tensor], counts: list[float]) -> tuple[list[float], list[float]]:
        """Sum losses over all ranks, agree on stopping, and learn whether all have written their checkpoints.

        The one exchange of a step, and the one time that it waits for the device.
        """
        flags = [self._stop(), self.checkpoints.is_written(self.engine)]
        *sums, stop, written = self.world.sum([*counts, *flags], torch.stack(totals) if totals else None)
        self._stops, self._all_written = stop > 0, written == self.world.size
        return sums[: len(totals)], sums[len(totals) :]

    def _save(self) -> None:
        if self.state.step != self._saved_step:
            self.checkpoints.save(self.engine, self.state)
            self._saved_step = self.state.step

    def _prepare(self, step: int) -> Prepared:
        """Read this rank's micro-batches of global batch number `step`; runs ahead of training, in a thread."""
        first = (step - 1) * self.config.global_batch
        ids = self.order.batch(step - 1, self.config.global_batch)
        batches = self.stage.batches(ids, first, self.config, self.world)
        counts = self.world.sum_beside(_counts(batches))
        if self.world.device.type == "cuda":
            batches = [batch.pinned() for batch in batches]
        return Prepared(batches, *counts)

    def _roll_out(self, batches: list[Batch]) -> Prepared:
        """Let the stage generate the samples of a prepared step, and count them. A collective call."""
        self.engine.model.eval()
        with torch.no_grad():
            batches = self.stage.rollout(self.engine.model, batches)
        self.engine.model.train()
        return Prepared(batches, *self.world.sum(_counts(batches)))

    def _train_step(self, step: int, ready: Prepared, loader_wait: float) -> dict[str, float]:
        """One optimizer step on global batch number `step`; returns means over the step's targets."""
        self.meter.begin()
        model, rates = self.engine.forward_model(), self.engine.learning_rates()
        batches = [batch.to(self.world.device) for batch in ready.batches]
        if self.stage.generates:
            ready = self._roll_out(batches)
            batches = ready.batches
        batches = self.stage.gradient_cache(model, batches)
        totals: dict[str, Tensor] = {}
        counts: dict[str, float] = {}
        for place, batch in enumerate(batches, 1):
            losses = self.stage.losses(model, batch)
            self.engine.backward(losses.total, ready.num_targets, last=place == len(batches))
            for name, part in {"loss": LossTerm(losses.total, batch.num_targets), **losses.parts}.items():
                totals[name] = totals.get(name, 0) + part.total.detach().double()
                counts[name] = counts.get(name, 0) + part.num_targets
        is_finite = self.engine.step()
        summed = self._exchange(list(totals.values()), list(counts.values()))
        self._measure(ready.batches, loader_wait)
        metrics = {name: total / count for name, total, count in zip(counts, *summed, strict=True) if count}
        if not np.isfinite(metrics["loss"]) or not is_finite:
            with contextlib.suppress(InputError):
                self.checkpoints.finish(self.engine)
            self.world.barrier()  # whoever ends first may take the others along
            raise InputError(
                f"{self.workspace.name}, step {step}",
                f"the loss is {metrics['loss']:g}{'' if is_finite else ', its gradients are not finite'}",
                "Lower train.learning_rate or train.gradient_clip, with another `run:`; this run would end here again.",
            )
        if self._all_written:
            self.checkpoints.finish(self.engine)
        metrics |= {f"lr/{name}": rate for name, rate in rates.items()}
        return metrics | {"units": ready.num_targets, "samples": ready.samples, "tokens": ready.tokens}

    def _measure(self, batches: list[Batch], loader_wait: float) -> None:
        """Report this rank's work in the step to the meter."""
        samples, tokens = (sum(getattr(batch, name) for batch in batches) for name in ("samples", "tokens"))
        flops = [count for count in map(self.stage.flops, batches) if count is not None]
        self.meter.end(samples, tokens, loader_wait, sum(flops) if len(flops) == len(batches) else None)

    def _validate(self) -> dict[str, float]:
        self.engine.model.eval()
        with torch.no_grad():
            metrics = self.stage.validate(self.engine.model, self.world)
        self.engine.model.train()
        return metrics

    def _export(self, folder: Path) -> None:
        """Write a model directory next to its final place, then move it there. A collective call."""
        state = self.engine.gathered_state()
        if self.world.is_first:
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self.stage.export(self.engine.model, state, partial)
            Folder(partial).settle("")
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
            self.workspace.send_folder(folder.name)
        self.world.barrier()

    def _finish(self) -> None:
        self.checkpoints.finish(self.engine)
        if self.config.select == "best":
            self.checkpoints.load_best(self.engine, self.state)
        self.engine.model.eval()
        with torch.no_grad():
            self.stage.calibrate(self.engine.model, self.world)
        self._export(self.run / "model")


def _counts(batches: list[Batch]) -> list[float]:
    """Targets, samples and tokens of a step on this rank."""
    return [sum(getattr(batch, name) for batch in batches) for name in ("num_targets", "samples", "tokens")]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
