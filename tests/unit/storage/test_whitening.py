from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.normalisation.whitening import apply_whitening, average_reference, whitening_gains
from storage.store import Store
from storage.windows import WindowConfig, Windows

CONFIG = WindowConfig(
    window_seconds=2.0,
    stride_seconds=2.0,
    normalisation="session-whitening",
    adaptation="transductive-unlabelled",
)


def coloured(seed: int, windows: int, n_chans: int, n_times: int, sfreq_hz: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.normal(size=(windows, n_chans, n_times)))
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq_hz)
    spectrum *= 1 / np.maximum(freqs, 0.5) * rng.uniform(5, 50, (n_chans, 1))
    return np.fft.irfft(spectrum, n_times)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([(200.0, 400), (256.0, 1024), (80.0, 160), (100.0, 201)]))
def test_variance_is_one(seed: int, shape: tuple[float, int]) -> None:
    """Also where the band reaches Nyquist (80 Hz), which counts once in the variance."""
    sfreq_hz, n_times = shape
    signal = coloured(seed, 12, 4, n_times, sfreq_hz)
    white = apply_whitening(signal, whitening_gains(signal, sfreq_hz)[None])
    assert white.dtype == np.float32
    assert np.allclose(white.astype(float).var(axis=(0, 2)), 1.0, atol=1e-3)
    assert np.abs(white.mean(axis=-1)).max() < 1e-4


def test_spectrum_is_flat_inside_the_band_and_empty_outside() -> None:
    signal = coloured(1, 400, 4, 512, 256.0)
    white = apply_whitening(signal, whitening_gains(signal, 256.0)[None])
    power = (np.abs(np.fft.rfft(white)) ** 2).mean(axis=(0, 1))
    freqs = np.fft.rfftfreq(512, 1 / 256)
    inside = (freqs >= 0.5) & (freqs < 50)
    middle = (freqs >= 2) & (freqs < 49)
    assert np.abs(power[middle] / power[middle].mean() - 1).max() < 0.35
    assert power[~inside].max() < 1e-6 * power[inside].mean()


@pytest.mark.parametrize("disturbance", ["offset", "mains"])
def test_what_lies_outside_the_band_changes_nothing_inside(disturbance: str) -> None:
    signal = coloured(2, 20, 3, 400, 200.0)
    seconds = np.arange(400) / 200
    added = np.full(400, 4200.0) if disturbance == "offset" else 500 * np.sin(2 * np.pi * 50 * seconds)
    disturbed = signal + added * np.array([1.0, -0.4, 0.2])[:, None]
    assert np.allclose(whitening_gains(disturbed, 200.0), whitening_gains(signal, 200.0), rtol=1e-6)


def test_channels_without_signal_stay_silent() -> None:
    signal = np.zeros((3, 2, 400))
    assert not whitening_gains(signal, 200.0).any()
    with pytest.raises(ValueError, match="at least one window"):
        whitening_gains([], 200.0)


def test_average_reference() -> None:
    signal = np.random.default_rng(0).normal(size=(2, 5, 30))
    assert np.abs(average_reference(signal).mean(axis=1)).max() < 1e-12
    assert np.allclose(average_reference(signal + 7.0), average_reference(signal))


def fill(store: Store, describe: Callable, scale: float = 1.0, labels: tuple[str, ...] | None = None) -> Windows:
    for number, (subject, session) in enumerate([("s1", "1"), ("s1", "2"), ("s2", "1")]):
        info = describe(
            f"r{number}",
            lengths=(700, 900),
            channels=("CZ", "PZ", "OZ"),
            subject=subject,
            session=session,
            sfreq_hz=200.0,
        )
        if labels is not None:
            trials = tuple(
                trial.model_copy(update={"label": label}) for trial, label in zip(info.trials, labels, strict=True)
            )
            info = info.model_copy(update={"trials": trials})
        signal = coloured(number, 1, 3, 1600, 200.0)[0]
        store.write_recording(info, signal * (1.0 if (subject, session) == ("s1", "1") else scale))
    return Windows(store, CONFIG)


def test_only_the_own_session_is_used_and_no_label(store: Store, describe: Callable) -> None:
    plain = fill(store, describe)
    own = np.flatnonzero((plain.table["subject"] == "s1") & (plain.table["session"] == "1"))
    before = plain.read(own)
    assert np.array_equal(fill(store, describe, scale=9.0).read(own), before)
    assert np.array_equal(fill(store, describe, labels=("rest", "rest")).read(own), before)
    assert np.array_equal(Windows(store, CONFIG, store.trials.query("subject == 's1'")).read(own), before)


def test_a_session_is_whitened_by_all_of_it(store: Store, describe: Callable) -> None:
    windows = fill(store, describe)
    own = (windows.table["subject"] == "s1") & (windows.table["session"] == "2")
    white = windows.read(np.flatnonzero(own))
    raw = Windows(store, WindowConfig(window_seconds=2.0, stride_seconds=2.0)).read(np.flatnonzero(own))
    expected = apply_whitening(raw, whitening_gains(raw, 200.0)[None])
    assert np.allclose(white, expected, atol=1e-5)
    one = windows.read(np.flatnonzero(own)[:1])
    assert np.array_equal(one, white[:1])
