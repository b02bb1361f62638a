"""What a frozen tower's features carry besides the label: the subject, the session, the position in the session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from e2llm_core.evaluation.predictions import prediction_rows
from e2llm_core.evaluation.references.classifiers import logistic_regression
from e2llm_core.evaluation.references.windows import batches_of
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.probe import load_probe
from e2llm_core.tasks.items import Items

MOST_WINDOWS = 2_000
"""Largest number of training windows, evenly spread, whose features are decoded."""
FOLDS = 5
COST = 0.01
_QUARTERS = ("first quarter", "second quarter", "third quarter", "fourth quarter")


def tower_features(data: EEGData, folder: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Numbers of the chosen training windows, and their summary tokens (windows, dim) from a model's tower."""
    source = data.windows(data.split.train)
    numbers = np.unique(np.linspace(0, len(source) - 1, min(len(source), MOST_WINDOWS)).astype(np.int64))
    tower = load_probe(folder)[0].eval()
    with torch.no_grad():
        tokens = [tower(torch.from_numpy(source.read(numbers[part])))[:, 0] for part in batches_of(numbers)]
    return numbers, torch.cat(tokens).float().numpy()


def classes_of(trials: pd.DataFrame, windows: pd.DataFrame, what: str) -> NDArray[np.object_]:
    """Class of each window to decode: its subject, its session, or the quarter of the session that its trial lies in.

    Parameters
    ----------
    trials
        All trials of the store, with the columns subject, session and position.
    windows
        The same columns, one row per window.
    what
        What is decoded: ``subject``, ``session`` or ``position``.
    """
    if what != "position":
        return windows[what].astype(str).to_numpy(object)
    places = trials.drop_duplicates(["subject", "session", "position"])
    rank = places.groupby(["subject", "session"])["position"].rank(method="first") - 1
    size = places.groupby(["subject", "session"])["position"].transform("size")
    quarter = places.assign(quarter=(4 * rank / size).astype(int))[["subject", "session", "position", "quarter"]]
    found = windows.merge(quarter, on=["subject", "session", "position"], how="left")["quarter"].to_numpy()
    return np.array(_QUARTERS, dtype=object)[found]


def decoded_predictions(
    data: EEGData,
    numbers: NDArray[np.int64],
    features: NDArray[np.float32],
    what: str,
    *,
    task: str,
    model: str,
    condition: str,
    seed: int,
) -> pd.DataFrame:
    """Answers of a logistic regression on a tower's features, each from a fit that has not seen the window's group.

    When the subject is decoded, a group is a trial. Otherwise it is a subject, since the question is whether features
    of a new person reveal the session; with a single training subject, it is a trial as well.

    Parameters
    ----------
    data
        Store, windows and split.
    numbers, features
        Window numbers and features, as `tower_features` returns them.
    what
        What is decoded: ``subject``, ``session`` or ``position``.
    task, model, condition, seed
        Same as for `prediction_rows`; the seed also assigns the groups to folds.
    """
    source = data.windows(data.split.train)
    windows = source.describe(numbers)
    truth = classes_of(data.store.trials, windows, what)
    by_trial = what == "subject" or windows["subject"].nunique() < 2
    groups = windows.groupby(["subject", "session", "trial"] if by_trial else ["subject"]).ngroup().to_numpy()
    answers = np.empty(len(truth), dtype=object)
    folds = GroupKFold(min(FOLDS, len(np.unique(groups))), shuffle=True, random_state=seed)
    for train, test in folds.split(features, groups=groups):
        answers[test] = _fitted_answers(features[train], truth[train], features[test], seed)
    return prediction_rows(
        Items.of(source, numbers[:, None], truth).table,
        task=task,
        model=model,
        condition=condition,
        labels=[name for name in _QUARTERS if name in truth] if what == "position" else sorted(set(truth)),
        answers=answers,
        seed=seed,
    )


def _fitted_answers(
    train: NDArray[np.float32], truth: NDArray[np.object_], test: NDArray[np.float32], seed: int
) -> NDArray[np.object_]:
    names = truth.astype(str)
    if len(np.unique(names)) < 2:
        return np.full(len(test), names[0], dtype=object)
    pipeline = make_pipeline(StandardScaler(), logistic_regression(COST, seed)).fit(train, names)
    return np.asarray(pipeline.predict(test), dtype=object)
