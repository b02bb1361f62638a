from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import InputError
from storage.quality.measures import measure
from storage.readers.base import RawRecording, TrialSpan
from storage.signal import SEED_CHANNELS, SignalConfig
from storage.signal.prepare import map_trials, prepare, resample

RATES = [128.0, 200.0, 250.0, 256.0, 500.0, 512.0, 1000.0]
SFREQ_HZ = 200.0
FEW = ("FZ", "CZ", "PZ", "OZ", "C3", "C4", "P3", "P4")


def span(start: int, stop: int, trial: int = 1, piece: int = 0) -> TrialSpan:
    return TrialSpan(piece=piece, start=start, stop=stop, trial=trial, position=trial, clip=trial, label=None)


def noise(channels: tuple[str, ...] = FEW, seconds: float = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 10, (len(channels), int(seconds * SFREQ_HZ)))


def recording(*pieces: np.ndarray, channels: tuple[str, ...] = FEW, **options: object) -> RawRecording:
    trials = [span(0, piece.shape[1], number + 1, number) for number, piece in enumerate(pieces)]
    return RawRecording(channels=channels, sfreq_hz=SFREQ_HZ, pieces=pieces, trials=trials, **options)


def config(**options: object) -> SignalConfig:
    return SignalConfig(**({"sfreq_hz": SFREQ_HZ} | options))


