"""Differential entropy of five bands, and the removal of differences between recordings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal as sps

from storage.normalisation.rules import Adaptation
from storage.signal.bands import BANDS

_VARIANCE_FLOOR_UV2 = 1e-6
_MAX_VALUES_PER_BLOCK = 16_000_000


def band_power(
    eeg: NDArray[np.floating], sfreq_hz: float, bands_hz: Mapping[str, tuple[float, float]] = BANDS
) -> NDArray[np.float32]:
    """Variance of each channel in each band, by Welch's method (2-s Hann segments, half overlapping).

    Parameters
    ----------
    eeg
        Shape (batch, n_chans, n_times), microvolts.
    sfreq_hz
        Sampling rate in hertz.
    bands_hz
        Half-open bands in hertz, by name.

    Returns
    -------
    array, shape (batch, n_chans, n_bands)
        Variances in square microvolts.

    Raises
    ------
    ValueError
        If the shape is wrong, a band lies above the Nyquist frequency, or the window is too short to hold one
        frequency bin of every band.
    """
    if eeg.ndim != 3:
        raise ValueError(f"expected (batch, n_chans, n_times), got {eeg.shape}")
    highest = max(high for _, high in bands_hz.values())
    if highest > sfreq_hz / 2:
        raise ValueError(f"a band up to {highest:g} Hz needs a sampling rate of {2 * highest:g} Hz, got {sfreq_hz:g}")
    n_batch, n_chans, n_times = eeg.shape
    segment = min(n_times, round(2 * sfreq_hz))
    frequencies = np.fft.rfftfreq(segment, 1 / sfreq_hz)
    masks = np.stack([(frequencies >= low) & (frequencies < high) for low, high in bands_hz.values()])
    if not masks.any(axis=1).all():
        raise ValueError(f"{n_times} samples at {sfreq_hz:g} Hz are too short to separate the bands {dict(bands_hz)}")
    power = np.empty((n_batch, n_chans, len(masks)), dtype=np.float32)
    step = max(1, _MAX_VALUES_PER_BLOCK // max(1, n_chans * n_times))
    for first in range(0, n_batch, step):
        block = np.asarray(eeg[first : first + step], dtype=np.float32)
        _, density = sps.welch(block, fs=sfreq_hz, nperseg=segment, detrend="constant")
        power[first : first + step] = density @ masks.T.astype(density.dtype) * (sfreq_hz / segment)
    return power


def differential_entropy(eeg: NDArray[np.floating], sfreq_hz: float) -> NDArray[np.float32]:
    """Differential entropy ``0.5 log(2 pi e variance)`` of a Gaussian signal, per channel and band.

    Parameters
    ----------
    eeg
        Shape (batch, n_chans, n_times), microvolts.
    sfreq_hz
        Sampling rate in hertz.

    Returns
    -------
    array, shape (batch, n_chans * 5)
        Nats; channel by channel, the bands of `BANDS` within each. A flat channel is floored at 1e-6 uV^2.

    Raises
    ------
    ValueError
        As `band_power`.

    References
    ----------
    Duan, Zhu and Lu (2013), Differential entropy feature for EEG-based emotion classification.
    """
    power = np.maximum(band_power(eeg, sfreq_hz), _VARIANCE_FLOOR_UV2)
    return np.asarray(0.5 * np.log(2 * np.pi * np.e * power), dtype=np.float32).reshape(len(eeg), -1)


def adapt(
    features: NDArray[np.floating], groups: ArrayLike, rule: Adaptation, order: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Remove differences between recordings, without labels.

    Parameters
    ----------
    features
        Shape (n, d).
    groups
        Identifier of each row's subject and session.
    rule
        ``none`` leaves the features alone; ``transductive-unlabelled`` z-scores them by the mean and standard
        deviation of all rows of the same group, test rows included, labels never; ``causal`` by those of the group's
        rows up to and including the row itself, so that a group's first row becomes zero.
    order
        For ``causal``, one or more columns (n,) or (n, k) that sort each group's rows by the time at which they ended,
        the first column foremost.

    Raises
    ------
    ValueError
        If the rule is unknown, the lengths disagree, or ``causal`` is asked for without an order.
    """
    names = np.asarray(groups)
    if len(names) != len(features):
        raise ValueError(f"{len(features)} rows of features but {len(names)} groups")
    adapted = np.array(features, dtype=np.float32)
    if rule == "none":
        return adapted
    if rule == "causal":
        return _causal(adapted, names, order)
    if rule != "transductive-unlabelled":
        raise ValueError(f"adaptation {rule!r} is not one of none, causal, transductive-unlabelled")
    for name in np.unique(names):
        rows = names == name
        spread = adapted[rows].std(axis=0)
        adapted[rows] = (adapted[rows] - adapted[rows].mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0)
    return adapted


def _causal(features: NDArray[np.float32], names: NDArray, order: ArrayLike | None) -> NDArray[np.float32]:
    if order is None:
        raise ValueError("adaptation causal needs the order of the rows in time")
    columns = np.asarray(order).reshape(len(features), -1)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        rows = rows[np.lexsort(columns[rows].T[::-1])]
        own = features[rows].astype(np.float64)
        own -= own[0]
        number = np.arange(1, len(own) + 1)[:, None]
        mean = own.cumsum(axis=0) / number
        spread = np.sqrt(np.maximum((own**2).cumsum(axis=0) / number - mean**2, 0.0))
        features[rows] = (own - mean) / np.where(spread > 1e-6, spread, 1.0)
    return features
