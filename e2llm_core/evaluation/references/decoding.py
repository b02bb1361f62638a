"""What a frozen tower's features tell besides the label: the subject, the session, the position in it."""

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
"""Windows of the training side, evenly spread, that the features are taken of."""
FOLDS = 5
COST = 0.01
_QUARTERS = ("first quarter", "second quarter", "third quarter", "fourth quarter")


def tower_features(data: EEGData, folder: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Numbers of the training windows that are looked at, and the summary tokens (windows, dim) of a model's tower."""
    source = data.windows(data.split.train)
    numbers = np.unique(np.linspace(0, len(source) - 1, min(len(source), MOST_WINDOWS)).astype(np.int64))
    tower = load_probe(folder)[0].eval()
    with torch.no_grad():
        tokens = [tower(torch.from_numpy(source.read(numbers[part])))[:, 0] for part in batches_of(numbers)]
    return numbers, torch.cat(tokens).float().numpy()


def classes_of(trials: pd.DataFrame, windows: pd.DataFrame, what: str) -> NDArray[np.object_]:
    """What is decoded of each window: its subject, its session, or the quarter of the session that its trial lies in.

    Parameters
    ----------
    trials
        All trials of the store: subject, session, position.
    windows
        The same columns, one row per window.
    what
        ``subject``, ``session`` or ``position``.
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
    """Answers of a logistic regression on a tower's features, each by a fit that has not seen the window's group.

    A group is a trial where the subject is asked for, and a subject elsewhere: what is asked is whether the features of
    somebody new tell the session. Where there is one training subject, it is a trial as well.

    Parameters
    ----------
    data
        Store, windows and split.
    numbers, features
        As `tower_features` gives them.
    what
        ``subject``, ``session`` or ``position``.
    task, model, condition, seed
        As `prediction_rows` takes them; the seed also deals the groups into folds.
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
