"""Agreement of raters beyond chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["nominal", "ordinal", "interval"]
"""Level of measurement, which defines the distance between two ratings."""

Ratings = NDArray[np.float64]
"""(raters, units); NaN where a rater did not rate a unit."""


def krippendorff_alpha(ratings: Ratings, level: Level) -> float:
    """Krippendorff's alpha: 1 minus observed over expected disagreement, for any number of raters, gaps allowed.

    K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011, section E.

    Parameters
    ----------
    ratings : array
        (raters, units), NaN where a rater did not rate a unit.
    level : "nominal", "ordinal" or "interval"
        Level of measurement, which defines the difference function.

    Returns
    -------
    float
        1 for perfect agreement, 0 for agreement by chance; NaN if no unit was rated twice or all ratings are equal.
    """
    rated = ~np.isnan(ratings)
    pairable = ratings[:, rated.sum(axis=0) >= 2]
    values = np.unique(pairable[~np.isnan(pairable)])
    counts = (pairable[None] == values[:, None, None]).sum(axis=1).astype(float)
    per_unit = counts.sum(axis=0)
    pairs = counts @ (counts / (per_unit - 1)).T - np.diag((counts / (per_unit - 1)).sum(axis=1))
    totals = pairs.sum(axis=1)
    distance = _DISTANCES[level](values, totals)
    expected = (np.outer(totals, totals) * distance).sum()
    if expected == 0:
        return math.nan
    return float(1 - (totals.sum() - 1) * (pairs * distance).sum() / expected)


def _nominal(values: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values[:, None] != values[None]).astype(float)


def _ordinal(values: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared number of ratings between two ranks, with the ends counted half."""
    middle = np.cumsum(totals) - totals / 2
    return np.asarray((middle[:, None] - middle[None]) ** 2, dtype=np.float64)


def _interval(values: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values[:, None] - values[None]) ** 2, dtype=np.float64)


_DISTANCES: dict[Level, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
    "interval": _interval,
}


def kappa(ratings: Ratings) -> float:
    """Cohen's kappa of two raters, Fleiss' kappa of more, on the units that all of them rated.

    J. Cohen, Educ. Psychol. Meas. 20, 1960; J. L. Fleiss, Psychol. Bull. 76, 1971, equations 1 to 7.

    Returns
    -------
    float
        NaN if there are fewer than two raters or no such unit, or if all ratings are equal.
    """
    whole = ratings[:, ~np.isnan(ratings).any(axis=0)]
    raters, units = whole.shape
    if raters < 2 or not units or len(np.unique(whole)) == 1:
        return math.nan
    if raters == 2:
        from sklearn.metrics import cohen_kappa_score

        return float(cohen_kappa_score(*whole))
    counts = np.stack([(whole == value).sum(axis=0) for value in np.unique(whole)], axis=1)
    observed = ((counts**2).sum(axis=1) - raters).mean() / (raters * (raters - 1))
    expected = ((counts.sum(axis=0) / (raters * units)) ** 2).sum()
    return float((observed - expected) / (1 - expected))
