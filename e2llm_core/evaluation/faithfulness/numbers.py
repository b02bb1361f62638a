"""Result rows of the checks: a value over all items with its interval over subjects, and a value for each subject."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from e2llm_core.evaluation.faithfulness.metrics import Check
from e2llm_core.evaluation.intervals import NO_INTERVAL, subject_interval
from e2llm_core.evaluation.summary import Provenance, ResultRow, SubjectScore


class Number(NamedTuple):
    """A result row, and the scores of each subject behind it."""

    row: ResultRow
    of_subjects: list[SubjectScore]


def mean_of(
    check: Check,
    values: np.ndarray,
    subjects: np.ndarray,
    keys: Mapping[str, Any],
    provenance: Provenance,
    chance: float | None = None,
) -> list[Number]:
    """Mean over items, with its interval over subjects; empty if there are no items.

    Parameters
    ----------
    check : Check
        Metric.
    values, subjects : np.ndarray
        (items,): value and subject of each item.
    keys : mapping
        Task, model, condition, readout and prompt.
    provenance : Provenance
        Provenance of the row.
    chance : float, optional
        Expected value under the null.
    """
    if not len(values):
        return []
    grouped = pd.Series(np.asarray(values, dtype=float)).groupby(np.asarray(subjects))
    return [number_of(check, float(np.mean(values)), grouped.mean(), grouped.size(), keys, provenance, chance)]


def number_of(
    check: Check,
    value: float,
    of_subjects: "pd.Series[float]",
    counts: "pd.Series[int]",
    keys: Mapping[str, Any],
    provenance: Provenance,
    chance: float | None = None,
) -> Number:
    """Result row of a value that is known over all items and for each subject.

    Parameters
    ----------
    check : Check
        Metric.
    value : float
        Over all items.
    of_subjects, counts : pandas.Series
        (subjects,): value and number of items of each subject, with the subjects as index.
    keys, provenance, chance
        As in `mean_of`.
    """
    interval = NO_INTERVAL
    if check.sampled:
        interval = subject_interval(of_subjects.to_numpy(), centre=value, bounds=check.bounds)
    scores = [
        SubjectScore(**keys, metric=check.name, subject=str(subject), value=float(mean), n=int(number))
        for (subject, mean), number in zip(of_subjects.items(), counts, strict=True)
    ]
    row = ResultRow(
        **keys,
        metric=check.name,
        value=value,
        ci_low=interval.ends[0],
        ci_high=interval.ends[1],
        chance=chance,
        n=int(counts.sum()),
        n_subjects=len(of_subjects),
        ci_method=interval.method,
        primary=False,
        **provenance.model_dump(),
    )
    return Number(row, scores)
