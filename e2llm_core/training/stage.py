"""What a stage is to the trainer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.world import World
from storage.sampling.order import Order, SampleOrder


@dataclass(frozen=True)
class ParameterGroup:
    """Trainable parameters with a learning rate of their own."""

    name: str
    parameters: list[nn.Parameter]


@dataclass(frozen=True)
class Batch:
    """Tensors of one micro-batch and the number of units (samples or supervised tokens) its losses sum over."""

    tensors: dict[str, Any]
    units: float

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`."""
        moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in self.tensors.items()}
        return Batch(moved, self.units)

    def pinned(self) -> "Batch":
        """The same batch in page-locked memory, from where a GPU fetches it by itself."""
        locked = {k: v.pin_memory() if isinstance(v, Tensor) else v for k, v in self.tensors.items()}
        return Batch(locked, self.units)


@dataclass(frozen=True)
class Losses:
    """Sums over a micro-batch's units: `total` is differentiated, `parts` are reported."""

    total: Tensor
    parts: dict[str, Tensor]


class Stage(ABC):
    """One entry of the table of stages: its model, its samples, its loss, and what it hands on."""

    name: str

    @property
    @abstractmethod
    def size(self) -> int:
        """Samples per epoch."""

    def order(self, seed: int) -> Order:
        """Which samples come when: a fresh permutation of all of them every epoch."""
        return SampleOrder(self.size, seed)

    @abstractmethod
    def build(self) -> tuple[nn.Module, list[ParameterGroup]]:
        """Make the model and say what trains. Called once, inside the ZeRO-3 context."""

    @abstractmethod
    def prepare(self, micro: MicroBatch) -> Batch:
        """Read and assemble one micro-batch; a function of its ids and positions alone."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Forward pass and loss sums; `model` is called exactly once."""

    @abstractmethod
    def validate(self, model: nn.Module, world: World) -> dict[str, float]:
        """Metrics on validation subjects; a collective call. `score` in it selects the best weights (higher)."""

    @abstractmethod
    def hand_on(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write the model directory from gathered trainable and frozen-but-own tensors; rank 0 only."""
