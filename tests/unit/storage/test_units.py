import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InputError
from storage.signal.units import HIGHEST_UV, LOWEST_UV, assert_plausible, typical_amplitude

RNG = np.random.default_rng(0)


@given(st.floats(LOWEST_UV * 1.3, HIGHEST_UV / 1.3), st.sampled_from([1e3, 1e6, 1e-3, 1e-6]), st.integers(200, 2000))
def test_every_plausible_signal_passes_and_no_wrong_factor_does(spread: float, factor: float, n_times: int) -> None:
    signal = np.random.default_rng(n_times).normal(0, spread, (4, n_times))
    assert_plausible([signal], 200.0, "f")
    with pytest.raises(InputError, match=r"times too (large|small) for EEG"):
        assert_plausible([signal * factor], 200.0, "f")


def test_offset_and_drift_do_not_count() -> None:
    noise = RNG.normal(0, 20, (3, 5000))
    drift = 4200.0 + np.linspace(0, 1e5, 5000)
    assert typical_amplitude([noise + drift], 250.0) == pytest.approx(typical_amplitude([noise], 250.0), rel=0.01)


def test_flat_channels_and_flat_seconds_do_not_count() -> None:
    signal = np.zeros((5, 1000))
    signal[0, :200] = RNG.normal(0, 20, 200)
    assert typical_amplitude([signal], 100.0) == pytest.approx(20, rel=0.2)
    assert_plausible([signal, np.zeros((5, 1))], 100.0, "f")


@pytest.mark.parametrize(
    ("signal", "problem"),
    [
        (np.zeros((2, 500)), "f: every sample is 0"),
        (np.full((2, 500), 4200.1), "f: no channel varies"),
        (np.linspace(0, 9e6, 1000).reshape(2, 500), "f: no channel varies"),
    ],
)
def test_no_signal_is_no_mistake_of_units(signal: np.ndarray, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        assert_plausible([signal], 100.0, "f")


@pytest.mark.parametrize(
    ("factor", "taken", "remedy"),
    [
        (1e3, "mV", "state `source.unit: uV`"),
        (1e6, "V", "state `source.unit: uV`"),
        (1e-3, "uV", "state `source.unit: mV`"),
        (1e-6, "uV", "state `source.unit: V`"),
        (1e3, "uV", "Correct the unit in the file"),
        (1e3, None, "Correct the unit in the file"),
    ],
)
def test_the_remedy_names_the_unit(factor: float, taken, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        assert_plausible([RNG.normal(0, 20 * factor, (3, 500))], 100.0, "f", taken=taken)
