"""Session whitening: a filter per channel that makes a session's own average spectrum flat."""

from collections.abc import Iterable

import numpy as np

WHITENED_BAND_HZ = (0.5, 50.0)
_SMOOTHING_HZ = 1.0


def average_reference(signal: np.ndarray) -> np.ndarray:
    """Subtract the mean over channels (axis -2)."""
    referenced: np.ndarray = signal - signal.mean(axis=-2, keepdims=True)
    return referenced


class SpectrumSum:
    """Power spectra of average-referenced windows, summed as they come."""

    def __init__(self) -> None:
        self.n_times = self._num_windows = 0
        self._power: np.ndarray | float = 0.0

    def add(self, window: np.ndarray) -> None:
        """Count in a window (n_chans, n_times) in µV, any reference; average-referenced here."""
        self.n_times = window.shape[-1]
        self._power = self._power + np.abs(np.fft.rfft(average_reference(window))) ** 2
        self._num_windows += 1

    def gains(self, sfreq_hz: float) -> np.ndarray:
        """Gains that make the average spectrum so far flat; see `whitening_gains`."""
        if not self._num_windows:
            raise ValueError("whitening needs at least one window")
        inside = whitened_bins(self.n_times, sfreq_hz)
        spectrum = np.asarray(self._power)[:, inside] / self._num_windows
        smooth = _smoothed(spectrum, max(1, round(_SMOOTHING_HZ * self.n_times / sfreq_hz)))
        gains = np.zeros((len(spectrum), len(inside)), dtype=np.float32)
        relative = np.divide(spectrum, smooth, out=np.zeros_like(smooth), where=smooth > 0)
        weights = _bin_weights(self.n_times)[inside]
        variance = (relative * weights).sum(axis=1, keepdims=True) / self.n_times**2
        squared = np.divide(1.0, smooth * variance, out=np.zeros_like(smooth), where=smooth > 0)
        gains[:, inside] = np.sqrt(squared)
        return gains


def whitening_gains(windows: Iterable[np.ndarray], sfreq_hz: float) -> np.ndarray:
    """Gains that make a session's average spectrum flat and its variance one.

    The spectrum is smoothed over 1 Hz within 0.5-50 Hz alone: offset, drift and line noise outside that band
    do not lower the gains at its edges.

    Parameters
    ----------
    windows : np.ndarray or iterable of np.ndarray
        Windows (n_chans, n_times) in µV, any reference; average-referenced here.
    sfreq_hz : float
        Sampling rate.

    Returns
    -------
    np.ndarray
        float32 (n_chans, n_times // 2 + 1); zero outside 0.5-50 Hz and for channels without signal.
    """
    spectra = SpectrumSum()
    for window in windows:
        spectra.add(window)
    return spectra.gains(sfreq_hz)


def whitened_bins(n_times: int, sfreq_hz: float) -> np.ndarray:
    """Mark the bins of a real transform of `n_times` samples that are in the whitened band."""
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq_hz)
    inside: np.ndarray = (freqs >= WHITENED_BAND_HZ[0]) & (freqs < WHITENED_BAND_HZ[1])
    return inside


def _bin_weights(n_times: int) -> np.ndarray:
    """How often each bin of a real transform counts in the variance: twice, but once at DC and at Nyquist."""
    weights = np.full(n_times // 2 + 1, 2.0)
    weights[0] = 1.0
    if n_times % 2 == 0:
        weights[-1] = 1.0
    return weights


def _smoothed(spectrum: np.ndarray, width: int) -> np.ndarray:
    """Average over `width` neighbouring bins of the last axis, the edge bins repeated."""
    padded = np.pad(spectrum, ((0, 0), (width // 2, width - 1 - width // 2)), mode="edge")
    smooth: np.ndarray = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1).mean(axis=-1)
    return smooth


def apply_whitening(signal: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Filter average-referenced windows (batch, n_chans, n_times) by gains (batch, n_chans, n_freqs)."""
    spectrum = np.fft.rfft(average_reference(signal)) * gains
    return np.fft.irfft(spectrum, signal.shape[-1]).astype(np.float32)
