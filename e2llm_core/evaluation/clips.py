"""Clips as the sampling unit: how a score would vary with other clips, shown to the same subjects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.intervals import (
    MIN_CLIPS_FOR_BOOTSTRAP,
    NO_INTERVAL,
    Interval,
    Statistic,
    bootstrap_interval,
)
from e2llm_core.evaluation.metrics import Answers, Metric


@dataclass(frozen=True)
class ClipClusters:
    """Which clips each item shows.

    An item of one segment belongs to its clip. An item of several clips is drawn as often as the product of its clips'
    draws says, which is the vertex bootstrap of pairs (Snijders & Borgatti, 1999).

    Parameters
    ----------
    rows : pandas.DataFrame
        Predictions of one set of answers.
    """

    rows: pd.DataFrame

    @cached_property
    def _shown(self) -> list[tuple[int, ...]]:
        """Distinct clips of each item, in ascending order."""
        return [tuple(sorted({int(one["clip"]) for one in segments})) for segments in self.rows["segments"]]

    @cached_property
    def _units(self) -> list[tuple[int, ...]]:
        """The sets of clips that occur: items of one set are drawn together."""
        return sorted(set(self._shown))

    @cached_property
    def clips(self) -> list[int]:
        """All clips, in order."""
        return sorted({clip for unit in self._units for clip in unit})

    @property
    def are_known(self) -> bool:
        """Whether every item shows a clip."""
        return () not in self._units

    def statistic(self, metric: Metric) -> Statistic:
        """The metric as a function of how often each of `clips` was drawn (n_resamples, n_clips).

        It is NaN for a resample without items, for example one in which every pair has a clip that was not drawn.
        """
        resampled, members = metric.score(self._answers).resampled, self._members

        def found(draws: NDArray[np.int64]) -> NDArray[np.float64]:
            weights = _weights(draws, members)
            values, filled = np.full(len(draws), np.nan), weights.any(axis=1)
            values[filled] = resampled(weights[filled])
            return values

        return found

    @cached_property
    def _answers(self) -> Answers:
        """Answers, clustered by unit."""
        number = {unit: place for place, unit in enumerate(self._units)}
        return Answers(self.rows, np.array([number[unit] for unit in self._shown], dtype=np.int64))

    @cached_property
    def _members(self) -> NDArray[np.int64]:
        """Indices in `clips` of each unit's clips (n_units, most clips of a unit), padded with ``len(clips)``."""
        places = {clip: place for place, clip in enumerate(self.clips)}
        most = max(len(unit) for unit in self._units)
        padded = np.full((len(self._units), most), len(self.clips), dtype=np.int64)
        for row, unit in enumerate(self._units):
            padded[row, : len(unit)] = [places[clip] for clip in unit]
        return padded

    def interval(self, metric: Metric, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0) -> Interval:
        """Clip-clustered bootstrap interval.

        It is `NO_INTERVAL` with fewer than `MIN_CLIPS_FOR_BOOTSTRAP` clips, if an item shows no clip, or if a resample
        is empty.

        Parameters
        ----------
        metric
            Metric to resample.
        level, n_resamples, seed
            Same as for `intervals.bootstrap_interval`.
        """
        if len(self.clips) < MIN_CLIPS_FOR_BOOTSTRAP or not self.are_known:
            return NO_INTERVAL
        return bootstrap_interval(
            self.statistic(metric),
            len(self.clips),
            level=level,
            n_resamples=n_resamples,
            seed=seed,
            method="clip_bootstrap",
        )


def _weights(draws: NDArray[np.int64], members: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each unit counts: (n_resamples, n_clips), (n_units, most) -> (n_resamples, n_units)."""
    extended = np.concatenate([draws, np.ones((len(draws), 1), dtype=draws.dtype)], axis=1)
    weights = extended[:, members[:, 0]]
    for column in members.T[1:]:
        weights = weights * extended[:, column]
    return weights
