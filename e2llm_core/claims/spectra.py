"""Windows in the frequency domain, as all kinds of claims measure them. What several kinds need is computed once."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from e2llm_core.claims.montage import Montage
from storage.signal.bands import BANDS


@dataclass(frozen=True)
class Spectra:
    """Windows in the frequency domain.

    Attributes
    ----------
    spectrum : np.ndarray
        complex (batch, n_chans, frequencies), as from ``np.fft.rfft``.
    freqs_hz : np.ndarray
        (frequencies,).
    n_times : int
        Samples per window.
    montage : Montage
        The channels.
    """

    spectrum: np.ndarray
    freqs_hz: np.ndarray
    n_times: int
    montage: Montage
    _kept: dict[tuple[str, str], np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def average(self) -> np.ndarray:
        """float32 (regions, n_chans): weights of the mean over a region's channels."""
        return self.montage.average

    @property
    def sfreq_hz(self) -> float:
        """Sampling rate."""
        return float(self.freqs_hz[1] * self.n_times)

    @cached_property
    def power(self) -> np.ndarray:
        """Squared magnitude per sample (batch, n_chans, frequencies)."""
        power: np.ndarray = (np.abs(self.spectrum) ** 2) / self.n_times
        return power

    def inside(self, band: str) -> np.ndarray:
        """Mark the frequencies of a band."""
        low, high = BANDS[band]
        return (self.freqs_hz >= low) & (self.freqs_hz < high)

    def log_power(self, band: str) -> np.ndarray:
        """Logarithm of the mean power of a region's channels in a band (batch, regions)."""
        if ("power", band) not in self._kept:
            mean = self.power[..., self.inside(band)].mean(axis=-1)
            self._kept["power", band] = np.log(mean @ self.average.T + 1e-6)
        return self._kept["power", band]

    def envelope(self, band: str) -> np.ndarray:
        """Squared band-limited signal, averaged over a region's channels (batch, regions, n_times)."""
        if ("envelope", band) not in self._kept:
            squared = np.fft.irfft(self.spectrum * self.inside(band), self.n_times) ** 2
            self._kept["envelope", band] = np.einsum("rc,bct->brt", self.average, squared)
        return self._kept["envelope", band]

    def swing(self, band: str) -> np.ndarray:
        """Squared magnitude of the envelope's deviations from its mean (batch, regions, frequencies)."""
        if ("swing", band) not in self._kept:
            envelope = self.envelope(band)
            centred = envelope - envelope.mean(axis=-1, keepdims=True)
            self._kept["swing", band] = np.abs(np.fft.rfft(centred)) ** 2
        return self._kept["swing", band]
