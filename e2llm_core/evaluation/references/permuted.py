"""A baseline on permuted labels, and what it must score."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.references.baselines.de_svm import BASELINE
from e2llm_core.evaluation.references.windows import BaselineWindows
from e2llm_core.evaluation.scores import confusion_counts, scores_from_counts
from e2llm_core.tasks.items import Items


def permuted_labels(windows: pd.DataFrame, rows: NDArray[np.bool_], seed: int) -> NDArray[np.object_]:
    """Labels of all windows; those of the chosen rows are permuted among the trials of each subject and session.

    The windows of a trial keep one label. What a session tells of its labels stays, and nothing else.

    Parameters
    ----------
    windows
        One row per window: subject, session, trial, label.
    rows
        Mask of the windows whose trials take part.
    seed
        Of the permutation.
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
    """Labels of single windows, by differential entropy and a linear SVM, fitted and chosen on permuted labels."""
    truth = windows.truth
    for number, side in enumerate(("train", "validation")):
        rows = windows.masks[side]
        seed = int(np.random.SeedSequence([windows.seed, number]).generate_state(1)[0])
        truth[rows] = permuted_labels(windows.table, rows, seed)[rows]
    return BASELINE.fit(name, windows, truth).label(task, items).assign(condition=name)


def expected_within_sessions(rows: pd.DataFrame) -> dict[str, float]:
    """Mean scores of these answers over all orders of the true labels within each subject and session.

    Each label is then answered with as often as anywhere in the session: the expected table of counts is the sum over
    sessions of true counts times shares of answers, and every score is linear in it, as its margins are fixed. Answers
    that know the session and nothing else of the label score this on average.

    Parameters
    ----------
    rows
        Predictions of one set.
    """
    labels = list(rows["labels"].iloc[0])
    expected = np.zeros((len(labels), len(labels) + 1))
    for _, part in rows.groupby(["subject", "session"]):
        counts = confusion_counts(part["truth"], part["answer"], labels)
        expected += np.outer(counts.sum(axis=1), counts.sum(axis=0) / counts.sum())
    return {name: float(value) for name, value in scores_from_counts(expected).items()}
