"""A baseline on permuted labels, and its expected scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.references.baselines.de_svm import BASELINE
from e2llm_core.evaluation.references.windows import BaselineWindows
from e2llm_core.evaluation.scores import confusion_counts, scores_from_counts
from e2llm_core.tasks.items import Items

NUM_ORDERS = 1000
"""Number of label orders that are averaged over if no closed form gives the mean."""


def permuted_labels(windows: pd.DataFrame, rows: NDArray[np.bool_], seed: int) -> NDArray[np.object_]:
    """Labels of all windows; those of the chosen rows are permuted among the trials of each subject and session.

    All windows of a trial still share one label. Each session keeps its labels, and nothing else about them remains.

    Parameters
    ----------
    windows
        One row per window, with the columns subject, session, trial and label.
    rows
        Mask of the windows whose trials take part.
    seed
        Seed of the permutation.
    """
    permuted = windows["label"].to_numpy(object, copy=True)
    part = windows[rows]
    trial = part.groupby(["subject", "session", "trial"], sort=True).ngroup().to_numpy()
    _, first = np.unique(trial, return_index=True)
    session = part.groupby(["subject", "session"], sort=True).ngroup().to_numpy()[first]
    labels = part["label"].to_numpy(object)[first]
    rng = np.random.default_rng(seed)
    for number in np.unique(session):
        own = np.flatnonzero(session == number)
        labels[own] = labels[rng.permutation(own)]
    permuted[rows] = labels[trial]
    return permuted


def permuted_predictions(windows: BaselineWindows, task: str, name: str, items: Items) -> pd.DataFrame:
    """Label single windows by differential entropy and a linear SVM, fitted and chosen on permuted labels."""
    truth = windows.truth
    for number, side in enumerate(("train", "validation")):
        rows = windows.masks[side]
        seed = int(np.random.SeedSequence([windows.seed, number]).generate_state(1)[0])
        truth[rows] = permuted_labels(windows.table, rows, seed)[rows]
    return BASELINE.fit(name, windows, truth).label(task, items).assign(condition=name)


def expected_within_sessions(rows: pd.DataFrame) -> dict[str, float]:
    """Mean scores of these answers when the true labels are permuted among the trials of each subject and session.

    Answers that know the session and nothing else about the label score this on average. If the trials of every
    session have equally many windows, the mean over all orders has a closed form: the expected table of counts is the
    sum over sessions of true counts times shares of answers, and every score is linear in it, since its margins are
    fixed. Otherwise it is the mean over `NUM_ORDERS` orders, the same ones every time.

    Parameters
    ----------
    rows
        Predictions of one set of answers about single windows.
    """
    labels = list(rows["labels"].iloc[0])
    placed = rows.assign(trial=[segment["trial"] for (segment,) in rows["segments"]])
    sizes = placed.groupby(["subject", "session", "trial"]).size()
    if (sizes.groupby(["subject", "session"]).nunique() == 1).all():
        counts = _mean_counts(placed, labels)
    else:
        counts = _counts_of_orders(placed, labels)
    return {name: float(values.mean()) for name, values in scores_from_counts(counts).items()}


def _mean_counts(rows: pd.DataFrame, labels: list[str]) -> NDArray[np.float64]:
    """Mean table of counts (K, K + 1) over all orders."""
    expected = np.zeros((len(labels), len(labels) + 1))
    for _, part in rows.groupby(["subject", "session"]):
        counts = confusion_counts(part["truth"], part["answer"], labels)
        expected += np.outer(counts.sum(axis=1), counts.sum(axis=0) / counts.sum())
    return expected


def _counts_of_orders(rows: pd.DataFrame, labels: list[str]) -> NDArray[np.float64]:
    """Tables of counts (orders, K, K + 1)."""
    rng = np.random.default_rng(0)
    tables = np.zeros((NUM_ORDERS, len(labels), len(labels) + 1))
    for _, part in rows.groupby(["subject", "session"]):
        trials = [trial for _, trial in part.groupby("trial")]
        answered = [confusion_counts(trial["truth"], trial["answer"], labels).sum(axis=0) for trial in trials]
        truth = np.array([labels.index(trial["truth"].iloc[0]) for trial in trials])
        orders = rng.permuted(np.tile(truth, (NUM_ORDERS, 1)), axis=1)
        for number in range(len(labels)):
            tables[:, number] += (orders == number) @ np.stack(answered)
    return tables