def amplitude(signal: np.ndarray, hz: float) -> np.ndarray:
    """Amplitude of a sine in the middle half of each row."""
    middle = signal[:, signal.shape[1] // 4 : -signal.shape[1] // 4]
    time = np.arange(middle.shape[1]) / SFREQ_HZ
    return 2 * np.abs((middle * np.exp(-2j * np.pi * hz * time)).mean(axis=1))


def tones(*hz: float, seconds: float = 20) -> np.ndarray:
    """Sines of 10 µV, all of them in every channel."""
    time = np.arange(int(seconds * SFREQ_HZ)) / SFREQ_HZ
    return np.tile(sum(10 * np.sin(2 * np.pi * each * time) for each in hz), (len(FEW), 1))


def test_as_it_comes_nothing_is_done() -> None:
    piece = noise()
    before = piece.copy()
    ready = prepare(recording(piece, provenance={"reader": "x"}), config())
    assert ready.pieces[0] is piece
    assert np.array_equal(piece, before)
    assert ready.provenance == {"reader": "x", "source_sfreq_hz": SFREQ_HZ}


@given(st.sampled_from(RATES), st.sampled_from(RATES), st.integers(1, 4), st.floats(1, 20))
def test_resampling_is_exact_in_length_and_keeps_a_sine(
    from_hz: float, to_hz: float, seconds: int, tone_hz: float
) -> None:
    time = np.arange(int(seconds * from_hz)) / from_hz
    out = resample(np.sin(2 * np.pi * tone_hz * time)[None], from_hz, to_hz)
    assert out.shape == (1, seconds * int(to_hz))
    truth = np.sin(2 * np.pi * tone_hz * np.arange(out.shape[1]) / to_hz)
    edge = int(to_hz / 5)
    assert np.abs(out[0] - truth)[edge:-edge].max() < 0.01


def test_an_offset_leaves_no_trace_at_the_edges() -> None:
    drift = 4200.0 + np.linspace(0, 50, 1600)[None]
    out = resample(drift, 200.0, 256.0)
    assert np.abs(out - (4200.0 + 50 * np.arange(2048) / 256 * 200 / 1599)).max() < 0.1
    assert np.array_equal(resample(drift, 200.0, 200.0), drift)


@given(
    st.lists(st.integers(1, 5000), min_size=2, max_size=30),
    st.sampled_from([*RATES, 255.97, 160.0, 220.0]),
    st.sampled_from([128.0, 200.0, 256.0, 100.0, 33.3]),
)
def test_spans_keep_their_order_and_stay_apart(steps: list[int], from_hz: float, to_hz: float) -> None:
    edges = np.cumsum([0, *(step + 40 for step in steps)])
    spans = [span(int(a), int(b), n) for n, (a, b) in enumerate(pairwise(edges))]
    ratio = Fraction(to_hz).limit_denominator(10_000) / Fraction(from_hz).limit_denominator(10_000)
    moved = map_trials(spans, ratio, "x")
    length = resample(np.zeros((1, int(edges[-1]))), from_hz, to_hz).shape[1]
    assert (moved[0].start, moved[-1].stop) == (0, length)
    for before, after in pairwise(moved):
        assert before.stop == after.start
    for old, new in zip(spans, moved, strict=True):
        assert abs((new.stop - new.start) - (old.stop - old.start) * ratio) < 1
        assert Fraction(new.start) / ratio >= old.start > (new.start - 1) / ratio


def test_a_trial_that_would_vanish_is_refused() -> None:
    raw = RawRecording(FEW, SFREQ_HZ, [noise()], [span(1, 2, trial=4)])
    with pytest.raises(InputError, match=r"^a\.edf: trial 4 is too short for the new rate"):
        prepare(raw, config(sfreq_hz=10), place="a.edf")


@pytest.mark.parametrize("notch_hz", [50, [50], [50, 31]])
def test_a_notch_takes_the_line_and_leaves_alpha(notch_hz: float | list[float]) -> None:
    before = tones(10, 31, 50)
    ready = prepare(recording(before), config(notch_hz=notch_hz))
    after = ready.pieces[0]
    assert amplitude(after, 50).max() < 10 * 10 ** (-20 / 20)
    assert amplitude(after, 10) == pytest.approx([10] * len(FEW), rel=0.01)
    assert (amplitude(after, 31).max() < 1) == (notch_hz == [50, 31])
    assert ready.provenance["filter_phase"] == "zero"
    assert str(ready.provenance["step_1"]).startswith("notch 50" if notch_hz != [50, 31] else "notch 50, 31 Hz")


def test_harmonics_go_with_the_line() -> None:
    ready = prepare(recording(tones(10, 30, 60, 90)), config(notch_hz=30))
    assert [amplitude(ready.pieces[0], hz).max() < 1 for hz in (30, 60, 90)] == [True] * 3
    assert amplitude(ready.pieces[0], 10) == pytest.approx([10] * len(FEW), rel=0.01)
    assert str(ready.provenance["step_1"]).startswith("notch 30, 60, 90 Hz (mne.filter.notch_filter, FIR of 6.6")


@pytest.mark.parametrize(
    ("band", "kept", "gone"),
    [((1, 40), (10, 30), (60, 80)), ((None, 30), (10, 20), (50,)), ((20, None), (40, 80), (5, 10))],
)
def test_a_band_passes(band: tuple, kept: tuple[float, ...], gone: tuple[float, ...]) -> None:
    ready = prepare(recording(tones(*kept, *gone) + 500), config(bandpass_hz=band))
    for hz in kept:
        assert amplitude(ready.pieces[0], hz) == pytest.approx([10] * len(FEW), rel=0.01)
    for hz in gone:
        assert amplitude(ready.pieces[0], hz).max() < 0.1
    assert (abs(ready.pieces[0].mean()) < 1) == (band[0] is not None)


def test_filters_have_no_delay_and_use_the_future() -> None:
    pulse = np.zeros((len(FEW), 4001))
    pulse[:, 2000] = 1
    after = prepare(recording(pulse), config(bandpass_hz=(1, 40))).pieces[0]
    assert np.argmax(after[0]) == 2000
    assert np.abs(after - after[:, ::-1]).max() < 1e-9
    assert np.abs(after[0, :2000]).max() > 0.01


def test_a_piece_shorter_than_the_filter_is_refused() -> None:
    short = recording(noise(), noise(seconds=4))
    with pytest.raises(
        InputError,
        match=r"^b: a contiguous piece of 4 s is shorter than .*`signal.bandpass_hz`, which needs 6\.6\d? s\.",
    ):
        prepare(short, config(bandpass_hz=(0.5, 40)), place="b")
    with pytest.raises(InputError, match=r"`signal.notch_hz`, which needs 6\.6\d? s"):
        prepare(short, config(notch_hz=50))
    assert prepare(short, config(bandpass_hz=(1, 40))).provenance["step_1"]


@pytest.mark.parametrize("options", [{"bandpass_hz": (1, 100)}, {"notch_hz": 100}, {"notch_hz": [50, 120]}])
def test_edges_above_nyquist_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match="a rate of 200 Hz ends at 100 Hz"):
        prepare(recording(noise()), config(sfreq_hz=256, **options))


