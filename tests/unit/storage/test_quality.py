import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import InputError
from storage.quality.measures import Quality, measure

SFREQ_HZ = 256.0
CHANNELS = ("FZ", "CZ", "PZ", "OZ")


def noise(seconds: float = 20, sd_uv: float = 10.0, n_chans: int = 4, seed: int = 0) -> np.ndarray:
    """White noise: its density is sd² / 128 µV²/Hz at 256 Hz."""
    return np.random.default_rng(seed).normal(0, sd_uv, (n_chans, int(seconds * SFREQ_HZ)))


def sine(hz: float, amplitude_uv: float, seconds: float = 20) -> np.ndarray:
    return amplitude_uv * np.sin(2 * np.pi * hz * np.arange(int(seconds * SFREQ_HZ)) / SFREQ_HZ)


def found(signal: np.ndarray, **options: object) -> Quality:
    return measure([signal], CHANNELS, SFREQ_HZ, **options)


@given(st.floats(0.5, 200), st.floats(-5000, 5000))
def test_amplitude_and_offset(sd_uv: float, offset_uv: float) -> None:
    quality = found(noise(sd_uv=sd_uv) + offset_uv)
    assert quality.robust_sd_uv == pytest.approx([sd_uv] * 4, rel=0.05)
    assert quality.rms_uv == pytest.approx([sd_uv] * 4, rel=0.05)
    assert quality.offset_uv == pytest.approx([offset_uv] * 4, abs=0.05 * sd_uv + 0.001 * abs(offset_uv))
    assert quality.bads == quality.outliers == quality.noisy == ()


def test_bursts_and_drift_move_the_rms_and_not_the_robust_sd() -> None:
    signal = noise()
    signal[0, 1000:1200] += 800
    signal[1] += np.linspace(-200, 200, signal.shape[1])
    quality = found(signal)
    assert quality.robust_sd_uv == pytest.approx([10] * 4, rel=0.2)
    assert quality.rms_uv[0] > 100
    assert quality.rms_uv[1] == pytest.approx(400 / np.sqrt(12), rel=0.05)


@pytest.mark.parametrize("line", [50, 60])
@pytest.mark.parametrize("amplitude_uv", [2.0, 8.0, 40.0])
def test_a_line_of_known_power(line: int, amplitude_uv: float) -> None:
    signal = noise(sd_uv=5)
    signal[2] += sine(line, amplitude_uv)
    quality = found(signal)
    other = 110 - line
    assert getattr(quality, f"line_{line}hz_uv")[2] == pytest.approx(amplitude_uv / np.sqrt(2), rel=0.1)
    # five bins of 0.5 Hz hold the line's power above noise of 25 / 128 µV²/Hz
    expected = 1 + amplitude_uv**2 / 2 / 2.5 / (25 / 128)
    assert getattr(quality, f"line_{line}hz")[2] == pytest.approx(expected, rel=0.25)
    assert max(getattr(quality, f"line_{other}hz")) < 2
    assert quality.line_ratio[2] == getattr(quality, f"line_{line}hz")[2]
    assert quality.noisy == (("PZ",) if amplitude_uv > 2 else ())


def test_a_line_above_nyquist_is_unknown_and_not_zero() -> None:
    quality = measure([noise()], CHANNELS, 110.0)
    assert None not in quality.line_50hz
    assert quality.line_60hz == quality.line_60hz_uv == (None,) * 4
    low = measure([noise()], CHANNELS, 100.0)
    assert low.line_50hz == low.line_ratio == (None,) * 4
    assert low.noisy == ()


def test_a_flat_channel_is_bad_and_no_outlier() -> None:
    signal = noise()
    signal[1] = 3.0
    signal[3, : signal.shape[1] // 2] = -7.0
    quality = found(signal)
    assert quality.flat_share == pytest.approx((0, 1, 0, 0.5), abs=0.06)
    assert quality.flat == quality.bads == ("CZ", "OZ")
    assert quality.line_ratio[1] is None
    assert "CZ" not in quality.outliers


@pytest.mark.parametrize("limit_uv", [8.0, 15.0])
def test_a_clipped_channel(limit_uv: float) -> None:
    signal = np.stack([sine(1, 20.0)] * 4) + noise(sd_uv=0.5)
    signal[2] = np.clip(signal[2], -limit_uv, limit_uv)
    quality = found(signal)
    share = (np.abs(signal[2]) == limit_uv).mean()
    assert quality.saturated_share[2] == pytest.approx(share, rel=0.05)
    assert quality.saturated == quality.bads == ("PZ",)
    assert [quality.saturated_share[row] for row in (0, 1, 3)] == [0, 0, 0]


def test_coarse_steps_are_not_saturation() -> None:
    assert found(np.rint(noise(sd_uv=2))).saturated == ()


def test_amplitude_outliers_are_relative_to_the_recording() -> None:
    signal = noise()
    signal[0] *= 6
    assert found(signal).outliers == ("FZ",)
    assert found(signal * 100).outliers == ("FZ",)
    signal[0] /= 36
    assert found(signal).outliers == ("FZ",)


def test_pieces_are_measured_together() -> None:
    whole = noise(30)
    whole[1] += sine(50, 8.0, 30)
    cut = int(10 * SFREQ_HZ)
    pieces = [whole[:, :cut], whole[:, cut : 2 * cut], whole[:, 2 * cut : 2 * cut + 5], whole[:, 2 * cut :]]
    together = measure(pieces, CHANNELS, SFREQ_HZ, bads=["OZ", "ECG"])
    alone = measure([whole], CHANNELS, SFREQ_HZ)
    assert (together.gaps, alone.gaps) == (3, 0)
    assert together.seconds == pytest.approx(30 + 5 / SFREQ_HZ)
    assert (together.marked_bad, together.bads) == (("OZ",), ("OZ",))
    assert together.robust_sd_uv == pytest.approx(alone.robust_sd_uv, rel=0.01)
    assert together.line_50hz_uv[1] == pytest.approx(alone.line_50hz_uv[1], rel=0.05)


@pytest.mark.parametrize("n_times", [1, 2, 100, 300, 600])
def test_short_recordings_are_measured(n_times: int) -> None:
    quality = found(noise()[:, :n_times])
    assert quality.seconds == n_times / SFREQ_HZ
    assert (quality.line_50hz[0] is None) == (n_times < SFREQ_HZ)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    signal = noise()
    signal[2, 77] = value
    with pytest.raises(InputError, match=r"^a\.edf: channel PZ is NaN or infinite at sample 77 of piece 2\. Repair"):
        measure([noise(), signal], CHANNELS, SFREQ_HZ, place="a.edf")
    with pytest.raises(InputError, match="holds no sample"):
        found(noise()[:, :0])


def test_it_goes_through_json() -> None:
    signal = noise()
    signal[1] = 0
    quality = found(signal)
    assert Quality.model_validate_json(quality.model_dump_json()) == quality
    with pytest.raises(ValidationError, match="rms_uv has 3 values for 4 channels"):
        Quality.model_validate(quality.model_dump() | {"rms_uv": [1, 2, 3]})
