"""How far a model's probabilities can be trusted: calibration, proper scores, and the risk at each coverage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.intervals import subject_interval
from e2llm_core.evaluation.predictions import keys_of
from e2llm_core.evaluation.summary import Provenance, ResultRow, SubjectScore

BINS = 15
"""Number of bins of equal width that the confidence is divided into (Guo et al., 2017)."""

_SMALLEST = 1e-12
_AT_ONCE = 2**22


@dataclass(frozen=True)
class Judged:
    """Probabilities with the true options.

    Attributes
    ----------
    probabilities : np.ndarray
        (items, options), each row the probabilities of one item's options.
    truth : np.ndarray
        (items,) numbers of the true options.
    subject : np.ndarray
        (items,) numbers of the subjects, from 0.
    """

    probabilities: NDArray[np.float64]
    truth: NDArray[np.int64]
    subject: NDArray[np.int64]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Judged:
        """Read one set of answers, all with probabilities and with the same options."""
        place = {name: number for number, name in enumerate(rows["labels"].iloc[0])}
        return cls(
            np.array(rows["probabilities"].tolist(), dtype=np.float64),
            np.array([place[name] for name in rows["truth"]], dtype=np.int64),
            pd.factorize(rows["subject"], sort=True)[0].astype(np.int64),
        )

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the most probable option, (items,)."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Whether the most probable option is not the true one, (items,)."""
        return np.asarray(self.probabilities.argmax(axis=1) != self.truth)

    @property
    def num_subjects(self) -> int:
        """Number of subjects."""
        return int(self.subject.max()) + 1

    def at_temperature(self, temperature: float) -> Judged:
        """The same answers with log-probabilities divided by a temperature."""
        logs = np.log(np.maximum(self.probabilities, np.finfo(float).tiny)) / temperature
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        return Judged(weights / weights.sum(axis=1, keepdims=True), self.truth, self.subject)


Resampled = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""From how often each subject was drawn (n_resamples, n_subjects) to a score of each resample."""


def reliability(judged: Judged) -> NDArray[np.float64]:
    """Sums over the items of each subject in each bin of the confidence.

    Returns
    -------
    array, shape (n_subjects, BINS, 3)
        Number of items, sum of their confidence, number of right answers. A confidence on an edge belongs to the bin
        below, as in Guo et al. (2017).
    """
    bins = np.clip(np.ceil(judged.confidence * BINS).astype(int) - 1, 0, BINS - 1)
    sums = np.zeros((judged.num_subjects, BINS, 3))
    each = np.stack([np.ones(len(bins)), judged.confidence, ~judged.wrong], axis=1)
    np.add.at(sums, (judged.subject, bins), each)
    return sums


def _ece(judged: Judged) -> Resampled:
    sums = reliability(judged)

    def resampled(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        table = np.tensordot(draws, sums, axes=1)
        gaps = np.abs(table[..., 1] - table[..., 2]).sum(axis=-1)
        return np.asarray(gaps / table[..., 0].sum(axis=-1))

    return resampled


def _mean(values: NDArray[np.float64], judged: Judged) -> Resampled:
    """Mean over items."""
    totals, counts = (np.bincount(judged.subject, weights=weights) for weights in (values, np.ones(len(values))))
    return lambda draws: np.asarray((draws @ totals) / (draws @ counts))


def _nll(judged: Judged) -> Resampled:
    true = judged.probabilities[np.arange(len(judged.truth)), judged.truth]
    return _mean(-np.log(np.maximum(true, _SMALLEST)), judged)


def _brier(judged: Judged) -> Resampled:
    hot = np.eye(judged.probabilities.shape[1])[judged.truth]
    return _mean(((judged.probabilities - hot) ** 2).sum(axis=1), judged)


def _aurc(judged: Judged) -> Resampled:
    order = np.argsort(-judged.confidence, kind="stable")
    confidence, wrong, subject = judged.confidence[order], judged.wrong[order], judged.subject[order]
    last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))
    stop = last[np.searchsorted(last, np.arange(len(order)))]
    step = max(1, _AT_ONCE // len(order))

    def some(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        weights = draws[:, subject].astype(np.float64)
        accepted = weights.cumsum(axis=1)[:, stop]
        errors = (weights * wrong).cumsum(axis=1)[:, stop]
        risk = np.divide(errors, accepted, out=np.zeros_like(errors), where=accepted > 0)
        return np.asarray((weights * risk).sum(axis=1) / weights.sum(axis=1))

    return lambda draws: np.concatenate([some(draws[at : at + step]) for at in range(0, len(draws), step)])


def risk_coverage(judged: Judged) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Risk when only the most confident answers are given, against the share of items that are answered.

    Items of equal confidence are answered together (Geifman & El-Yaniv, 2017).

    Returns
    -------
    coverage, risk : array, shape (n_confidences,)
        Increasing shares of items that are answered, and the share of wrong answers among these.
    """
    order = np.argsort(-judged.confidence, kind="stable")
    confidence = judged.confidence[order]
    last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))
    answered = np.arange(1, len(order) + 1)
    risk = judged.wrong[order].cumsum() / answered
    return answered[last] / len(order), risk[last]


