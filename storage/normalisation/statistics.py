"""Running statistics of a signal, and how they normalise windows."""

from typing import Protocol

import numpy as np

from storage.normalisation.whitening import SpectrumSum, apply_whitening, whitened_bins


class Statistics(Protocol):
    """Running statistics of a signal, and how they normalise windows."""

    def add(self, windows: np.ndarray) -> None:
        """Count in windows (n, n_chans, n_times) in µV."""

    def parameters(self) -> np.ndarray:
        """Coefficients of the normalisation: float32, always of the same shape."""

    @staticmethod
    def apply(windows: np.ndarray, parameters: np.ndarray, sfreq_hz: float) -> np.ndarray:
        """Normalise windows (n, n_chans, n_times), each by its own of (n, ...) parameters; float32."""


class ZScore:
    """Mean and standard deviation of each channel; a flat channel becomes zero."""

    def __init__(self, sfreq_hz: float) -> None:
        self._count = 0
        self._mean: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0

    def add(self, windows: np.ndarray) -> None:
        """Count in windows (n, n_chans, n_times) in µV."""
        signal = np.moveaxis(np.asarray(windows, dtype=np.float64), 1, 0).reshape(windows.shape[1], -1)
        number, mean = signal.shape[1], signal.mean(axis=1)
        total, moved = self._count + number, mean - self._mean
        self._squares = self._squares + signal.var(axis=1) * number + moved**2 * self._count * number / total
        self._mean = self._mean + moved * number / total
        self._count = total

    def parameters(self) -> np.ndarray:
        """float32 (n_chans, 2): mean in µV, and one over the standard deviation."""
        mean = np.asarray(self._mean)
        std = np.sqrt(np.asarray(self._squares) / self._count)
        inverse = np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-6 * (1 + np.abs(mean)))
        return np.stack([mean, inverse], axis=-1).astype(np.float32)

    @staticmethod
    def apply(windows: np.ndarray, parameters: np.ndarray, sfreq_hz: float) -> np.ndarray:
        """(x - mean) / std per channel."""
        mean, inverse = parameters[..., :1], parameters[..., 1:]
        normalised: np.ndarray = ((windows - mean) * inverse).astype(np.float32)
        return normalised


class Whitening:
    """Average spectrum of each channel, average-referenced; kept within the whitened band only."""

    def __init__(self, sfreq_hz: float) -> None:
        self._sfreq_hz, self._sum = sfreq_hz, SpectrumSum()

    def add(self, windows: np.ndarray) -> None:
        """Count in windows (n, n_chans, n_times) in µV."""
        for window in windows:
            self._sum.add(window)

    def parameters(self) -> np.ndarray:
        """float32 (n_chans, n_freqs in band): gains."""
        gains = self._sum.gains(self._sfreq_hz)
        return gains[:, whitened_bins(self._sum.n_times, self._sfreq_hz)]

    @staticmethod
    def apply(windows: np.ndarray, parameters: np.ndarray, sfreq_hz: float) -> np.ndarray:
        """Filter to a flat spectrum and unit variance."""
        inside = whitened_bins(windows.shape[-1], sfreq_hz)
        gains = np.zeros((*parameters.shape[:2], len(inside)), dtype=np.float32)
        gains[..., inside] = parameters
        return apply_whitening(windows, gains)
