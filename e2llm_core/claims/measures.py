"""Quantities of a window that a sentence can speak of.

All are computed from session-whitened windows (`storage.windows`), in which every channel's average spectrum over its
session is flat from 0.5 to 50 Hz and zero elsewhere. The level of a value says nothing: white noise of variance 1
would have a power of 1 in every bin, but here the variance of 1 lies in 49.5 Hz, so the session's average band power is
about ``sfreq_hz / 2 / 49.5`` (2.6 at 256 Hz), and the average of its logarithms lies below the logarithm of that. What
a sentence calls the session average is therefore measured: the mean of the quantity over the session's windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e2llm_core.claims.kind import Quantity, Spectra
from e2llm_core.claims.table import CLAIM_KINDS, quantities_in
from storage.errors import InputError
from storage.signal.bands import BANDS
from storage.signal.channels import REGIONS, region_of


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
        self.quantities: tuple[Quantity, ...] = quantities_in(self.regions)
        self.names = tuple(quantity.name for quantity in self.quantities)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Measure session-whitened windows: (batch, n_chans, n_times) -> float32 (batch, len(quantities))."""
        freqs_hz = np.fft.rfftfreq(self._n_times, 1 / self._sfreq_hz)
        spectra = Spectra(np.fft.rfft(windows), freqs_hz, self._n_times, self._average)
        columns = [kind.measure(spectra, band) for kind in CLAIM_KINDS.values() for band in kind.bands]
        return np.concatenate(columns, axis=1).astype(np.float32)

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


@dataclass(frozen=True)
class QuantityScaler:
    """Spread of each quantity's deviation from its session's average, over the windows that a model was fitted to.

    Attributes
    ----------
    names : tuple of str
        The quantities.
    std : np.ndarray
        (quantities,).
    """

    names: tuple[str, ...]
    std: np.ndarray

    @classmethod
    def fit(cls, names: tuple[str, ...], deviations: np.ndarray) -> "QuantityScaler":
        """From deviations (windows, quantities)."""
        return cls(names, deviations.std(axis=0) + 1e-6)

    def standardise(self, deviations: np.ndarray) -> np.ndarray:
        """Divide deviations (windows, quantities) by their spread; no sign changes."""
        return (deviations / self.std).astype(np.float32)

    def of(self, names: Sequence[str], place: str) -> "QuantityScaler":
        """The spread of these quantities, in this order.

        Raises
        ------
        InputError
            Naming the quantities that `place`, where the spread was read, lacks or has besides.
        """
        known = dict(zip(self.names, self.std.tolist(), strict=True))
        missing = ", ".join(name for name in names if name not in known)
        unknown = ", ".join(name for name in self.names if name not in names)
        if missing or unknown:
            lacks = [f"lacks the quantities: {missing}"] if missing else []
            holds = [f"holds quantities that are not measured here: {unknown}"] if unknown else []
            raise InputError(place, "; ".join(lacks + holds), "Run stage 1 and the stages after it again.")
        return QuantityScaler(tuple(names), np.array([known[name] for name in names], dtype=np.float32))
