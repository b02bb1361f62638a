"""What the model is shown of a window: its signal, or what the frozen tower made of it beforehand."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from storage.features import Features
from storage.windows import Windows

Seeds = Sequence[Sequence[int]]


class Segments(Protocol):
    """Source of segments by window number.

    Attributes
    ----------
    key : str
        Argument of the model that takes them.
    """

    key: Literal["eeg", "eeg_features"]

    def read(self, ids: np.ndarray, seeds: Seeds | None) -> np.ndarray:
        """Read segments.

        Parameters
        ----------
        ids : np.ndarray
            Window numbers (batch,).
        seeds : sequence, optional
            One seed per window for its augmentation; None for none.

        Returns
        -------
        np.ndarray
            float32 (batch, n_chans, n_times) for `eeg`, (batch, 1 + n_patches, dim) for `eeg_features`.
        """
        ...


class WindowSegments:
    """Signals that are cut, normalised and augmented when read.

    Parameters
    ----------
    windows : Windows
        The windows of one side of the split.
    """

    key: Literal["eeg", "eeg_features"] = "eeg"

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def read(self, ids: np.ndarray, seeds: Seeds | None) -> np.ndarray:
        """Read signals under random polarity and circular shift."""
        return augmented(self._windows.read(ids), seeds)


class Renumbering:
    """Map the numbers of some windows to their numbers among all windows of the same cut.

    Parameters
    ----------
    windows, every : Windows
        Every trial of the first is one of the second.
    """

    def __init__(self, windows: Windows, every: Windows) -> None:
        self._windows = windows
        self._moved = _first_windows(windows, every) - np.concatenate([[0], windows.ends[:-1]])

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Numbers (len(ids),) among every window."""
        found: np.ndarray = np.asarray(ids) + self._moved[self._windows.locate(ids)[0]]
        return found


class FeatureSegments:
    """Outputs of the frozen tower; a seed draws one of the variants that were computed.

    Parameters
    ----------
    features : Features
        Features of every window of a store.
    every : Windows
        All windows of the store.
    windows : Windows
        Some of them, cut alike: one side of the split.
    """

    key: Literal["eeg", "eeg_features"] = "eeg_features"

    def __init__(self, features: Features, every: Windows, windows: Windows) -> None:
        self._features = features
        self.rows = Renumbering(windows, every)

    def read(self, ids: np.ndarray, seeds: Seeds | None) -> np.ndarray:
        """Read features: of variant 0 without seeds."""
        count = self._features.manifest.num_variants
        if seeds is None or count == 1:
            return self._features.read(self.rows(ids))
        drawn = np.array([np.random.default_rng(seed).integers(count) for seed in seeds], dtype=np.int64)
        return self._features.read(self.rows(ids), drawn)


def _first_windows(windows: Windows, every: Windows) -> np.ndarray:
    """Number of the first window of each row of `windows.trials`, among all windows."""
    starts = np.concatenate([[0], every.ends[:-1]])
    keys = zip(every.trials["recording_id"], every.trials["start"], strict=True)
    known = dict(zip(keys, starts.tolist(), strict=True))
    wanted = zip(windows.trials["recording_id"], windows.trials["start"], strict=True)
    return np.array([known[key] for key in wanted], dtype=np.int64)


def augmented(signal: np.ndarray, seeds: Seeds | None) -> np.ndarray:
    """Give windows (batch, n_chans, n_times) a random polarity and circular shift each; None for none."""
    if seeds is None:
        return signal
    draws = [np.random.default_rng(seed).integers([2, signal.shape[-1]]) for seed in seeds]
    moved = [np.roll(row, shift, axis=-1) * (1 - 2 * sign) for row, (sign, shift) in zip(signal, draws, strict=True)]
    return np.stack(moved).astype(np.float32)