@dataclass(frozen=True)
class ProbabilityMetric:
    """A score of probabilities; lower is better.

    Attributes
    ----------
    name : str
        Name in the results.
    words : str
        Name in the report.
    bounds : tuple of float
        Smallest and largest possible value.
    chance : callable
        From the number of options to the score of equal probabilities; None if it has no such value.
    prepare : callable
        From probabilities to a function that scores resamples of them.
    rises_with_noise : bool
        Whether sampling noise alone raises it. Resamples then contain this noise twice: their mean exceeds the score by
        about as much as the score exceeds its value for infinitely many items. Their percentiles are moved down by
        twice that distance (bias-corrected bootstrap; Efron & Tibshirani, 1993).
    """

    name: str
    words: str
    bounds: tuple[float, float]
    chance: Callable[[int], float | None]
    prepare: Callable[[Judged], Resampled]
    rises_with_noise: bool = False

    def value(self, judged: Judged) -> float:
        """The score over all items."""
        return float(self.prepare(judged)(np.ones((1, judged.num_subjects), dtype=np.int64))[0])

    def by_subject(self, judged: Judged) -> NDArray[np.float64]:
        """The score of each subject's items alone, (n_subjects,)."""
        return self.prepare(judged)(np.eye(judged.num_subjects, dtype=np.int64))

    def resampled(self, judged: Judged) -> Resampled:
        """Scores of resamples, from which an interval is computed."""
        found, value = self.prepare(judged), self.value(judged)
        if not self.rises_with_noise:
            return found

        def corrected(draws: NDArray[np.int64]) -> NDArray[np.float64]:
            values = found(draws)
            return np.asarray(np.clip(values - 2 * (values.mean() - value), *self.bounds))

        return corrected


PROBABILITY_METRICS = (
    ProbabilityMetric("ece", "expected calibration error", (0.0, 1.0), lambda options: None, _ece, True),
    ProbabilityMetric("nll", "negative log-likelihood (nats)", (0.0, math.inf), math.log, _nll),
    ProbabilityMetric("brier", "Brier score", (0.0, 2.0), lambda options: 1 - 1 / options, _brier),
    ProbabilityMetric("aurc", "area under risk-coverage", (0.0, 1.0), lambda options: 1 - 1 / options, _aurc),
)
"""ECE of the top label with `BINS` bins (Guo et al., 2017), proper scores, AURC (Geifman & El-Yaniv, 2017)."""


def has_probabilities(rows: pd.DataFrame) -> bool:
    """Whether every answer of a set has probabilities."""
    return bool(rows["probabilities"].notna().all())


def probability_rows(
    rows: pd.DataFrame, provenance: Provenance, *, temperature: float | None = None, n_resamples: int = 2000
) -> list[ResultRow]:
    """Score the probabilities of one set of answers, with intervals over subjects.

    Parameters
    ----------
    rows
        One set of answers.
    provenance
        Fields that all of its rows share.
    temperature
        Temperature that its log-probabilities were divided by; null if they were not calibrated.
    n_resamples
        Number of bootstrap resamples.
    """
    judged, options = Judged.of(rows), len(rows["labels"].iloc[0])
    found = []
    for metric in PROBABILITY_METRICS:
        value = metric.value(judged)
        interval = subject_interval(
            metric.by_subject(judged),
            metric.resampled(judged),
            centre=value,
            n_resamples=n_resamples,
            seed=provenance.seed,
            bounds=metric.bounds,
        )
        found.append(
            ResultRow(
                **keys_of(rows),
                metric=metric.name,
                value=value,
                ci_low=interval.ends[0],
                ci_high=interval.ends[1],
                ci_method=interval.method,
                chance=metric.chance(options),
                n=len(rows),
                n_subjects=judged.num_subjects,
                primary=False,
                temperature=temperature,
                **provenance.model_dump(),
            )
        )
    return found


def probability_subject_scores(rows: pd.DataFrame) -> list[SubjectScore]:
    """Score the probabilities of one set of answers for each subject alone."""
    judged, keys = Judged.of(rows), keys_of(rows)
    counts = rows["subject"].value_counts().sort_index()
    return [
        SubjectScore(**keys, metric=metric.name, subject=str(subject), value=float(value), n=int(number))
        for metric in PROBABILITY_METRICS
        for (subject, number), value in zip(counts.items(), metric.by_subject(judged), strict=True)
    ]
