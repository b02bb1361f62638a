"""Covariance matrices of five bands, on the manifold of positive definite matrices.

Shape suffixes: B batch, K bands, C channels, D = C (C + 1) / 2 entries of an upper triangle.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyriemann.geometry.base import invsqrtm
from pyriemann.geometry.geodesic import geodesic_riemann
from pyriemann.geometry.mean import mean_riemann
from pyriemann.geometry.tangentspace import tangent_space

from e2llm_core.evaluation.references.features.base import Features
from storage.normalisation.rules import Adaptation
from storage.signal.bands import BANDS

_TOLERANCE = 1e-5
_MOST_IN_MEAN = 1_000
_FLOOR_UV2 = 1e-6


def shrunk(covariance_BCC: NDArray[np.floating], num_samples: float) -> NDArray[np.float64]:
    """Oracle approximating shrinkage of covariance matrices towards multiples of the identity.

    Parameters
    ----------
    covariance_BCC
        Empirical covariances, in square microvolts.
    num_samples
        Number of independent samples that each covariance is estimated from.

    References
    ----------
    Chen, Wiesel, Eldar and Hero (2010), Shrinkage algorithms for MMSE covariance estimation, IEEE Transactions on
    Signal Processing 58(10), equation 23, in the form that scikit-learn computes.
    """
    n_chans = covariance_BCC.shape[-1]
    mean_variance = np.trace(covariance_BCC, axis1=-2, axis2=-1) / n_chans
    mean_square = (covariance_BCC**2).mean(axis=(-2, -1))
    above = mean_square + mean_variance**2
    below = (num_samples + 1) * (mean_square - mean_variance**2 / n_chans)
    weight = np.minimum(np.divide(above, below, out=np.ones_like(above), where=below > 0), 1.0)[..., None, None]
    target = np.maximum(mean_variance, _FLOOR_UV2)[..., None, None] * np.eye(n_chans)
    return np.asarray((1 - weight) * covariance_BCC + weight * target, dtype=np.float64)


def band_covariances(eeg_uv: NDArray[np.floating], sfreq_hz: float) -> NDArray[np.float64]:
    """Shrunk covariance (B, K, C, C) of each band of `BANDS`, from the band's Fourier coefficients.

    A window holds two independent samples per frequency bin of a band, far fewer than its samples in time; shrinkage
    takes that into account.

    Parameters
    ----------
    eeg_uv
        Windows (B, n_chans, n_times) in microvolts.
    sfreq_hz
        Sampling rate in hertz.

    Raises
    ------
    ValueError
        If a band lies above the Nyquist frequency or holds no frequency bin.
    """
    if max(high for _, high in BANDS.values()) > sfreq_hz / 2:
        raise ValueError(f"the bands {dict(BANDS)} need a higher sampling rate than {sfreq_hz:g} Hz")
    n_times = eeg_uv.shape[-1]
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq_hz)
    spectrum = np.fft.rfft(eeg_uv.astype(np.float64), axis=-1)
    made = []
    for low, high in BANDS.values():
        band = spectrum[..., (freqs >= low) & (freqs < high)]
        if not band.shape[-1]:
            raise ValueError(f"{n_times} samples at {sfreq_hz:g} Hz hold no frequency from {low:g} to {high:g} Hz")
        power = 2 * (band @ band.conj().swapaxes(-1, -2)).real / n_times**2
        made.append(shrunk(power, 2 * band.shape[-1]))
    return np.stack(made, axis=1)


class BandCovariances(Features):
    """Shrunk covariances of five bands, re-centred on the identity in each session and mapped to the tangent space.

    Under ``transductive-unlabelled`` each matrix C becomes M^-1/2 C M^-1/2 with the Riemannian mean M of its session,
    under ``causal`` with the mean of the session's matrices so far. The tangent space is taken at the mean of the
    training matrices; if every session's mean is the identity, so is this one, whatever the fold.

    References
    ----------
    Barachant, Bonnet, Congedo and Jutten (2012), Multiclass brain-computer interface classification by Riemannian
    geometry. Zanini, Congedo, Jutten, Said and Berthoumieu (2018), Transfer learning: a Riemannian geometry framework.
    """

    name = "covariance"

    def measure(self, eeg_uv: NDArray[np.floating], sfreq_hz: float) -> NDArray[np.float32]:
        """Upper triangles (B, K * D) in square microvolts, band by band."""
        return _flat(band_covariances(eeg_uv, sfreq_hz))

    def adapt(
        self, features: NDArray[np.float32], groups: NDArray, rule: Adaptation, order: ArrayLike
    ) -> NDArray[np.float32]:
        """Re-centre each session; under ``transductive-unlabelled``, map to the tangent space as well."""
        if rule == "none":
            return features
        columns = np.asarray(order).reshape(len(features), -1)
        adapted = np.empty_like(features)
        for name in np.unique(groups):
            rows = np.flatnonzero(groups == name)
            rows = rows[np.lexsort(columns[rows].T[::-1])]
            for band, matrices in _bands(features[rows]):
                if rule == "causal":
                    adapted[rows, band] = _upper(_recentred_in_time(matrices))
                else:
                    adapted[rows, band] = tangent_space(matrices, mean_riemann(matrices, tol=_TOLERANCE))
        return adapted

    def in_fold(self, features: NDArray[np.float32], train: NDArray[np.bool_], rule: Adaptation) -> NDArray[np.float32]:
        """Tangent vectors (n, K * D) at the mean of at most 1,000 training matrices, evenly spread."""
        if rule == "transductive-unlabelled":
            return features
        fitted = np.flatnonzero(train)
        fitted = fitted[np.linspace(0, len(fitted) - 1, min(len(fitted), _MOST_IN_MEAN)).astype(int)]
        mapped = np.empty_like(features)
        for band, matrices in _bands(features):
            mapped[:, band] = tangent_space(matrices, mean_riemann(matrices[fitted], tol=_TOLERANCE))
        return mapped


def _upper(matrices: NDArray[np.floating]) -> NDArray[np.floating]:
    rows, columns = np.triu_indices(matrices.shape[-1])
    return matrices[..., rows, columns]


def _flat(covariances_BKCC: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(_upper(covariances_BKCC).reshape(len(covariances_BKCC), -1), dtype=np.float32)


def _bands(features: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Columns of each band, and its matrices (B, C, C)."""
    size = features.shape[1] // len(BANDS)
    n_chans = round((np.sqrt(8 * size + 1) - 1) / 2)
    rows, columns = np.triu_indices(n_chans)
    for number in range(len(BANDS)):
        band = slice(number * size, (number + 1) * size)
        matrices = np.empty((len(features), n_chans, n_chans))
        matrices[:, rows, columns] = matrices[:, columns, rows] = features[:, band]
        yield band, matrices


def _recentred_in_time(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Re-centre each matrix by the mean of all up to and including it; this mean is updated along geodesics."""
    recentred, mean = np.empty_like(matrices), matrices[0]
    for number, matrix in enumerate(matrices):
        if number:
            mean = geodesic_riemann(mean, matrix, 1 / (number + 1))
        root = invsqrtm(mean)
        recentred[number] = root @ matrix @ root
    return recentred
