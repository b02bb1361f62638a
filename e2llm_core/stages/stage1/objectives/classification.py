"""Emotion classification from the summary of a window. Its head is exported as the stage's probe."""

from typing import Any

import numpy as np
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from e2llm_core.stages.stage1.objectives.base import Encoded, Fitted, Objective, ReadWindows
from e2llm_core.tower.tower import EEGTower
from storage.windows import Windows


class Classification(Objective):
    """Cross-entropy with label smoothing."""

    name, head_name = "classification", "label_head"

    def __init__(self, fitted: Fitted) -> None:
        super().__init__(fitted)
        self.width = len(fitted.data.labels)
        self._labels = fitted.windows.trials["label_id"].to_numpy()

    def head(self, tower: EEGTower) -> nn.Module:
        """Map the summary to a logit for each label."""
        return nn.Linear(tower.dim, self.width)

    def predict(self, head: nn.Module, seen: Encoded) -> Tensor:
        """Label logits (B, labels)."""
        logits: Tensor = head(seen.summary_BE)
        return logits

    def targets(self, windows: ReadWindows) -> dict[str, np.ndarray]:
        """Label ids."""
        return {"labels": self._labels[self.fitted.windows.locate(windows.ids)[0]]}

    def loss(self, prediction: Tensor, given: dict[str, Any]) -> Tensor:
        """Cross-entropy of each window."""
        smoothing = self.fitted.losses.label_smoothing
        return F.cross_entropy(prediction, given["labels"], reduction="none", label_smoothing=smoothing)

    def metrics(self, predictions: np.ndarray, windows: Windows) -> dict[str, float]:
        """Balanced accuracy of the most likely label."""
        truth = windows.table["label_id"].to_numpy()
        return {"balanced_accuracy": float(balanced_accuracy_score(truth, predictions.argmax(axis=1)))}