def test_the_average_reference_sums_to_zero() -> None:
    ready = prepare(recording(noise() + 100), config(reference="average"))
    assert np.abs(ready.pieces[0].sum(axis=0)).max() < 1e-9
    assert ready.provenance["step_1"] == "reference average of 8 good channels (mne Raw.set_eeg_reference)"


def test_bad_channels_do_not_enter_the_average() -> None:
    piece = noise()
    piece[3] = 1e4
    after = prepare(recording(piece, bads=("OZ", "ECG")), config(reference="average"))
    good = [0, 1, 2, 4, 5, 6, 7]
    assert np.abs(after.pieces[0][good].sum(axis=0)).max() < 1e-9
    assert np.allclose(after.pieces[0][3], 1e4 - piece[good].mean(axis=0))
    assert after.provenance["bads_marked"] == ["OZ"]
    assert after.bads == ("OZ",)


def test_named_references() -> None:
    piece = noise()
    after = prepare(recording(piece), config(reference=["Cz", "EEG Pz-Ref"]))
    assert np.allclose(after.pieces[0], piece - piece[1:3].mean(axis=0))
    with pytest.raises(InputError, match="c: reference channel T7 is not among its channels"):
        prepare(recording(piece), config(reference=["T3"]), place="c")
    with pytest.raises(InputError, match="reference channel CZ is bad"):
        prepare(recording(piece, bads=("CZ",)), config(reference=["CZ"]))


def smooth_field(channels: tuple[str, ...]) -> np.ndarray:
    """Four seconds of dipole-like fields over template positions, and of white noise where there is none."""
    import mne

    montage = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    places = {name.upper(): place for name, place in montage.items()}
    time = np.arange(int(4 * SFREQ_HZ)) / SFREQ_HZ
    waves = np.stack([np.sin(2 * np.pi * hz * time) for hz in (3, 7, 11)])
    rows = [300 * places[name] @ waves if name in places else 0 * time for name in channels]
    return np.stack(rows)


def test_an_interpolated_channel_is_near_the_field_it_lost() -> None:
    truth = smooth_field(SEED_CHANNELS)
    row = SEED_CHANNELS.index("C3")
    broken = truth.copy()
    broken[row] = 0
    raw = recording(broken, channels=SEED_CHANNELS)
    ready = prepare(raw, config(bad_channels="interpolate", detect_bads=True))
    assert np.abs(ready.pieces[0][row] - truth[row]).max() < 0.05 * np.abs(truth[row]).max()
    others = np.arange(len(SEED_CHANNELS)) != row
    assert np.array_equal(ready.pieces[0][others], broken[others])
    assert np.array_equal(broken[row], np.zeros_like(broken[row]))
    assert ready.provenance["bads_flat"] == ["C3", "CB1", "CB2"]
    assert (ready.provenance["bads_left"], ready.bads) == (["CB1", "CB2"], ("CB1", "CB2"))
    assert "interpolate C3 (" in str(ready.provenance["step_1"])


def test_saturated_channels_are_found_and_made_anew() -> None:
    piece = noise()
    piece[4] = np.clip(piece[4] * 3, -8, 8)
    raw = recording(piece)
    quality = measure(raw.pieces, raw.channels, SFREQ_HZ)
    ready = prepare(raw, config(bad_channels="interpolate", detect_bads=True), quality=quality)
    assert (ready.provenance["bads_saturated"], ready.bads) == (["C3"], ())
    assert measure(ready.pieces, FEW, SFREQ_HZ).bads == ()
    kept = prepare(raw, config(detect_bads=True))
    assert (kept.bads, kept.pieces[0] is piece) == (("C3",), True)


