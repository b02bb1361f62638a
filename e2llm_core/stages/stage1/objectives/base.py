"""What an objective of stage 1 is: a head, targets, a loss, and metrics.

Shape suffixes: B windows, C channels, T samples, N time patches, S summary tokens, D encoder dimension, E temporal
dimension.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from e2llm_core.claims.measures import QuantityScaler
from e2llm_core.encoders.config import TowerConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.stage1.augmentation import Seeds, augmented
from e2llm_core.stages.stage1.objectives.config import Stage1Losses
from e2llm_core.tower.tower import EEGTower
from e2llm_core.training.stage import Batch
from storage.splits import Side
from storage.windows import Windows


class Fitted:
    """Training data of stage 1: the windows of one side, their measures, and the settings of the spec.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    side : Side
        The side of the split that is fitted.
    tower : TowerConfig
        Settings of the tower to train.
    losses : Stage1Losses
        Settings of the objectives.
    """

    def __init__(self, data: EEGData, side: Side, tower: TowerConfig, losses: Stage1Losses) -> None:
        self.data, self.tower, self.losses = data, tower, losses
        self.windows = data.windows(side)
        self.measured = data.measured_windows(side)

    @cached_property
    def scaler(self) -> QuantityScaler:
        """Spread of the measures. The later stages' sentences need it, whether or not an objective uses it."""
        return self.measured.scaler()


class ReadWindows:
    """The windows of a micro-batch, read and augmented when they are first asked for.

    Parameters
    ----------
    fitted : Fitted
        The windows that they are some of.
    ids : np.ndarray
        Window numbers (B,).
    seeds : sequence or None
        One seed per window for its augmentation; None for none.
    """

    def __init__(self, fitted: Fitted, ids: np.ndarray, seeds: Seeds | None) -> None:
        self._fitted, self.ids, self.seeds = fitted, ids, seeds

    @cached_property
    def eeg(self) -> np.ndarray:
        """The signals as the model is shown them: float32 (B, C, T)."""
        return augmented(self._fitted.windows.read(self.ids), self.seeds)

    @cached_property
    def measured(self) -> np.ndarray:
        """The signals as the measures need them, under the same augmentation: float32 (B, C, T)."""
        measured = self._fitted.measured.windows
        if self._fitted.windows.config == measured.config:
            return self.eeg
        return augmented(measured.read(self.ids), self.seeds)


@dataclass(frozen=True)
class Encoded:
    """Inputs of the heads for a micro-batch.

    Attributes
    ----------
    tower
        The tower, for objectives that pass something else through it.
    eeg_BCT
        The signals.
    encoded_BNSD
        The encoder's tokens.
    summary_BE
        The temporal transformer's CLS token.
    given
        The targets that the objectives name in `inputs`; empty in validation.
    """

    tower: EEGTower
    eeg_BCT: Tensor
    encoded_BNSD: Tensor
    summary_BE: Tensor
    given: dict[str, Tensor]


class Objective(ABC):
    """One of the losses that stage 1 minimises, in a weighted sum.

    Parameters
    ----------
    fitted : Fitted
        What is fitted; targets may be scaled by a sample of it, the same on every rank.
    """

    name: str
    """Name of its loss in the metrics."""
    head_name: str
    """Name of its head in the model's state dict."""
    inputs: tuple[str, ...] = ()
    """Targets that its forward pass needs, for example which patches are masked."""
    width: int = 0
    """Numbers per window that validation gathers of its predictions for `metrics`; 0 for none."""
    compares: bool = False
    """Whether its loss compares windows of all micro-batches of a step: then `over_step` is called before."""

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted

    @abstractmethod
    def head(self, tower: EEGTower) -> nn.Module:
        """Build the module that predicts from the tower's output."""

    @abstractmethod
    def predict(self, head: nn.Module, seen: Encoded) -> Tensor:
        """Predict (B, ...)."""

    def targets(self, windows: ReadWindows) -> dict[str, np.ndarray]:
        """Arrays (B, ...) that `loss` needs, by names of their own; a function of the windows alone."""
        return {}

    def over_step(self, predictions: list[Tensor], batches: list[Batch]) -> list[Batch]:
        """Add to each micro-batch what the loss needs from the whole step. A collective call.

        Parameters
        ----------
        predictions : list of Tensor
            Predictions for each micro-batch, without gradients.
        batches : list of Batch
            The micro-batches, several.
        """
        return batches

    @abstractmethod
    def loss(self, prediction: Tensor, given: dict[str, Any]) -> Tensor:
        """Unweighted loss of each window (B,).

        Parameters
        ----------
        prediction : Tensor
            Return value of `predict`.
        given : dict
            The micro-batch: targets, ``labels`` and ``weights``.
        """

    def metrics(self, predictions: np.ndarray, windows: Windows) -> dict[str, float]:
        """Metrics of one side of the split: predictions (windows, `width`) of all of its windows."""
        return {}


def squared_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each window (B,)."""
    return F.mse_loss(prediction, target, reduction="none").flatten(1).mean(dim=1)
