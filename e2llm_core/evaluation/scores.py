"""Scores of closed-set answers, in which an unparsable answer is wrong and is never dropped.

Every score is a function of one table of counts, so that a thousand resamples cost one matrix product.

In shapes, K is the number of labels; the last column of a count table holds the invalid answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

METRICS = ("balanced_accuracy", "accuracy", "cohen_kappa", "weighted_f1")
"""Names of the scores, in the order of the report."""

INVALID = "invalid"
"""How an unparsable answer may be written, besides null."""

METRIC_BOUNDS: Mapping[str, tuple[float, float]] = {
    "balanced_accuracy": (0.0, 1.0),
    "accuracy": (0.0, 1.0),
    "cohen_kappa": (-1.0, 1.0),
    "weighted_f1": (0.0, 1.0),
}
"""Smallest and largest possible value of each score."""


def confusion_counts(truth: Iterable[Any], answer: Iterable[Any], labels: Sequence[str]) -> NDArray[np.int64]:
    """Count answers per true label.

    Parameters
    ----------
    truth
        True labels, each one of `labels`.
    answer
        Answers; anything outside `labels` (a null, ``"invalid"``, another word) counts as invalid.
    labels
        The K labels, in order.

    Returns
    -------
    array, shape (K, K + 1)
        Rows are true labels, columns answers; the last column counts the invalid ones.

    Raises
    ------
    ValueError
        If a true label is not in `labels`, a label repeats, or the two sequences differ in length.
    """
    index: dict[Any, int] = {name: number for number, name in enumerate(labels)}
    if len(index) != len(labels):
        raise ValueError(f"labels repeat: {list(labels)}")
    truths, answers = list(truth), list(answer)
    if len(truths) != len(answers):
        raise ValueError(f"{len(truths)} true labels but {len(answers)} answers")
    unknown = sorted({str(name) for name in truths if name not in index})
    if unknown:
        raise ValueError(f"true labels outside the label set {list(labels)}: {unknown}")
    counts = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    rows = np.fromiter((index[name] for name in truths), dtype=np.int64, count=len(truths))
    columns = np.fromiter((index.get(name, len(labels)) for name in answers), dtype=np.int64, count=len(answers))
    np.add.at(counts, (rows, columns), 1)
    return counts


def charge_invalid(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Count every invalid answer as the most frequent *wrong* label.

    Cohen's kappa and F1 would otherwise reward silence: an answer outside the label set lowers the agreement
    expected by chance and adds no false positive, so not answering would score above answering wrongly.

    Parameters
    ----------
    counts
        Shape (..., K, K + 1), as from `confusion_counts`.

    Returns
    -------
    array, shape (..., K, K)
        Counts without the invalid column; row sums are unchanged.
    """
    table = np.asarray(counts, dtype=np.float64)
    charged = table[..., :-1].copy()
    n_labels = charged.shape[-1]
    if n_labels < 2:
        return charged
    support = table.sum(axis=-1)
    for row in range(n_labels):
        others = support.copy()
        others[..., row] = -1.0
        target = np.argmax(others, axis=-1)[..., None]
        moved = np.take_along_axis(charged[..., row, :], target, axis=-1) + table[..., row, -1:]
        np.put_along_axis(charged[..., row, :], target, moved, axis=-1)
    return charged


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Divide, with 0 where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.zeros(shape, dtype=np.float64), where=denominator != 0)


def scores_from_counts(counts: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Compute every score of `METRICS` from count tables.

    Parameters
    ----------
    counts
        Shape (..., K, K + 1), as from `confusion_counts`.

    Returns
    -------
    dict
        One array of shape (...) per score. Balanced accuracy averages the recall over the labels that occur
        in the truth; a kappa whose expected agreement is 1 (a single label throughout) is 0.
    """
    table = np.asarray(counts, dtype=np.float64)
    answered = table[..., :-1]
    support = table.sum(axis=-1)
    total = support.sum(axis=-1)
    hits = np.diagonal(answered, axis1=-2, axis2=-1)
    recall = _ratio(hits, support)
    agreement = _ratio(hits.sum(axis=-1), total)

    charged = charge_invalid(table)
    given = charged.sum(axis=-2) if charged.shape[-1] > 1 else answered.sum(axis=-2)
    expected = _ratio((support * given).sum(axis=-1), total**2)
    f1 = _ratio(2 * hits, support + given)
    return {
        "balanced_accuracy": _ratio(recall.sum(axis=-1), (support > 0).sum(axis=-1)),
        "accuracy": agreement,
        "cohen_kappa": _ratio(agreement - expected, np.where(np.isclose(expected, 1.0), 0.0, 1.0 - expected)),
        "weighted_f1": _ratio((support * f1).sum(axis=-1), total),
    }


def score(metric: str, truth: Iterable[Any], answer: Iterable[Any], labels: Sequence[str]) -> float:
    """Compute one score of `METRICS`; see `confusion_counts` for the arguments.

    Raises
    ------
    KeyError
        If `metric` is not one of `METRICS`.
    """
    return float(scores_from_counts(confusion_counts(truth, answer, labels))[metric])


def balanced_accuracy(truth: Iterable[Any], answer: Iterable[Any], labels: Sequence[str]) -> float:
    """Mean recall over the labels that occur in the truth."""
    return score("balanced_accuracy", truth, answer, labels)


def accuracy(truth: Iterable[Any], answer: Iterable[Any], labels: Sequence[str]) -> float:
    """Share of right answers."""
    return score("accuracy", truth, answer, labels)


def cohen_kappa(truth: Iterable[Any], answer: Iterable[Any], labels: Sequence[str]) -> float:
    """Agreement beyond chance; invalid answers count as the most frequent wrong label."""
    return score("cohen_kappa", truth, answer, labels)


def weighted_f1(truth: Iterable[Any], answer: Iterable[Any], labels: Sequence[str]) -> float:
    """F1 averaged over labels by their frequency; invalid answers count as the most frequent wrong label."""
    return score("weighted_f1", truth, answer, labels)


def invalid_rate(answer: Iterable[Any], labels: Sequence[str]) -> float:
    """Share of answers outside the label set.

    Raises
    ------
    ValueError
        If there is no answer at all.
    """
    known = set(labels)
    outside = [name not in known for name in answer]
    if not outside:
        raise ValueError("no answers to judge")
    return sum(outside) / len(outside)


def chance_levels(truth: Iterable[Any], labels: Sequence[str]) -> dict[str, float]:
    """Compute the expected scores of uninformative answers, drawn uniformly from the labels.

    Returns
    -------
    dict
        Balanced accuracy and accuracy 1/K, kappa 0; weighted F1 from precision = prior and recall = 1/K.
    """
    truths = list(truth)
    support = confusion_counts(truths, truths, labels).sum(axis=1)
    uniform = 1.0 / len(labels)
    prior = support / support.sum()
    f1 = _ratio(2 * prior * uniform, prior + uniform)
    return {
        "balanced_accuracy": uniform,
        "accuracy": uniform,
        "cohen_kappa": 0.0,
        "weighted_f1": float((prior * f1).sum()),
    }
