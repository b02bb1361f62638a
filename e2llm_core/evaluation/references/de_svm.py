"""The classical baseline: differential entropy of five bands and a linear support vector machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from e2llm_core.evaluation.predictions import most_probable, prediction_rows
from e2llm_core.evaluation.scores import balanced_accuracy
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.pairs import DIFFERENT, SAME

COST_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Costs C that validation chooses from."""

MODEL_NAME = "de_svm"

Sides = Mapping[str, NDArray[np.bool_]]


def checked_sides(sides: Sides) -> dict[str, NDArray[np.bool_]]:
    """Check the rows of each side of a split.

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
    """A fitted pipeline of z-scores and a linear SVM.

    Attributes
    ----------
    pipeline
        Fitted on training rows only.
    labels
        The label set, in the order of the scores.
    cost
        The C that did best on validation rows.
    validation_score
        Balanced accuracy there.
    """

    pipeline: Pipeline
    labels: tuple[str, ...]
    cost: float
    validation_score: float

    def scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Softmax of the decision values, shape (n, n_labels): ordered like them, not calibrated."""
        decisions = np.asarray(self.pipeline.decision_function(features), dtype=np.float64)
        if decisions.ndim == 1:
            decisions = np.stack([-decisions, decisions], axis=1)
        ordered = np.full((len(decisions), len(self.labels)), -np.inf)
        ordered[:, [self.labels.index(name) for name in self.pipeline.classes_]] = decisions
        exponents = np.exp(ordered - ordered.max(axis=1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), dtype=np.float64)

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.object_]:
        """Label with the highest score per row."""
        return np.array(self.labels, dtype=object)[self.scores(features).argmax(axis=1)]


def fit_linear(
    features: NDArray[np.floating],
    truth: Sequence[str] | NDArray[np.object_],
    sides: Sides,
    labels: Sequence[str],
    *,
    grid: Sequence[float] = COST_GRID,
    seed: int = 0,
) -> LinearClassifier:
    """Fit on the training rows with each cost, and keep the one that is best on the validation rows.

    Ties go to the smaller cost. Classes are weighted by their inverse frequency, as balanced accuracy is the
    aim. Raises ValueError as `checked_sides` does.
    """
    sides = checked_sides(sides)
    names = np.asarray(truth, dtype=object).astype(str)
    best: LinearClassifier | None = None
    for cost in sorted(grid):
        pipeline = make_pipeline(
            StandardScaler(),
            LinearSVC(C=cost, class_weight="balanced", dual="auto", max_iter=20_000, random_state=seed),
        )
        pipeline.fit(features[sides["train"]], names[sides["train"]])
        fitted = LinearClassifier(pipeline, tuple(labels), float(cost), 0.0)
        answers = fitted.predict(features[sides["validation"]])
        score = balanced_accuracy(names[sides["validation"]].tolist(), answers.tolist(), labels)
        if best is None or score > best.validation_score:
            best = LinearClassifier(pipeline, tuple(labels), float(cost), score)
    if best is None:
        raise ValueError("the grid of costs is empty")
    return best


def classified_windows(
    items: pd.DataFrame, features: NDArray[np.floating], classifier: LinearClassifier, *, task: str, seed: int = 0
) -> pd.DataFrame:
    """Predict the label of the one window that each item shows.

    Parameters
    ----------
    items
        One row per item, with the columns that `predictions.prediction_rows` asks for.
    features
        Adapted features, shape (n_items, d).
    classifier
        Fitted to single windows.
    task
        Whose items they are.
    seed
        Seed of the solver.
    """
    return most_probable(
        items, classifier.scores(features), task=task, model=MODEL_NAME, labels=classifier.labels, seed=seed
    )


def baseline_pairs(
    pairs: pd.DataFrame,
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    sides: Sides,
    window_classifier: LinearClassifier,
    *,
    task: str,
    seed: int = 0,
) -> tuple[pd.DataFrame, str]:
    """Compare the pairs of the test side, by the better of two rules on the validation side.

    Parameters
    ----------
    pairs
        One row per pair, with the columns that `predictions.prediction_rows` asks for.
    first, second
        Adapted features of the two segments, shape (n_pairs, d).
    sides
        Rows of ``train``, ``validation`` and ``test``, as masks.
    window_classifier
        Fitted to single windows of the same split.
    task
        Whose items they are.
    seed
        Seed of the solver.

    Returns
    -------
    rows
        Predictions of the test pairs.
    rule
        ``"difference"`` (an SVM on the absolute difference of the features) or ``"predicted-class"``
        (whether the emotions predicted for the two segments agree).
    """
    sides = checked_sides(sides)
    labels = (SAME, DIFFERENT)
    distance = np.abs(first - second)
    by_difference = fit_linear(distance, pairs["label"].to_numpy(dtype=object), sides, labels, seed=seed)
    checked, tested = sides["validation"], sides["test"]
    agree = window_classifier.predict(first) == window_classifier.predict(second)
    by_class = np.where(agree, SAME, DIFFERENT).astype(object)
    truth = pairs["label"].astype(str).to_numpy(dtype=object)
    class_score = balanced_accuracy(truth[checked].tolist(), by_class[checked].tolist(), labels)
    if class_score > by_difference.validation_score:
        rule, answers = "predicted-class", by_class[tested]
        agreement = (window_classifier.scores(first[tested]) * window_classifier.scores(second[tested])).sum(axis=1)
        same = 0.5 * agreement + 0.5 * agree[tested]
        probabilities = np.stack([same, 1 - same], axis=1)
    else:
        rule, answers = "difference", by_difference.predict(distance[tested])
        probabilities = by_difference.scores(distance[tested])
    rows = prediction_rows(
        pairs[tested],
        task=task,
        model=MODEL_NAME,
        condition=EEG,
        labels=labels,
        answers=answers,
        probabilities=probabilities,
        seed=seed,
    )
    return rows, rule
