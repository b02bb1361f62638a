"""Compare two windows with a classifier of single windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.predictions import prediction_rows
from e2llm_core.evaluation.references.classifiers import MakeClassifier, Sides, checked_sides, fit_linear
from e2llm_core.evaluation.scores import balanced_accuracy
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.pairs import DIFFERENT, SAME

LABELS = (SAME, DIFFERENT)


@dataclass(frozen=True)
class ShownPairs:
    """Class probabilities and features of the two windows of each pair.

    Attributes
    ----------
    probabilities : np.ndarray
        Class probabilities (n_pairs, 2, n_labels) from a classifier of single windows.
    features : np.ndarray or None
        Adapted features (n_pairs, 2, d); None if the classifier has none.
    """

    probabilities: NDArray[np.floating]
    features: NDArray[np.floating] | None = None


def compared_pairs(
    pairs: pd.DataFrame,
    shown: ShownPairs,
    sides: Sides,
    *,
    task: str,
    model: str,
    make: MakeClassifier,
    seed: int = 0,
) -> tuple[pd.DataFrame, str]:
    """Compare the pairs of the test side by the rule that is better on the validation side, out of two.

    Parameters
    ----------
    pairs
        One row per pair, with the columns that `predictions.prediction_rows` requires.
    shown
        Probabilities and features of the pairs, in the same order.
    sides
        Rows of ``train``, ``validation`` and ``test``, as masks.
    task, model
        Task of the items, and name of the model that answers.
    make
        Makes the classifier of the difference of the features.
    seed
        Seed of the solver.

    Returns
    -------
    rows
        Predictions of the test pairs.
    rule
        ``"difference"`` (a classifier of the absolute difference of the features) or ``"predicted-class"``
        (whether the labels predicted for the two windows agree), which is the only rule without features.
    """
    sides = checked_sides(sides)
    checked, tested = sides["validation"], sides["test"]
    first, second = shown.probabilities[:, 0], shown.probabilities[:, 1]
    agree = first.argmax(axis=1) == second.argmax(axis=1)
    by_class = np.where(agree, SAME, DIFFERENT).astype(object)
    truth = pairs["label"].astype(str).to_numpy(dtype=object)
    agreement = (first[tested] * second[tested]).sum(axis=1)
    same = 0.5 * agreement + 0.5 * agree[tested]
    rule, answers, probabilities = "predicted-class", by_class[tested], np.stack([same, 1 - same], axis=1)
    if shown.features is not None:
        distance = np.abs(shown.features[:, 0] - shown.features[:, 1])
        by_difference = fit_linear(distance, truth, sides, LABELS, make=make, seed=seed)
        class_score = balanced_accuracy(truth[checked].tolist(), by_class[checked].tolist(), LABELS)
        if class_score <= by_difference.validation_score:
            rule, answers = "difference", by_difference.predict(distance[tested])
            probabilities = by_difference.scores(distance[tested])
    rows = prediction_rows(
        pairs[tested],
        task=task,
        model=model,
        condition=EEG,
        labels=LABELS,
        answers=answers,
        probabilities=probabilities,
        seed=seed,
    )
    return rows, rule
