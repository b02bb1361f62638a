"""What a stage is to the trainer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.sharding import MicroBatch, shard
from e2llm_core.training.world import World
from storage.sampling.order import Order, SampleOrder


@dataclass(frozen=True)
class ParameterGroup:
    """Trainable parameters with a learning rate of their own."""

    name: str
    parameters: list[nn.Parameter]


@dataclass(frozen=True)
class Batch:
    """One micro-batch.

    Parameters
    ----------
    tensors : dict
        The model's inputs and targets.
    num_targets : float
        What its losses sum over: samples, or weighted supervised tokens. Fillers count 0.
    samples, tokens : int
        Numbers of samples and tokens without fillers, for the metrics.
    """

    tensors: dict[str, Any]
    num_targets: float
    samples: int = 0
    tokens: int = 0

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`."""
        moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in self.tensors.items()}
        return replace(self, tensors=moved)

    def pinned(self) -> "Batch":
        """The same batch in page-locked memory, for asynchronous copies to a GPU."""
        locked = {k: v.pin_memory() if isinstance(v, Tensor) else v for k, v in self.tensors.items()}
        return replace(self, tensors=locked)


@dataclass(frozen=True)
class LossTerm:
    """A reported loss of one micro-batch: its sum and its divisor."""

    total: Tensor
    num_targets: float


@dataclass(frozen=True)
class Losses:
    """What a micro-batch gives: `total`, a sum over its targets, is differentiated; `parts` are reported.

    Every micro-batch of every rank names the same parts, those without targets too.
    """

    total: Tensor
    parts: dict[str, LossTerm]


class Stage(ABC):
    """One entry of the table of stages: its model, samples, loss and export."""

    name: str
    choices: Mapping[str, str] = MappingProxyType({})
    """Automatic choices of `build`, for the run's records."""
    generates: bool = False
    """Whether `rollout` makes the samples of a step."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Samples per epoch."""

    def order(self, seed: int) -> Order:
        """Which samples come when: a fresh permutation of all of them every epoch."""
        return SampleOrder(self.size, seed)

    @abstractmethod
    def build(self) -> tuple[nn.Module, list[ParameterGroup]]:
        """Build the model and its parameter groups. Called once, inside the ZeRO-3 context."""

    def batches(self, ids: np.ndarray, first_position: int, config: TrainConfig, world: World) -> list[Batch]:
        """Make a rank's micro-batches of one global batch: equally many on every rank. May be a collective call.

        Parameters
        ----------
        ids : np.ndarray
            (global_batch,) samples of the step.
        first_position : int
            Place of ``ids[0]`` in the global order of training.
        config : TrainConfig
            Training settings; `micro_batch` and `micro_tokens` bound a forward pass.
        world : World
            This rank's place.
        """
        return [self.prepare(micro) for micro in shard(ids, first_position, config.micro_batch, world)]

    @abstractmethod
    def prepare(self, micro: MicroBatch) -> Batch:
        """Read and assemble some samples as one micro-batch; a function of their ids and positions alone."""

    def flops(self, batch: Batch) -> float | None:
        """Model FLOPs of the forward and backward pass of a micro-batch, fillers not counted; None if unknown."""
        return None

    def rollout(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """Generate a step's samples with the model as it is. A collective call, made only where `generates` is set.

        It runs without gradients, and before the step's targets, samples and tokens are counted. For a run to go on
        bit for bit after an interruption, what is drawn must follow from the samples' ids and positions alone, which
        `batches` was given.

        Parameters
        ----------
        model : nn.Module
            In evaluation mode.
        batches : list of Batch
            This rank's batches of the step, from `batches`, on the device.

        Returns
        -------
        list of Batch
            Equally many on every rank.
        """
        return batches

    def gradient_cache(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """Add to each micro-batch of a step what its loss needs from the others. A collective call."""
        return batches

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Forward pass and loss sums; `model` is called exactly once."""

    @abstractmethod
    def validate(self, model: nn.Module, world: World) -> dict[str, float]:
        """Metrics on validation subjects; a collective call. `score` in it selects the best weights (higher)."""

    def calibrate(self, model: nn.Module, world: World) -> None:  # noqa: B027
        """Fit on validation subjects what `export` writes beside the weights. A collective call, after the last step.

        It runs without gradients; the model holds the weights that are exported.
        """

    @abstractmethod
    def export(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write the model directory from gathered trainable and frozen-but-own tensors; rank 0 only."""
