"""What the model is shown of a window: its signal, or what the frozen tower made of it beforehand."""

from typing import Literal, Protocol

import numpy as np

from storage.features import Features
from storage.windows import Windows


class Segments(Protocol):
    """Source of segments by window number.

    Attributes
    ----------
    key : str
        Argument of the model that takes them.
    """

    key: Literal["eeg", "eeg_features"]

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Read segments.

        Parameters
        ----------
        ids : np.ndarray
            Window numbers (batch,).

        Returns
        -------
        np.ndarray
            float32 (batch, n_chans, n_times) for `eeg`, (batch, 1 + n_patches, dim) for `eeg_features`.
        """
        ...


class WindowSegments:
    """Signals that are cut and normalised when read.

    Parameters
    ----------
    windows : Windows
        The windows of one side of the split.
    """

    key: Literal["eeg", "eeg_features"] = "eeg"

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Read signals."""
        return self._windows.read(ids)


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
    """Outputs of the frozen tower.

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

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Read features."""
        return self._features.read(self.rows(ids))


def _first_windows(windows: Windows, every: Windows) -> np.ndarray:
    """Number of the first window of each row of `windows.trials`, among all windows."""
    starts = np.concatenate([[0], every.ends[:-1]])
    keys = zip(every.trials["recording_id"], every.trials["start"], strict=True)
    known = dict(zip(keys, starts.tolist(), strict=True))
    wanted = zip(windows.trials["recording_id"], windows.trials["start"], strict=True)
    return np.array([known[key] for key in wanted], dtype=np.int64)
