"""Signal measures answer to what is in the signal, and to nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.measures import QuantityScaler, SignalMeasures
from storage.normalisation.whitening import apply_whitening, whitening_gains
from storage.signal.bands import BANDS
from storage.signal.channels import REGIONS, region_of

CHANNELS = ("FP1", "F3", "FP2", "F4", "CZ", "C3", "T7", "T8", "PZ", "CP1", "O1", "O2")
SFREQ_HZ, N_TIMES = 256.0, 1024
CENTRES_HZ = {"delta": 2.5, "theta": 6.0, "alpha": 10.0, "beta": 20.0, "gamma": 40.0}


@pytest.fixture(scope="module")
def measures() -> SignalMeasures:
    return SignalMeasures(CHANNELS, SFREQ_HZ, N_TIMES)


def noise(seed: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, len(CHANNELS), N_TIMES)).astype(np.float32)


def value_of(measures: SignalMeasures, values: np.ndarray, kind: str, band: str, region: str) -> float:
    place = [(q.kind, q.band, q.region) for q in measures.quantities].index((kind, band, region))
    return float(values[0, place])


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("region", REGIONS)
def test_a_rhythm_raises_the_power_of_its_own_band_and_region_most(measures, band, region):
    signal = noise(1)
    seconds = np.arange(N_TIMES) / SFREQ_HZ
    louder = signal.copy()
    for row, name in enumerate(CHANNELS):
        if region_of(name) == region:
            louder[0, row] += 3 * np.sin(2 * np.pi * CENTRES_HZ[band] * seconds)
    powers = [place for place, q in enumerate(measures.quantities) if q.kind == "power"]
    change = (measures(louder) - measures(signal))[0, powers]
    strongest = measures.quantities[powers[int(change.argmax())]]
    assert (strongest.band, strongest.region) == (band, region)


@pytest.mark.parametrize("band", ["beta", "gamma"])
def test_bursts_once_a_second_are_seen_and_mean_power_is_not_changed_by_them(measures, band):
    rng = np.random.default_rng(2)
    seconds = np.arange(N_TIMES) / SFREQ_HZ
    low, high = BANDS[band]
    freqs = np.fft.rfftfreq(N_TIMES, 1 / SFREQ_HZ)
    spectrum = np.fft.rfft(rng.normal(size=(40, len(CHANNELS), N_TIMES))) * ((freqs >= low + 2) & (freqs < high - 2))
    carrier = np.fft.irfft(spectrum, N_TIMES)
    steady = (carrier / carrier.std()).astype(np.float32)
    envelope = np.sqrt(1 + 0.9 * np.cos(2 * np.pi * seconds))
    bursting = (steady * envelope).astype(np.float32)
    places = [place for place, q in enumerate(measures.quantities) if (q.kind, q.band) == ("bursts", band)]
    assert (measures(bursting)[:, places].mean(0) > measures(steady)[:, places].mean(0) + 0.15).all()
    power = [place for place, q in enumerate(measures.quantities) if (q.kind, q.band) == ("power", band)]
    assert np.abs(measures(bursting)[:, power].mean(0) - measures(steady)[:, power].mean(0)).max() < 0.1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, N_TIMES - 1), st.booleans())
def test_measures_do_not_depend_on_polarity_or_circular_shift(seed, shift, flip):
    measures = SignalMeasures(CHANNELS, SFREQ_HZ, N_TIMES)
    signal = noise(seed)
    changed = np.roll(signal, shift, axis=-1) * (-1 if flip else 1)
    np.testing.assert_allclose(measures(signal), measures(changed), atol=1e-4)


def test_regions_without_channels_are_left_out():
    few = SignalMeasures(("T7", "T8"), SFREQ_HZ, N_TIMES)
    assert few.regions == ("left temporal", "right temporal")
    assert few(noise(0)[:, :2]).shape == (1, len(few.quantities))


def test_patch_powers_follow_the_signal_in_time(measures):
    signal = 0.1 * noise(3)
    seconds = np.arange(N_TIMES) / SFREQ_HZ
    late = (seconds >= 2.0) * np.sin(2 * np.pi * 20 * seconds)
    powers = measures.patch_powers((signal + late).astype(np.float32), 64)
    beta = slice(2 * len(measures.regions), 3 * len(measures.regions))
    assert powers.shape == (1, 16, 4 * len(measures.regions))
    assert powers[0, 9:, beta].min() > powers[0, :7, beta].max()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40))
def test_the_scaler_standardises_what_it_was_fitted_on(seed, count):
    values = np.random.default_rng(seed).normal(3, 2, (count, 5))
    scaler = QuantityScaler.fit(tuple("abcde"), values, np.ones(5), "session")
    standard = scaler.standardise(values)
    np.testing.assert_allclose(standard.std(axis=0), 1, atol=1e-3)
    np.testing.assert_array_equal(np.sign(standard), np.sign(values.astype(np.float32)))
    of_people = QuantityScaler.fit(tuple("abcde"), values, np.ones(5), "population").standardise(values)
    np.testing.assert_allclose(of_people.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(of_people - standard, (of_people - standard)[:1].repeat(count, axis=0), atol=1e-4)


def test_a_constant_has_a_spread_of_one_so_that_a_rare_event_elsewhere_stays_finite():
    scaler = QuantityScaler.fit(("blinks",), np.zeros((9, 1), np.float32), np.zeros(1), "session")
    assert scaler.standardise(np.full((1, 1), 0.25, np.float32)) == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("sfreq_hz", [200.0, 256.0, 1000.0])
def test_the_level_of_whitened_power_is_that_of_its_rate_and_no_average(sfreq_hz):
    """All variance lies in 49.5 Hz, and a mean of logarithms lies below the logarithm of the mean."""
    n_times = round(4 * sfreq_hz)
    signal = np.random.default_rng(4).normal(0, 20, (48, len(CHANNELS), n_times)).cumsum(axis=-1)
    gains = whitening_gains(signal, sfreq_hz)
    whitened = apply_whitening(signal, np.repeat(gains[None], len(signal), axis=0))
    measures = SignalMeasures(CHANNELS, sfreq_hz, n_times)
    power = [place for place, q in enumerate(measures.quantities) if q.kind == "power"]
    values = measures(whitened)[:, power]
    level = np.log(sfreq_hz / 2 / 49.5)
    assert np.log(np.exp(values).mean()) == pytest.approx(level, abs=0.1)
    assert values.mean() < level - 0.05