def test_too_many_bad_channels_are_refused() -> None:
    piece = noise()
    piece[:3] = 0
    with pytest.raises(InputError, match=r"^d: 3 of 8 channels are bad \(FZ, CZ, PZ\), more than a share of 0\.25"):
        prepare(recording(piece), config(bad_channels="interpolate", detect_bads=True), place="d")
    few = recording(noise(FEW[:4]), channels=FEW[:4], bads=("CZ",))
    with pytest.raises(InputError, match="CZ cannot be interpolated from 3 good channels"):
        prepare(few, config(bad_channels="interpolate"))


def test_steps_are_written_in_order() -> None:
    raw = recording(noise(), bads=("CZ",))
    everything = config(sfreq_hz=256, bandpass_hz=(1, 40), notch_hz=50, reference="average", bad_channels="interpolate")
    ready = prepare(raw, everything)
    steps = [str(ready.provenance[f"step_{number}"]).split(" ")[0] for number in range(1, 6)]
    assert steps == ["notch", "band-pass", "interpolate", "reference", "resample"]
    assert "polyphase 32/25" in str(ready.provenance["step_5"])
    assert ready.provenance["mne_version"]
    assert ready.pieces[0].shape == (8, 20 * 256)
    assert np.isfinite(ready.pieces[0]).all()


def test_samples_that_are_not_finite_are_refused() -> None:
    piece = noise()
    piece[1, 5] = np.nan
    with pytest.raises(InputError, match="e: channel CZ is NaN or infinite at sample 5"):
        prepare(recording(piece), config(), place="e")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandpass_hz": (40, 1)}, "low edge 40 Hz is not below the high edge 1 Hz"),
        ({"bandpass_hz": (None, None)}, "names no edge"),
        ({"bandpass_hz": (1, 120)}, "120 Hz is not below 100 Hz, half of sfreq_hz"),
        ({"bandpass_hz": (0, 40)}, "greater than 0"),
        ({"notch_hz": []}, "at least 1"),
        ({"notch_hz": -50}, "greater than 0"),
        ({"reference": ["ECG"]}, "'ECG' is not a scalp electrode"),
        ({"reference": "mastoids"}, "reference"),
        ({"bad_channels": "drop"}, "interpolate"),
        ({"max_bad_share": 0.9}, "0.5"),
        ({"precision": "int8"}, "float32"),
        ({"sfreq_hz": 0}, "greater than or equal"),
        ({"sfreq_hz": 1e6}, "less than or equal"),
    ],
)
def test_bad_configs(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**options)


@pytest.mark.parametrize("stated", [200.0003, 199.9991])
@pytest.mark.parametrize("to_hz", [200.0, 256.0])
def test_a_rate_that_is_nearly_whole_is_taken_as_whole(stated: float, to_hz: float) -> None:
    raw = recording(noise())
    ready = prepare(replace(raw, sfreq_hz=stated), config(sfreq_hz=to_hz))
    exact = prepare(raw, config(sfreq_hz=to_hz))
    assert np.array_equal(ready.pieces[0], exact.pieces[0])
    assert ready.trials == exact.trials
    assert (ready.provenance["stated_sfreq_hz"], ready.provenance["source_sfreq_hz"]) == (stated, SFREQ_HZ)
    assert "stated_sfreq_hz" not in exact.provenance


@pytest.mark.parametrize("rate", [200.0123, 241.15, 128.2051282, 199.987654321, 1 / 0.0078])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_any_rate_is_brought_to_another(rate: float, kind: type) -> None:
    stated = float(kind(rate))
    time = np.arange(int(20 * rate)) / rate
    ready = prepare(
        RawRecording(("CZ",), stated, [10 * np.sin(2 * np.pi * 5 * time)[None]], [span(0, 4000)]), config(sfreq_hz=256)
    )
    out = ready.pieces[0][0]
    assert len(out) == pytest.approx(len(time) * 256 / rate, abs=1.01)
    truth = 10 * np.sin(2 * np.pi * 5 * np.arange(len(out)) / 256)
    assert np.abs(out - truth)[256:-256].max() < 0.1


def test_rates_of_small_numbers_have_an_exact_ratio() -> None:
    assert prepare(replace(recording(noise()), sfreq_hz=200.5), config(sfreq_hz=256)).pieces[0].shape[1] == 5108
