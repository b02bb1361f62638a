"""Asymmetry, theta/beta ratio, slope, variability and blinks on signals whose answer is known."""

import numpy as np
import pytest

from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.measures import SignalMeasures
from e2llm_core.claims.montage import Montage
from e2llm_core.claims.table import CLAIM_KINDS
from storage.signal.bands import BANDS
from storage.signal.channels import SEED_CHANNELS, region_of

CHANNELS = ("FP1", "F3", "FP2", "F4", "CZ", "C3", "T7", "T8", "PZ", "O1", "O2")
SFREQ_HZ, N_TIMES = 256.0, 1024
SECONDS, FREQS_HZ = np.arange(N_TIMES) / SFREQ_HZ, np.fft.rfftfreq(N_TIMES, 1 / SFREQ_HZ)
LIMITS_HZ = [(band, np.greater_equal(FREQS_HZ, low), np.less(FREQS_HZ, high)) for band, (low, high) in BANDS.items()]
MEASURED_IN = {band: above & below for band, above, below in LIMITS_HZ}
MEASURES = SignalMeasures(CHANNELS, SFREQ_HZ, N_TIMES, tuple(CLAIM_KINDS))
IN = {region: [region_of(name) == region for name in CHANNELS] for region in Montage(CHANNELS).regions}


def measured(signal: np.ndarray) -> dict[Quantity, np.ndarray]:
    """Values (batch,) of windows (batch, n_chans, n_times), by quantity."""
    return dict(zip(MEASURES.quantities, MEASURES(signal.astype(np.float32)).T, strict=True))


def noise(seed: int = 0, batch: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, len(CHANNELS), N_TIMES))


def louder(signal: np.ndarray, band: str, channels: list[bool], factor: float) -> np.ndarray:
    """The same signal with `factor` times the power in a band of some channels."""
    gain = np.where(MEASURED_IN[band], np.sqrt(factor), 1.0)
    changed = signal.copy()
    changed[:, channels] = np.fft.irfft(np.fft.rfft(signal[:, channels]) * gain, N_TIMES)
    return changed


def changes(before: np.ndarray, after: np.ndarray, kind: str) -> dict[tuple[str, str], np.ndarray]:
    """How much each quantity of a kind changes in each window, by band and region."""
    first, second = measured(before), measured(after)
    return {(q.band, q.region): second[q] - first[q] for q in first if q.kind == kind}


ASYMMETRY = ("alpha", "")


def test_twice_the_alpha_power_on_the_right_raises_asymmetry_by_log_2_and_on_the_left_lowers_it():
    signal = noise()
    right = changes(signal, louder(signal, "alpha", IN["right frontal"], 2.0), "asymmetry")
    left = changes(signal, louder(signal, "alpha", IN["left frontal"], 2.0), "asymmetry")
    np.testing.assert_allclose(right[ASYMMETRY], np.log(2), atol=1e-4)
    np.testing.assert_allclose(left[ASYMMETRY], -np.log(2), atol=1e-4)


@pytest.mark.parametrize(
    ("band", "region"), [("beta", "right frontal"), ("theta", "left frontal"), ("alpha", "occipital"), ("alpha", None)]
)
def test_asymmetry_does_not_react_to_other_bands_and_regions_or_to_both_sides(band, region):
    signal = noise(1)
    channels = [True] * len(CHANNELS) if region is None else IN[region]
    found = changes(signal, louder(signal, band, channels, 3.0), "asymmetry")
    np.testing.assert_allclose(found[ASYMMETRY], 0, atol=1e-4)


@pytest.mark.parametrize(("band", "by"), [("theta", 1.0), ("beta", -1.0), ("alpha", 0.0), ("gamma", 0.0)])
def test_theta_beta_follows_theta_and_beta_of_its_own_region_alone(band, by):
    signal = noise(2)
    found = changes(signal, louder(signal, band, IN["central"], np.e), "theta/beta")
    assert set(found) == {("", region) for region in IN}
    for (_, region), change in found.items():
        np.testing.assert_allclose(change, by if region == "central" else 0, atol=1e-4)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seconds", [1, 4])
def test_the_slope_of_pure_1_over_f_is_its_exponent(exponent, seconds):
    n_times = round(seconds * SFREQ_HZ)
    freqs = np.fft.rfftfreq(n_times, 1 / SFREQ_HZ)
    phases = np.exp(2j * np.pi * np.random.default_rng(3).random((4, len(CHANNELS), len(freqs))))
    spectrum = 1000 * phases * np.maximum(freqs, 0.5) ** (-exponent / 2)
    signal = np.fft.irfft(spectrum, n_times).astype(np.float32)
    measures = SignalMeasures(CHANNELS, SFREQ_HZ, n_times, tuple(CLAIM_KINDS))
    places = [place for place, quantity in enumerate(measures.quantities) if quantity.kind == "slope"]
    np.testing.assert_allclose(measures(signal)[:, places], -exponent, atol=0.01)


def test_the_slope_reacts_to_the_tilt_of_its_region_and_neither_to_an_alpha_rhythm_nor_to_level():
    signal = noise(4)
    tilted = signal.copy()
    tilt = np.maximum(FREQS_HZ, 0.25) ** -0.5
    tilted[:, IN["parietal"]] = np.fft.irfft(np.fft.rfft(signal[:, IN["parietal"]]) * tilt, N_TIMES)
    for (_, region), change in changes(signal, tilted, "slope").items():
        np.testing.assert_allclose(change, -1 if region == "parietal" else 0, atol=1e-3)
    everywhere = [True] * len(CHANNELS)
    for other in (louder(signal, "alpha", everywhere, 20.0), 7 * signal):
        for change in changes(signal, other, "slope").values():
            np.testing.assert_allclose(change, 0, atol=1e-3)


