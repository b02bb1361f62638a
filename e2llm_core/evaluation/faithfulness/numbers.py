"""One number of a check: over all items, with its interval over subjects, and for each subject."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from e2llm_core.evaluation.faithfulness.metrics import Check
from e2llm_core.evaluation.intervals import NO_INTERVAL, subject_interval
from e2llm_core.evaluation.summary import Provenance, ResultRow, SubjectScore


class Number(NamedTuple):
    """A row of results and the same number of each subject."""

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
    """The mean over items, with its interval over subjects; nothing where there is no item.

    Parameters
    ----------
    check : Check
        Which number it is.
    values, subjects : np.ndarray
        (items,): one value of each item, and whose it is.
    keys : mapping
        Task, model, condition and readout.
    provenance : Provenance
        Of the row.
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
    """A number that is known for all and for each subject; arguments as in `mean_of`, `counts` of each one's items."""
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
