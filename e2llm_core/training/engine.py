"""The only place that trains by DeepSpeed; what is private to it is in `e2llm_core.training.deepspeed_private`."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from e2llm_core.training import deepspeed_private
from e2llm_core.training.config import PATIENCE, TrainConfig
from e2llm_core.training.decay import optimizer_groups
from e2llm_core.training.extensions import build_communication
from e2llm_core.training.muon import MuonAndAdamW
from e2llm_core.training.offload import adam_settings, offload_settings
from e2llm_core.training.stage import ParameterGroup
from e2llm_core.training.universal import group_settings, repair_groups, universal_form
from e2llm_core.training.world import World, host_group
from storage.errors import InputError

_TAG = "zero"
_GROUPS = "groups.pt"


def start_distributed(world: World) -> None:
    """Join the process group (gloo on CPU, NCCL on GPU) unless the launcher already did; quiets DeepSpeed's log."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch\.distributed|deepspeed)")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    os.environ.setdefault("LOCAL_RANK", str(world.local_rank))
    # DeepSpeed has torch compile an optimizer that is not used here, which imports all of Inductor first.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    import deepspeed

    backend = "nccl" if world.device.type == "cuda" else "gloo"
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    if not dist.is_initialized() and world.size == 1:
        store = dist.HashStore()
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    build_communication()
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False, timeout=PATIENCE)
    host_group()


def stop_distributed() -> None:
    """Leave the process group; without it processes abort at exit now and then."""
    if dist.is_initialized():
        dist.barrier()
        host_group.cache_clear()
        dist.destroy_process_group()


