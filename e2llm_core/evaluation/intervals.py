"""Confidence intervals that treat the subject or the clip, not the window, as the sampling unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_SUBJECTS_FOR_BOOTSTRAP = 10
"""Below this many subjects a bootstrap has too few distinct resamples, and a t-interval is used."""

MIN_CLIPS_FOR_BOOTSTRAP = 10
"""Below this many clips there is no clip-clustered interval."""

Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Maps how often each cluster (subject, clip) was drawn, (n_resamples, n_clusters), to one value per resample."""


@dataclass(frozen=True)
class Interval:
    """An interval and the method that made it.

    Attributes
    ----------
    low, high
        The ends; both NaN if no interval can be given (one subject).
    method
        ``"subject_bootstrap"``, ``"t_subjects"``, ``"clip_bootstrap"`` or ``"none"``.
    """

    low: float
    high: float
    method: str

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Both ends as tables hold them: null if no interval can be given."""
        return (None, None) if math.isnan(self.low) else (self.low, self.high)


NO_INTERVAL = Interval(math.nan, math.nan, "none")
"""Stands for no interval: too few units were sampled."""


def t_interval(
    values: Sequence[float] | NDArray[np.float64],
    *,
    centre: float | None = None,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Student's t-interval from one value per subject.

    Parameters
    ----------
    values
        One score per subject.
    centre
        The estimate to put the interval around, by default the mean of `values`. (The score pooled over all
        items differs a little from the mean over subjects if these have different numbers of items.)
    level
        Nominal coverage.
    bounds
        Smallest and largest possible value of the score; the ends are clipped to it.

    Raises
    ------
    ValueError
        If there are fewer than two subjects, or a value is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size < 2:
        raise ValueError(f"a t-interval needs one value for each of at least two subjects, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"scores of subjects must be finite: {sample.tolist()}")
    middle = float(sample.mean()) if centre is None else float(centre)
    half = float(stats.t.ppf(0.5 + level / 2, sample.size - 1)) * float(sample.std(ddof=1)) / math.sqrt(sample.size)
    low, high = (float(np.clip(end, *bounds)) for end in (middle - half, middle + half))
    return Interval(low, high, "t_subjects")


def bootstrap_interval(
    statistic: Statistic,
    n_clusters: int,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    method: str = "subject_bootstrap",
) -> Interval:
    """Expanded percentile interval of a statistic over clusters (subjects, clips) drawn with replacement.

    With few clusters, the plain percentile interval is too narrow: by the ratio of the quantiles of Student's t and of
    the normal distribution, and by sqrt(1 - 1/n). The percentiles are moved outwards to correct for both (Hesterberg,
    2015).

    Parameters
    ----------
    statistic
        The statistic of resamples, see `Statistic`.
    n_clusters
        Number of clusters, two or more.
    level
        Nominal coverage.
    n_resamples
        Number of resamples to draw.
    seed
        Seed of the draws; the same seed gives the same interval.
    method
        Name of the method, for `Interval.method`.

    Returns
    -------
    Interval
        `NO_INTERVAL` (NaN ends) if the statistic of a resample is NaN, which means that nothing was left to score.
    """
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=n_resamples)
    widened = math.sqrt(n_clusters / (n_clusters - 1)) * stats.t.ppf((1.0 - level) / 2, n_clusters - 1)
    tail = float(stats.norm.cdf(widened))
    values = statistic(draws.astype(np.int64))
    if np.isnan(values).any():
        return NO_INTERVAL
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return Interval(float(low), float(high), method)


def subject_interval(
    values: Sequence[float] | NDArray[np.float64],
    statistic: Statistic | None = None,
    *,
    centre: float | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Choose the interval by the number of subjects.

    With at least `MIN_SUBJECTS_FOR_BOOTSTRAP` subjects, a subject-clustered bootstrap of `statistic` (by default the
    mean of `values`); with fewer, a t-interval over `values`; with one, no interval (NaN ends).

    Raises
    ------
    ValueError
        If there is no subject.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("no subjects to build an interval from")
    if sample.size == 1:
        return NO_INTERVAL
    if sample.size < MIN_SUBJECTS_FOR_BOOTSTRAP:
        return t_interval(sample, centre=centre, level=level, bounds=bounds)

    def mean_of_values(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(draws @ sample / sample.size, dtype=np.float64)

    return bootstrap_interval(statistic or mean_of_values, sample.size, level=level, n_resamples=n_resamples, seed=seed)
