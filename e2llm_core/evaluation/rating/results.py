"""Analysis of raters' answers: how far they agree, and which system they prefer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from e2llm_core.evaluation.intervals import Interval, subject_interval
from e2llm_core.evaluation.rating.agreement import kappa, krippendorff_alpha
from e2llm_core.evaluation.rating.study import SCALES, RaterAnswers, StudyKey
from storage.errors import InputError

PREFERENCE = "preference"
_FIRST = "first"
"""Column of the judgements of the study's first system; `_SECOND` is that of the second system."""
_SECOND = "second"


@dataclass(frozen=True)
class Agreement:
    """Agreement on one question.

    Attributes
    ----------
    question
        ``preference`` or a scale.
    units
        Number of units that two or more raters judged.
    kappa
        Cohen's kappa of two raters, Fleiss' kappa of more; null for a scale.
    alpha
        Krippendorff's alpha: nominal for the preference, ordinal for a scale.
    """

    question: str
    units: int
    kappa: float | None
    alpha: float


@dataclass(frozen=True)
class Difference:
    """The first system compared with the second on one question.

    Attributes
    ----------
    question
        ``preference`` (share of judgements that prefer the first system; 0.5 favours neither) or a scale (mean rating
        of the first minus that of the second; 0 favours neither).
    value
        Mean over examples of the mean over raters.
    over_examples, over_raters
        95 % intervals that treat examples, or raters, as the sample.
    """

    question: str
    value: float
    over_examples: Interval
    over_raters: Interval


@dataclass(frozen=True)
class RatingResults:
    """All results of a study."""

    systems: tuple[str, str]
    raters: tuple[str, ...]
    num_examples: int
    agreement: tuple[Agreement, ...]
    differences: tuple[Difference, ...]
    means: dict[str, tuple[float, float]]
    """Mean rating of each system, by scale."""


def rating_results(key: StudyKey, given: Sequence[RaterAnswers], *, seed: int = 0) -> RatingResults:
    """Unblind raters' answers and summarise them.

    Parameters
    ----------
    key : StudyKey
        Key of the page that the raters answered.
    given : sequence of RaterAnswers
        Answers of each rater, who may leave out examples.
    seed : int
        Seed of the bootstrap.

    Raises
    ------
    InputError
        If there is no rater, or one of them occurs twice.
    """
    raters = [one.rater for one in given]
    if not raters:
        raise InputError("raters", "no answers are given", "Name the raters' files.")
    if double := [name for name in raters if raters.count(name) > 1]:
        raise InputError("raters", f"{double[0]} answers twice", "Give one file per rater.")
    table = unblinded(key, given)
    return RatingResults(
        systems=key.systems,
        raters=tuple(raters),
        num_examples=table["example"].nunique(),
        agreement=tuple(_agreement(table, question) for question in (PREFERENCE, *SCALES)),
        differences=tuple(_difference(table, question, seed) for question in (PREFERENCE, *SCALES)),
        means={scale: _means(table, scale) for scale in SCALES},
    )


def unblinded(key: StudyKey, given: Sequence[RaterAnswers]) -> pd.DataFrame:
    """One row per rater, example and question: ``first`` and ``second`` are the judgements of the two systems.

    A preference is 1 for the system that was preferred and 0 for the other.
    """
    rows = []
    for one in given:
        for answer in one.answers:
            preferred = (float(answer.preference == 1), float(answer.preference == 2))
            shown = {PREFERENCE: preferred} | {scale: getattr(answer, scale) for scale in SCALES}
            order = key.examples[answer.example].order
            for question, judged in shown.items():
                by_system = {order[place]: float(judged[place]) for place in (0, 1)}
                rows.append((one.rater, answer.example, question, by_system[0], by_system[1]))
    return pd.DataFrame(rows, columns=["rater", "example", "question", _FIRST, _SECOND])


def _agreement(table: pd.DataFrame, question: str) -> Agreement:
    rows = table[table["question"] == question]
    sides = [_FIRST] if question == PREFERENCE else [_FIRST, _SECOND]
    ratings = np.concatenate(
        [rows.pivot(index="rater", columns="example", values=side).to_numpy() for side in sides], 1
    )
    return Agreement(
        question=question,
        units=int(((~np.isnan(ratings)).sum(axis=0) >= 2).sum()),
        kappa=kappa(ratings) if question == PREFERENCE else None,
        alpha=krippendorff_alpha(ratings, "nominal" if question == PREFERENCE else "ordinal"),
    )


def _difference(table: pd.DataFrame, question: str, seed: int) -> Difference:
    rows = table[table["question"] == question]
    preference = question == PREFERENCE
    rows = rows.assign(value=rows[_FIRST] if preference else rows[_FIRST] - rows[_SECOND])
    bounds = (0.0, 1.0) if preference else (-math.inf, math.inf)
    examples, raters = (rows.groupby(name)["value"].mean().to_numpy() for name in ("example", "rater"))
    return Difference(
        question=question,
        value=float(examples.mean()),
        over_examples=subject_interval(examples, seed=seed, bounds=bounds),
        over_raters=subject_interval(raters, seed=seed, bounds=bounds),
    )


def _means(table: pd.DataFrame, scale: str) -> tuple[float, float]:
    means = table[table["question"] == scale].groupby("example")[[_FIRST, _SECOND]].mean().mean()
    return float(means[_FIRST]), float(means[_SECOND])
