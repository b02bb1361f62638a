"""Metrics: functions of one set of answers, with bounds, an interval over subjects and a chance level.

Light to import: tasks name their metrics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.scores import (
    METRIC_BOUNDS,
    METRICS,
    chance_levels,
    confusion_counts,
    scores_from_counts,
)


class Answers:
    """One set of answers, grouped by subject or by another unit that is resampled as a whole.

    Parameters
    ----------
    rows : pandas.DataFrame
        Predictions of one task, model, condition and readout.
    cluster : np.ndarray, optional
        (n_items,) number of each row's cluster, which replaces the subject.

    Attributes
    ----------
    subjects : list
        Subjects in sorted order, or the numbers of the clusters if these were given.
    labels : list of str
        The K options.

    Raises
    ------
    ValueError
        If the rows do not share one label set.
    """

    def __init__(self, rows: pd.DataFrame, cluster: NDArray[np.int64] | None = None) -> None:
        label_sets = {tuple(names) for names in rows["labels"]}
        if len(label_sets) != 1:
            raise ValueError(f"predictions with different label sets cannot be scored together: {sorted(label_sets)}")
        self.labels = list(label_sets.pop())
        groups = rows[["truth", "answer"]].groupby(rows["subject"] if cluster is None else cluster, sort=True)
        self._of_subject = {subject: (part["truth"].tolist(), part["answer"].tolist()) for subject, part in groups}
        self.subjects = list(self._of_subject)

    def __len__(self) -> int:
        return int(self.num_items.sum())

    @property
    def num_items(self) -> NDArray[np.int64]:
        """Number of items of each subject."""
        return np.array([len(truth) for truth, _ in self._of_subject.values()])

    def of(self, times: Sequence[int] | NDArray[np.int64]) -> tuple[list[str], list[str | None]]:
        """True and given answers, subject after subject, each subject's repeated as often as `times` says."""
        truth: list[str] = []
        answer: list[str | None] = []
        for number, (truths, answers) in zip(times, self._of_subject.values(), strict=True):
            truth += int(number) * truths
            answer += int(number) * answers
        return truth, answer

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Confusion tables (n_subjects, K, K + 1), see `scores.confusion_counts`."""
        return np.stack([confusion_counts(*pair, self.labels) for pair in self._of_subject.values()])


@dataclass(frozen=True)
class Scores:
    """One metric of one set of answers.

    Attributes
    ----------
    pooled : float
        The metric over all items of all subjects.
    by_subject : np.ndarray
        (n_subjects,) the metric of each subject, finite.
    resampled : callable
        From how often each subject was drawn (n_resamples, n_subjects) to the metric of each resample.
    """

    pooled: float
    by_subject: NDArray[np.float64]
    resampled: Callable[[NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Metric(ABC):
    """A function of answers.

    Attributes
    ----------
    name : str
        Name in the results.
    bounds : tuple of float
        Smallest and largest possible value.
    """

    name: str
    bounds: tuple[float, float]

    @property
    def words(self) -> str:
        """The name as the report writes it."""
        return self.name.replace("_", " ")

    @abstractmethod
    def score(self, answers: Answers) -> Scores:
        """Compute the metric over all items, for each subject and for resamples of subjects."""

    @abstractmethod
    def chance(self, answers: Answers) -> float | None:
        """Expected value of uninformative answers; None if nothing predicts it."""


@dataclass(frozen=True)
class TableMetric(Metric):
    """A score of `scores.METRICS`: a function of the confusion table, so that resamples cost a matrix product."""

    def score(self, answers: Answers) -> Scores:
        """Compute the metric from the subjects' confusion tables."""
        counts = answers.counts
        pooled, single = (scores_from_counts(table)[self.name] for table in (counts.sum(axis=0), counts))
        return Scores(float(pooled), single, partial(self._resampled, counts))

    def _resampled(self, counts: NDArray[np.int64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
        return scores_from_counts(np.tensordot(draws.astype(np.float64), counts.astype(np.float64), axes=1))[self.name]

    def chance(self, answers: Answers) -> float:
        """Expected value of answers drawn uniformly from the options."""
        truth, _ = answers.of(np.ones(len(answers.subjects), int))
        return chance_levels(truth, answers.labels)[self.name]


@dataclass(frozen=True)
class AnswerMetric(Metric):
    """Any function of true and given answers; a bootstrap calls it once for each resample.

    Attributes
    ----------
    function : callable
        From true answers, given answers (None where invalid) and the options to a finite number.
    expected : float or None
        Chance level.
    """

    function: Callable[[Sequence[str], Sequence[str | None], Sequence[str]], float]
    expected: float | None = None

    def score(self, answers: Answers) -> Scores:
        """Compute the metric from the answers themselves."""
        each, everyone = np.eye(len(answers.subjects), dtype=np.int64), np.ones(len(answers.subjects), np.int64)
        return Scores(self._of(answers, everyone), self._resampled(answers, each), partial(self._resampled, answers))

    def _of(self, answers: Answers, times: NDArray[np.int64]) -> float:
        return float(self.function(*answers.of(times), answers.labels))

    def _resampled(self, answers: Answers, draws: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self._of(answers, times) for times in draws])

    def chance(self, answers: Answers) -> float | None:
        """The chance level that was given as `expected`."""
        return self.expected


@dataclass(frozen=True)
class PointsMetric(Metric):
    """Mean of the points that each answer gets: a product with the confusion table, so that resamples cost little.

    Attributes
    ----------
    points : callable
        From the true answer and the given one, None where invalid, to its points.
    expected : float or None
        Chance level.
    """

    points: Callable[[str, str | None], float]
    expected: float | None = None

    def of(self, truth: Sequence[str], answers: Sequence[str | None]) -> float:
        """Mean points of answers."""
        return float(np.mean([self.points(true, given) for true, given in zip(truth, answers, strict=True)]))

    def score(self, answers: Answers) -> Scores:
        """Compute the metric from the subjects' confusion tables."""
        table = np.array([[self.points(true, given) for given in (*answers.labels, None)] for true in answers.labels])
        points, numbers = (answers.counts * table).sum(axis=(1, 2)), answers.counts.sum(axis=(1, 2))
        resampled = partial(self._resampled, points, numbers)
        return Scores(float(points.sum() / numbers.sum()), points / numbers, resampled)

    def _resampled(
        self, points: NDArray[np.float64], numbers: NDArray[np.int64], draws: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        drawn: NDArray[np.float64] = (draws @ points) / (draws @ numbers)
        return drawn

    def chance(self, answers: Answers) -> float | None:
        """The chance level that was given as `expected`."""
        return self.expected


@dataclass(frozen=True)
class BlockMetric(Metric):
    """Mean of a function of blocks: of K answers that follow each other, to one item in all cyclic orders of K options.

    Attributes
    ----------
    function : callable
        From a block's true and given answers, None where invalid, to its points.
    expected : callable
        From K to the chance level.
    """

    function: Callable[[Sequence[str], Sequence[str | None]], float]
    expected: Callable[[int], float]

    def score(self, answers: Answers) -> Scores:
        """Compute the mean over all blocks, for each subject and for resamples of subjects.

        Raises
        ------
        ValueError
            If the true answers of K items that follow each other are not all K options.
        """
        each = np.eye(len(answers.subjects), dtype=np.int64)
        points = [self._points(answers, times) for times in each]
        totals, numbers = np.array([sum(some) for some in points]), np.array([len(some) for some in points])
        resampled = lambda draws: np.asarray((draws @ totals) / (draws @ numbers))  # noqa: E731
        return Scores(float(totals.sum() / numbers.sum()), totals / numbers, resampled)

    def _points(self, answers: Answers, times: NDArray[np.int64]) -> list[float]:
        size, (truth, given) = len(answers.labels), answers.of(times)
        blocks = [slice(at, at + size) for at in range(0, len(truth), size)]
        if any(set(truth[block]) != set(answers.labels) for block in blocks):
            raise ValueError(f"{self.name}: the items are not in all {size} orders of their options")
        return [self.function(truth[block], given[block]) for block in blocks]

    def chance(self, answers: Answers) -> float:
        """Expected value of answers drawn uniformly from the options."""
        return self.expected(len(answers.labels))


def _right(truth: str, answer: str | None) -> float:
    return float(answer == truth)


UNTRAINED_RECALL = PointsMetric("untrained_recall", (0.0, 1.0), _right)
"""Share of right answers, of items whose true label training left out."""

CLOSED_SET: tuple[Metric, ...] = tuple(TableMetric(name, METRIC_BOUNDS[name]) for name in METRICS)
"""Metrics of closed questions; balanced accuracy comes first."""
