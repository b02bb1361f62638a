"""Linear classifiers of window features, whose cost is chosen by validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from e2llm_core.evaluation.scores import balanced_accuracy

COST_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Costs C that validation chooses from."""

Sides = Mapping[str, NDArray[np.bool_]]

MakeClassifier = Callable[[float, int], Any]
"""From a cost and a seed to a scikit-learn estimator."""


def linear_svm(cost: float, seed: int) -> LinearSVC:
    """Linear support vector machine; classes are weighted by their inverse frequency."""
    return LinearSVC(C=cost, class_weight="balanced", dual="auto", max_iter=20_000, random_state=seed)


def logistic_regression(cost: float, seed: int) -> LogisticRegression:
    """Multinomial logistic regression; classes are weighted by their inverse frequency."""
    return LogisticRegression(C=cost, class_weight="balanced", max_iter=2_000, tol=1e-3, random_state=seed)


def checked_sides(sides: Sides) -> dict[str, NDArray[np.bool_]]:
    """Check and return the rows of each side of a split.

    Parameters
    ----------
    sides
        Masks (n,) of the rows of ``train``, ``validation`` and ``test``.

    Raises
    ------
    ValueError
        If a side is missing or has no rows, or two sides share a row.
    """
    names = ("train", "validation", "test")
    missing = [name for name in names if name not in sides]
    if missing:
        raise ValueError(f"the split lacks the sides {missing}")
    masks = {name: np.asarray(sides[name], dtype=bool) for name in names}
    if (np.sum(list(masks.values()), axis=0) > 1).any():
        raise ValueError("rows on two sides of the split")
    empty = [name for name, rows in masks.items() if not rows.any()]
    if empty:
        raise ValueError(f"no rows on the sides {empty} of the split")
    return masks


@dataclass(frozen=True)
class LinearClassifier:
    """A fitted pipeline of z-scores and a linear classifier.

    Attributes
    ----------
    pipeline
        Fitted on training rows only.
    labels
        The label set, in the order of the scores.
    cost
        The C that did best on validation rows.
    validation_score
        Balanced accuracy on the validation rows.
    """

    pipeline: Pipeline
    labels: tuple[str, ...]
    cost: float
    validation_score: float

    def scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities, shape (n, n_labels); 0 for a label without training rows.

        For a classifier without probabilities, the softmax of its decision values, which is not calibrated.
        """
        columns = [self.labels.index(name) for name in self.pipeline.classes_]
        if hasattr(self.pipeline, "predict_proba"):
            placed = np.zeros((len(features), len(self.labels)))
            placed[:, columns] = self.pipeline.predict_proba(features)
            return placed
        decisions = np.asarray(self.pipeline.decision_function(features), dtype=np.float64)
        if decisions.ndim == 1:
            decisions = np.stack([-decisions, decisions], axis=1)
        ordered = np.full((len(decisions), len(self.labels)), -np.inf)
        ordered[:, columns] = decisions
        exponents = np.exp(ordered - ordered.max(axis=1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), dtype=np.float64)

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.object_]:
        """Label with the highest score for each row."""
        return np.array(self.labels, dtype=object)[self.scores(features).argmax(axis=1)]


def fit_linear(
    features: NDArray[np.floating],
    truth: Sequence[str] | NDArray[np.object_],
    sides: Sides,
    labels: Sequence[str],
    *,
    make: MakeClassifier = linear_svm,
    grid: Sequence[float] = COST_GRID,
    seed: int = 0,
) -> LinearClassifier:
    """Fit on the training rows with each cost, and keep the one that is best on the validation rows.

    Ties go to the smaller cost. Raises ValueError as `checked_sides` does, and if the grid is empty.
    """
    sides = checked_sides(sides)
    names = np.asarray(truth, dtype=object).astype(str)
    best: LinearClassifier | None = None
    for cost in sorted(grid):
        pipeline = make_pipeline(StandardScaler(), make(cost, seed))
        pipeline.fit(features[sides["train"]], names[sides["train"]])
        fitted = LinearClassifier(pipeline, tuple(labels), float(cost), 0.0)
        answers = fitted.predict(features[sides["validation"]])
        score = balanced_accuracy(names[sides["validation"]].tolist(), answers.tolist(), labels)
        if best is None or score > best.validation_score:
            best = LinearClassifier(pipeline, tuple(labels), float(cost), score)
    if best is None:
        raise ValueError("the grid of costs is empty")
    return best