@pytest.mark.parametrize("band", ["alpha", "beta"])
@pytest.mark.parametrize(("swings_hz", "kept"), [(0.5, 0.974), (1.0, 0.900), (2.0, 0.637)])
def test_variability_of_a_swinging_sine_is_that_of_its_patches(band, swings_hz, kept):
    """Power 1 + m cos(wt) has a coefficient of variation of m / sqrt(2), less what a mean over 250 ms takes away."""
    centre_hz, depth = {"alpha": 11.0, "beta": 20.0}[band], 0.8
    carrier = np.sin(2 * np.pi * centre_hz * SECONDS)
    envelope = np.sqrt(1 + depth * np.cos(2 * np.pi * swings_hz * SECONDS))
    signal = np.tile(10 * carrier * envelope, (1, len(CHANNELS), 1))
    steady = np.tile(10 * carrier, (1, len(CHANNELS), 1))
    for region in IN:
        quantity = Quantity("variability", band, region)
        assert measured(signal)[quantity] == pytest.approx(depth / np.sqrt(2) * kept, rel=0.05)
        assert measured(steady)[quantity] < 0.06


def test_variability_reacts_neither_to_level_nor_to_another_band_or_region():
    signal = louder(noise(5), "alpha", [True] * len(CHANNELS), 30.0)
    swing = np.sqrt(1 + 0.9 * np.cos(2 * np.pi * SECONDS))
    swinging = signal.copy()
    swinging[:, IN["occipital"]] *= swing
    for (band, region), change in changes(signal, swinging, "variability").items():
        if region != "occipital":
            np.testing.assert_allclose(change, 0, atol=1e-5, err_msg=band)
    grown = changes(signal, swinging, "variability")
    assert grown["alpha", "occipital"].mean() > 0.2
    for change in changes(signal, 9 * signal, "variability").values():
        np.testing.assert_allclose(change, 0, atol=1e-3)
    for (band, _), change in changes(signal, louder(signal, "beta", IN["central"], 9.0), "variability").items():
        if band == "alpha":
            np.testing.assert_allclose(change, 0, atol=1e-4)


def with_blinks(signal: np.ndarray, onsets_seconds: list[float], amplitudes_uv: list[float]) -> np.ndarray:
    """Raised cosines of 0.3 s at the frontal pole, a quarter of it at F3 and F4."""
    trace = np.zeros(N_TIMES)
    width = round(0.3 * SFREQ_HZ)
    for onset, amplitude in zip(onsets_seconds, amplitudes_uv, strict=True):
        first = round(onset * SFREQ_HZ)
        trace[first : first + width] += amplitude * (0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, width)))
    depth = np.array([{"FP": 1.0, "F": 0.25}.get(name.rstrip("0123456789Z"), 0.0) for name in CHANNELS])
    return signal + depth[:, None] * trace


def pink(seed: int, batch: int = 8, rms_uv: float = 10.0) -> np.ndarray:
    spectrum = np.fft.rfft(noise(seed, batch)) * np.maximum(FREQS_HZ, 0.5) ** -0.6
    signal = np.fft.irfft(spectrum, N_TIMES)
    return rms_uv * signal / signal.std()


BLINKS = Quantity("blinks", "", "")


@pytest.mark.parametrize("polarity", [1, -1])
@pytest.mark.parametrize("onsets", [[], [2.0], [0.3, 2.9], [0.2, 1.4, 3.1], [0.1, 0.8, 2.2, 3.4]])
def test_blinks_are_counted_at_their_rate_whatever_their_size_and_polarity(onsets, polarity):
    sizes = [150.0, 90.0, 110.0, 140.0][: len(onsets)]
    signal = polarity * with_blinks(pink(6), onsets, sizes)
    np.testing.assert_allclose(measured(signal)[BLINKS], len(onsets) / 4)


@pytest.mark.parametrize("hz", [1.5, 2.5, 6.0, 10.0, 20.0])
def test_a_rhythm_at_the_frontal_pole_is_no_blink(hz):
    assert not measured(pink(7) + 80 * np.sin(2 * np.pi * hz * SECONDS))[BLINKS].any()


def test_a_deflection_elsewhere_a_step_of_level_and_silence_are_no_blinks():
    bump = with_blinks(np.zeros((1, len(CHANNELS), N_TIMES)), [2.0], [200.0])[:, :1]
    elsewhere = pink(8)
    elsewhere[:, IN["occipital"]] += bump
    assert not measured(elsewhere)[BLINKS].any()
    assert not measured(pink(8) + 500.0)[BLINKS].any()
    assert not measured(np.zeros((2, len(CHANNELS), N_TIMES)))[BLINKS].any()


def test_what_is_measured_depends_on_the_channels():
    def kinds(*channels: str) -> set[str]:
        return {
            quantity.kind for quantity in SignalMeasures(channels, SFREQ_HZ, N_TIMES, tuple(CLAIM_KINDS)).quantities
        }

    everywhere = {"power", "bursts", "theta/beta", "slope", "variability"}
    assert kinds("O1", "CZ") == everywhere
    assert kinds("F3", "CZ") == everywhere
    assert kinds("F3", "F4") == everywhere | {"asymmetry"}
    assert kinds("FPZ", "O1") == kinds("AF4", "O1") == everywhere | {"blinks"}
    assert kinds(*SEED_CHANNELS) == everywhere | {"asymmetry", "blinks"} == set(CLAIM_KINDS)


def test_names_are_of_what_a_quantity_has():
    names = MEASURES.names
    assert len(names) == len(set(names)) == MEASURES(noise()[:1].astype(np.float32)).shape[1]
    assert {"asymmetry alpha", "blinks", "slope central", "variability beta occipital"} <= set(names)
