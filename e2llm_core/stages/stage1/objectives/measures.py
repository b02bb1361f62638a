"""Regression of a window's measures, as they deviate from their reference."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from e2llm_core.stages.stage1.objectives.base import Encoded, Fitted, Objective, ReadWindows, squared_errors
from e2llm_core.tower.tower import EEGTower


class Measures(Objective):
    """Mean squared error of the standardised measures."""

    name, head_name = "measures", "measure_head"

    def __init__(self, fitted: Fitted) -> None:
        super().__init__(fitted)
        self._scaler = fitted.scaler

    def head(self, tower: EEGTower) -> nn.Module:
        """Map the summary to a number for each quantity."""
        return nn.Linear(tower.dim, len(self.fitted.measured.measures.quantities))

    def predict(self, head: nn.Module, seen: Encoded) -> Tensor:
        """Standardised deviations (B, quantities)."""
        deviations: Tensor = head(seen.summary_BE)
        return deviations

    def targets(self, windows: ReadWindows) -> dict[str, np.ndarray]:
        """Standardised deviations, which no augmentation changes."""
        return {"measures": self._scaler.standardise(self.fitted.measured(windows.ids))}

    def loss(self, prediction: Tensor, given: dict[str, Any]) -> Tensor:
        """Mean over the quantities."""
        return squared_errors(prediction, given["measures"])
