"""Quantities of a window that a sentence can speak of.

All are computed from session-whitened windows (`storage.windows`), in which every channel's average spectrum over its
session is flat from 0.5 to 50 Hz and zero elsewhere. The level of a value says nothing: white noise of variance 1
would have a power of 1 in every bin, but here the variance of 1 lies in 49.5 Hz, so the session's average band power is
about ``sfreq_hz / 2 / 49.5`` (2.6 at 256 Hz), and the average of its logarithms lies below the logarithm of that. What
a sentence calls the session average is therefore measured: the mean of the quantity over the session's windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from storage.signal.bands import BANDS
from storage.signal.channels import REGIONS, region_of

BURST_BANDS = ("beta", "gamma")
BURST_HZ = (0.75, 1.5)
ENVELOPE_HZ = (0.25, 4.25)


@dataclass(frozen=True)
class Quantity:
    """One number per window: a region's log band power, or how much of its envelope swings about once a second."""

    kind: Literal["power", "bursts"]
    band: str
    region: str

    @property
    def name(self) -> str:
        """Kind, band and region in words, as files name it."""
        return f"{self.kind} {self.band} {self.region}"


class SignalMeasures:
    """Measures windows of one montage, rate and length.

    Parameters
    ----------
    channels : sequence of str
        Canonical channel names.
    sfreq_hz : float
        Sampling rate.
    n_times : int
        Samples per window.
    """

    def __init__(self, channels: Sequence[str], sfreq_hz: float, n_times: int) -> None:
        regions = np.array([region_of(name) for name in channels])
        self.regions = tuple(region for region in REGIONS if (regions == region).any())
        members = np.stack([regions == region for region in self.regions]).astype(np.float32)
        self._average = members / members.sum(axis=1, keepdims=True)
        self._sfreq_hz, self._n_times = sfreq_hz, n_times
        powers = [Quantity("power", band, region) for band in BANDS for region in self.regions]
        bursts = [Quantity("bursts", band, region) for band in BURST_BANDS for region in self.regions]
        self.quantities: tuple[Quantity, ...] = (*powers, *bursts)
        self.names = tuple(quantity.name for quantity in self.quantities)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Measure session-whitened windows: (batch, n_chans, n_times) -> float32 (batch, len(quantities))."""
        spectrum = np.fft.rfft(windows)
        freqs = np.fft.rfftfreq(self._n_times, 1 / self._sfreq_hz)
        power = (np.abs(spectrum) ** 2) / self._n_times
        columns = []
        for low, high in BANDS.values():
            inside = (freqs >= low) & (freqs < high)
            columns.append(np.log(self._by_region(power[..., inside].mean(axis=-1)) + 1e-6))
        columns += [self._bursts(spectrum, freqs, BANDS[band]) for band in BURST_BANDS]
        return np.concatenate(columns, axis=1).astype(np.float32)

    def _bursts(self, spectrum: np.ndarray, freqs: np.ndarray, band: tuple[float, float]) -> np.ndarray:
        """Share of the envelope's slow power that lies around one swing a second."""
        inside = (freqs >= band[0]) & (freqs < band[1])
        squared = np.fft.irfft(spectrum * inside, self._n_times) ** 2
        envelope = np.einsum("rc,bct->brt", self._average, squared)
        swing = np.abs(np.fft.rfft(envelope - envelope.mean(axis=-1, keepdims=True))) ** 2
        slow = (freqs >= ENVELOPE_HZ[0]) & (freqs < ENVELOPE_HZ[1])
        once = (freqs >= BURST_HZ[0]) & (freqs < BURST_HZ[1])
        return swing[..., once].sum(axis=-1) / (swing[..., slow].sum(axis=-1) + 1e-9)

    def patch_powers(self, windows: np.ndarray, patch_size: int) -> np.ndarray:
        """Log band power patch by patch, from theta up (a 250-ms patch resolves 4 Hz).

        Returns
        -------
        np.ndarray
            float32 (batch, patches, regions * 4).
        """
        patches = windows.reshape(*windows.shape[:2], -1, patch_size) * np.hanning(patch_size).astype(np.float32)
        power = np.abs(np.fft.rfft(patches)) ** 2
        freqs = np.fft.rfftfreq(patch_size, 1 / self._sfreq_hz)
        columns = []
        for low, high in list(BANDS.values())[1:]:
            mean = power[..., (freqs >= low) & (freqs < high)].mean(axis=-1)
            columns.append(np.log(np.einsum("rc,bcn->bnr", self._average, mean) + 1e-6))
        return np.concatenate(columns, axis=-1).astype(np.float32)

    def _by_region(self, values: np.ndarray) -> np.ndarray:
        return values @ self._average.T


@dataclass(frozen=True)
class Reference:
    """Spread of each quantity's deviation from its session's average, over the windows that a model was fitted to."""

    std: np.ndarray

    @classmethod
    def fit(cls, deviations: np.ndarray) -> "Reference":
        """From deviations (windows, quantities)."""
        return cls(deviations.std(axis=0) + 1e-6)

    def standardise(self, deviations: np.ndarray) -> np.ndarray:
        """Divide deviations (windows, quantities) by their spread; no sign changes."""
        return (deviations / self.std).astype(np.float32)