def deepspeed_config(config: TrainConfig, world: World) -> dict[str, Any]:
    """DeepSpeed's settings for one run. Batch sizes are nominal: the engine says itself where a step ends."""
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world.size,
        "gradient_clipping": config.gradient_clip,
        "bf16": {"enabled": config.precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": {"stage": config.zero_stage, **offload_settings(config, world)},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    if config.optimizer == "adamw":
        adamw = {"lr": config.learning_rate, "betas": list(config.betas), "weight_decay": config.weight_decay}
        settings["optimizer"] = {"type": "AdamW", "params": adamw | adam_settings(config)}
    return settings


@contextlib.contextmanager
def zero3_loading(config: TrainConfig, world: World) -> Iterator[None]:
    """While open, `load_llm` gives partitioned models, and every rank reads its own share (ZeRO-3 only)."""
    if config.zero_stage != 3:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    keep_alive = HfDeepSpeedConfig(deepspeed_config(config, world))
    try:
        yield
    finally:
        del keep_alive
        unset_hf_deepspeed_config()


class Engine:
    """A model under DeepSpeed: backward, step, checkpoint, gather.

    Parameters
    ----------
    model : nn.Module
        Built inside `zero3_loading`.
    groups : list of ParameterGroup
        Groups of trained parameters; every other parameter is frozen here.
    config : TrainConfig
        Batch sizes, rates, precision, ZeRO stage.
    world : World
        This rank's place.
    written : callable, optional
        Called with every file of a checkpoint once it is there, beside training.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: list[ParameterGroup],
        config: TrainConfig,
        world: World,
        written: Callable[[Path], None] = lambda path: None,
    ) -> None:
        import deepspeed
        from transformers import get_scheduler

        from e2llm_core.training.background import BackgroundCheckpointEngine

        self._config, self._world = config, world
        trainable = {id(parameter) for group in groups for parameter in group.parameters}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trainable)
        model.to(world.device)
        rates = {group.name: config.learning_rates.get(group.name, config.learning_rate) for group in groups}
        if unknown := sorted(set(config.learning_rates) - set(rates)):
            raise ValueError(f"train.learning_rates: no group {unknown}; this stage has {sorted(rates)}")
        warmup, muon = round(config.warmup_fraction * config.max_steps), config.optimizer == "muon"
        with deepspeed_private.without_memory_reports():
            self._engine, *_ = deepspeed.initialize(
                model=model,
                model_parameters=optimizer_groups(model, groups, rates, config.weight_decay, matrices_only=muon),
                optimizer=partial(MuonAndAdamW, betas=config.betas) if muon else None,
                config=deepspeed_config(config, world),
                lr_scheduler=lambda optimizer: get_scheduler(
                    "cosine", optimizer, num_warmup_steps=warmup, num_training_steps=config.max_steps
                ),
            )
        self._writer = BackgroundCheckpointEngine(written)
        self._plain = [[group.name, config.weight_decay] for group in groups]
        deepspeed_private.replace_writer(self._engine, self._writer)
        self.model: nn.Module = self._engine.module
        self._trainable_names = [name for name, p in self.model.named_parameters() if p.requires_grad]

    def forward_model(self) -> nn.Module:
        """The callable that trains: DeepSpeed's wrapper of the model."""
        self._engine.train()
        return self._engine

    def backward(self, total: Tensor, num_targets: float, *, last: bool) -> None:
        """Differentiate a loss sum as its share of the mean over the step's targets on all ranks.

        DeepSpeed averages gradients over ranks, so their number is multiplied in here.

        Parameters
        ----------
        total : Tensor
            Sum over the micro-batch's targets.
        num_targets : float
            Targets of the step on all ranks.
        last : bool
            Whether it is the step's last micro-batch.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(total * (self._world.size / num_targets))

    def step(self) -> bool:
        """Optimizer step, after the last micro-batch's `backward`; tells whether the gradients were finite.

        ZeRO passes over a step with others without a word; without ZeRO they would become the weights.
        """
        if self._config.zero_stage == 0 and not self._gradients_are_finite():
            return False
        skipped = deepspeed_private.skipped_steps(self._engine)
        self._engine.step()
        return deepspeed_private.skipped_steps(self._engine) == skipped

    def _gradients_are_finite(self) -> bool:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return bool(torch.stack([gradient.isfinite().all() for gradient in gradients]).all())

    def learning_rates(self) -> dict[str, float]:
        """Current rate of every group."""
        return {group["name"]: float(group["lr"]) for group in self._engine.optimizer.param_groups}

    def gradient_norm(self) -> float | None:
        """Global gradient norm of the last step, before clipping; None where DeepSpeed keeps none (ZeRO stage 0)."""
        norm = self._engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def save(self, folder: Path) -> None:
        """Begin a checkpoint that `load` resumes; frozen parameters stay at their source. A collective call."""
        (folder / _TAG).mkdir(parents=True, exist_ok=True)  # DeepSpeed makes it on rank 0's node only
        if self._world.is_first:
            self._writer.save(self._layout(), str(folder / _GROUPS))
        self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False, exclude_frozen_parameters=True)

    @property
    def is_saving(self) -> bool:
        """Whether this rank still writes the checkpoint that `save` began."""
        return self._writer.is_writing

    def finish_saving(self) -> None:
        """Wait until this rank has finished writing; raises the error of a failed write."""
        self._writer.finish()

    def _layout(self) -> dict[str, Any]:
        """Of what DeepSpeed's files are: its optimizer, and name and weight decay of every group."""
        groups = [[group["name"], group["weight_decay"]] for group in self._engine.optimizer.param_groups]
        return {"optimizer": type(self._engine.optimizer).__name__, "groups": groups}

    def _require_layout(self, folder: Path) -> None:
        """Refuse a checkpoint of other groups or another optimizer: DeepSpeed would load it in part or not at all."""
        own, path = self._layout(), folder / _GROUPS
        if path.exists():
            written = torch.load(path, weights_only=True)
            if written["groups"] == own["groups"] and written["optimizer"] != own["optimizer"]:
                raise InputError(
                    str(folder),
                    "was written with another train.optimizer or train.offload (ZeRO-1 in bf16 changes both)",
                    "Set them back, or start a new run with another `run:`.",
                )
            fits = written == own
        else:  # written when every name was one group, and ZeRO-1 had another optimizer for bf16
            fits = own["groups"] == self._plain and own["optimizer"] != deepspeed_private.BF16_OPTIMIZER
        if not fits:
            raise InputError(
                str(folder),
                "its optimizer has other parameter groups: since it was written, weight decay leaves out norms, biases "
                "and positions, and gradients add up in float32",
                "Start a new run with another `run:`, or finish this one with the version that started it.",
            )

    def load(self, folder: Path) -> None:
        """Resume from a checkpoint of the same number of workers. A collective call.

        Raises
        ------
        InputError
            When its optimizer has other parameter groups, as those of earlier versions may, or is another one.
        """
        self._require_layout(folder)
        self._load(folder)

    def _load(self, folder: Path) -> None:
        with deepspeed_private.without_memory_reports():
            path, _ = self._engine.load_checkpoint(str(folder), tag=_TAG, load_module_strict=False)
        if path is None:
            raise RuntimeError(f"{folder}: DeepSpeed found no checkpoint in a folder marked complete")

    def load_resharded(self, folder: Path, *, converts: bool) -> None:
        """Resume from a checkpoint of another number of workers. A collective call.

        Parameters
        ----------
        folder : Path
            Complete checkpoint.
        converts : bool
            Whether this rank is the one of those that see the folder which converts it.

        Raises
        ------
        InputError
            When the run does not use ZeRO-3, or the checkpoint has other parameter groups or another optimizer.
        RuntimeError
            When DeepSpeed cannot convert it.
        """
        if self._config.zero_stage != 3:
            raise InputError(
                str(folder),
                f"was written by another number of workers, and train.zero_stage is {self._config.zero_stage}",
                "Resume with as many workers as wrote it; runs with train.zero_stage=3 resume with any number.",
            )
        self._require_layout(folder)
        settings = group_settings(self._engine)
        with (
            universal_form(folder, _TAG, self._world, converts=converts) as converted,
            deepspeed_private.universal_loading(self._engine),
        ):
            self._load(converted)
        repair_groups(self._engine, settings)

    def gathered_state(self) -> dict[str, Tensor]:
        """Whole trainable tensors on rank 0's CPU, by name, as the model holds them; nothing elsewhere.

        A collective call, which gathers one tensor at a time.

        Raises
        ------
        RuntimeError
            When a gathered tensor is empty.
        """
        import deepspeed

        parameters, state = dict(self.model.named_parameters()), dict[str, Tensor]()
        for name in self._trainable_names:
            parameter = parameters[name]
            whole = (
                deepspeed.zero.GatheredParameters([parameter], modifier_rank=None)
                if self._config.zero_stage == 3
                else contextlib.nullcontext()
            )
            with whole:
                if parameter.numel() == 0:
                    raise RuntimeError(f"empty tensor after gathering: {name}")
                if self._world.is_first:
                    state[name] = parameter.detach().cpu().clone()
        return state
