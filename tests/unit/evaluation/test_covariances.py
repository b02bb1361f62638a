"""Covariances of bands: shrinkage, re-centring, and the tangent space."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import oas

from e2llm_core.evaluation.references.features.covariance import BandCovariances, band_covariances, shrunk

SFREQ_HZ, BANDS = 128.0, 5
KIND = BandCovariances()


def windows(number: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 8, (number, 4, 256)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(8, 80), st.integers(0, 10_000))
def test_shrinkage_is_that_of_scikit_learn(n_chans, n_times, seed):
    signal = np.random.default_rng(seed).normal(size=(n_chans, n_times))
    expected, _ = oas(signal.T, assume_centered=True)
    np.testing.assert_allclose(shrunk(signal @ signal.T / n_times, n_times), expected, rtol=1e-9, atol=1e-12)


def test_the_bands_of_white_noise_add_up_to_its_covariance():
    eeg = windows(40)
    made = band_covariances(eeg, SFREQ_HZ)
    assert made.shape == (40, BANDS, 4, 4)
    assert (np.linalg.eigvalsh(made) > 0).all()
    share = (50 - 1) / (SFREQ_HZ / 2)
    assert np.trace(made.sum(axis=1), axis1=1, axis2=2).mean() == pytest.approx(4 * 64 * share, rel=0.05)
    assert np.isfinite(np.linalg.cholesky(band_covariances(np.zeros((1, 4, 256)), SFREQ_HZ))).all()


@pytest.mark.parametrize(("n_times", "sfreq_hz", "words"), [(256, 90.0, "sampling rate"), (20, 128.0, "no frequency")])
def test_what_cannot_be_measured_is_refused(n_times, sfreq_hz, words):
    with pytest.raises(ValueError, match=words):
        band_covariances(np.zeros((1, 2, n_times)), sfreq_hz)


def adapted(eeg: np.ndarray, rule: str, train: np.ndarray | None = None) -> np.ndarray:
    features = KIND.measure(eeg, SFREQ_HZ)
    groups, order = np.repeat("one", len(eeg)), np.arange(len(eeg))
    train = np.ones(len(eeg), bool) if train is None else train
    return KIND.in_fold(KIND.adapt(features, groups, rule, order), train, rule)


def test_recentring_removes_what_mixes_a_whole_session():
    """Electrodes that were put on otherwise mix the channels; distances within the session stay."""
    roots = np.random.default_rng(0).normal(size=(30, BANDS, 4, 8))
    mix = np.random.default_rng(1).normal(size=(4, 4)) + 3 * np.eye(4)
    rows, columns = np.triu_indices(4)
    norms = []
    for matrix in (np.eye(4), mix):
        covariances = matrix @ (roots @ roots.swapaxes(-1, -2)) @ matrix.T
        features = covariances[..., rows, columns].reshape(30, -1).astype(np.float32)
        tangents = KIND.adapt(features, np.repeat("one", 30), "transductive-unlabelled", np.arange(30))
        assert tangents.shape == (30, BANDS * 10)
        assert tangents.mean(axis=0) == pytest.approx(0, abs=1e-3)
        norms.append(np.linalg.norm(tangents.reshape(30, BANDS, 10), axis=2))
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)


def test_adaptation_in_time_knows_nothing_of_what_comes_later():
    eeg = windows(12)
    features = KIND.measure(eeg, SFREQ_HZ)
    groups, order = np.repeat("one", 12), np.random.default_rng(0).permutation(12)
    made = KIND.adapt(features, groups, "causal", order)
    changed = features.copy()
    changed[order >= 6] *= 4
    again = KIND.adapt(changed, groups, "causal", order)
    assert np.array_equal(again[order < 6], made[order < 6])
    assert not np.allclose(again[order >= 7], made[order >= 7])
    (first,) = np.flatnonzero(order == 0)
    assert made[first, :4] == pytest.approx([1, 0, 0, 0], abs=1e-5), "the first window is its own mean"


def test_without_adaptation_the_tangent_space_lies_at_the_training_mean():
    eeg, train = windows(30), np.arange(30) < 20
    tangents = adapted(eeg, "none", train)
    assert tangents[train].mean(axis=0) == pytest.approx(0, abs=1e-3)
    eeg[~train] *= 9
    assert np.array_equal(adapted(eeg, "none", train)[train], tangents[train]), "the test side is not looked at"
