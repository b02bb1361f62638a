"""Baselines that consist of window features and a linear classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2llm_core.evaluation.references.baselines.base import Baseline, Fitted
from e2llm_core.evaluation.references.classifiers import LinearClassifier, MakeClassifier, fit_linear
from e2llm_core.evaluation.references.features.base import Features
from e2llm_core.evaluation.references.windows import BaselineWindows


class FittedLinear(Fitted):
    """A fitted linear classifier of one kind of features."""

    def __init__(
        self,
        name: str,
        windows: BaselineWindows,
        features: NDArray[np.float32],
        classifier: LinearClassifier,
        make: MakeClassifier,
    ) -> None:
        super().__init__(name, windows)
        self._features, self.classifier, self.make = features, classifier, make

    def features(self, side: str) -> NDArray[np.float32]:
        """Adapted features (windows, d) of a side."""
        features: NDArray[np.float32] = self._features[np.flatnonzero(self.windows.masks[side])]
        return features

    def probabilities(self, side: str) -> NDArray[np.floating]:
        """Scores (windows, labels) of a side."""
        return self.classifier.scores(self.features(side))


@dataclass(frozen=True)
class LinearBaseline(Baseline):
    """Window features and a linear classifier, whose cost is chosen on the validation side.

    Attributes
    ----------
    kind : Features
        Kind of features to measure.
    make : callable
        From a cost and a seed to the classifier.
    """

    kind: Features
    make: MakeClassifier

    def check(self, n_chans: int, n_times: int, sfreq_hz: float) -> None:
        """Refuse windows that its features cannot be measured in."""
        self.kind.measure(np.zeros((1, n_chans, n_times), dtype=np.float32), sfreq_hz)

    def fit(self, name: str, windows: BaselineWindows, truth: NDArray[np.object_]) -> FittedLinear:
        """Fit with each cost of `classifiers.COST_GRID`, and keep the best on the validation rows."""
        features = windows.features(self.kind)
        classifier = fit_linear(features, truth, windows.masks, windows.labels, make=self.make, seed=windows.seed)
        return FittedLinear(name, windows, features, classifier, self.make)
