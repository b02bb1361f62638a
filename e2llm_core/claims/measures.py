"""Quantities of a window that a sentence can speak of.

What windows they are computed from follows the rule of adaptation (`e2llm_core.stages.measured`). In session-whitened
windows (`storage.windows`) every channel's average spectrum over its session is flat from 0.5 to 50 Hz and zero
elsewhere. The level of a value then says nothing: white noise of variance 1 would have a power of 1 in every bin, but
here the variance of 1 lies in 49.5 Hz, so the session's average band power is about ``sfreq_hz / 2 / 49.5`` (2.6 at 256
Hz), and the average of its logarithms lies below the logarithm of that. What a sentence calls an average is therefore
measured: the mean of the quantity over the windows of the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.montage import Montage
from e2llm_core.claims.spectra import Spectra
from e2llm_core.claims.table import DEFAULT_KINDS, kinds_named, quantities_of
from e2llm_core.claims.wording import Reference
from storage.errors import InputError
from storage.signal.bands import BANDS


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
    kinds : sequence of str
        Names of the kinds of claim to measure.
    """

    def __init__(
        self, channels: Sequence[str], sfreq_hz: float, n_times: int, kinds: Sequence[str] = DEFAULT_KINDS
    ) -> None:
        self._montage = Montage(tuple(channels))
        self.regions = self._montage.regions
        self._sfreq_hz, self._n_times = sfreq_hz, n_times
        self.quantities: tuple[Quantity, ...] = quantities_of(channels, kinds)
        self._kinds = kinds_named(kinds)
        self.names = tuple(quantity.name for quantity in self.quantities)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Measure windows: (batch, n_chans, n_times) -> float32 (batch, len(quantities))."""
        freqs_hz = np.fft.rfftfreq(self._n_times, 1 / self._sfreq_hz)
        spectra = Spectra(np.fft.rfft(windows), freqs_hz, self._n_times, self._montage)
        columns = [column for kind in self._kinds for column in kind.measurements(spectra)]
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
            columns.append(np.log(np.einsum("rc,bcn->bnr", self._montage.average, mean) + 1e-6))
        return np.concatenate(columns, axis=-1).astype(np.float32)


@dataclass(frozen=True)
class QuantityScaler:
    """Reference, spread and reliability of each quantity over the windows that a model was fitted to.

    Attributes
    ----------
    names : tuple of str
        The quantities.
    std : np.ndarray
        (quantities,): standard deviation of the deviations from the reference.
    mean : np.ndarray
        (quantities,): the reference itself where it is the population; 0 where it is the session's own, which is
        subtracted where windows are measured.
    reliability : np.ndarray
        (quantities,): correlation with the neighbouring window; NaN where it is not known.
    """

    names: tuple[str, ...]
    std: np.ndarray
    mean: np.ndarray
    reliability: np.ndarray

    @classmethod
    def fit(
        cls, names: tuple[str, ...], deviations: np.ndarray, reliability: np.ndarray, reference: Reference
    ) -> "QuantityScaler":
        """From deviations (windows, quantities); the spread of a constant is 1, in its own unit."""
        spread = deviations.std(axis=0)
        centre = deviations.mean(axis=0, dtype=np.float64)
        mean = (centre if reference == "population" else np.zeros_like(centre)).astype(np.float32)
        return cls(names, np.where(spread > 0, spread, 1.0) + 1e-6, mean, reliability)

    def standardise(self, deviations: np.ndarray) -> np.ndarray:
        """Deviations (windows, quantities), as `MeasuredWindows` gives them, from the reference in units of spread."""
        return ((deviations - self.mean) / self.std).astype(np.float32)

    def of(self, names: Sequence[str], place: str) -> "QuantityScaler":
        """The same for these quantities, in this order.

        Raises
        ------
        InputError
            Naming the quantities that `place`, where they were read, lacks or has besides.
        """
        column = {name: number for number, name in enumerate(self.names)}
        missing = ", ".join(name for name in names if name not in column)
        unknown = ", ".join(name for name in self.names if name not in names)
        if missing or unknown:
            lacks = [f"lacks the quantities: {missing}"] if missing else []
            holds = [f"holds quantities that are not measured here: {unknown}"] if unknown else []
            raise InputError(
                place,
                "; ".join(lacks + holds),
                "Run stage 1 and the stages after it again, or name its kinds in data.claims.",
            )
        order = [column[name] for name in names]
        return QuantityScaler(tuple(names), self.std[order], self.mean[order], self.reliability[order])
