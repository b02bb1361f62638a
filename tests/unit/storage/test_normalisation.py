from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import InputError
from storage.normalisation.rules import (
    SNAPSHOT_SECONDS,
    Adaptation,
    Normalisation,
    Normaliser,
    Span,
    assert_allowed,
    assert_can_be_normalised,
    unit_of,
)
from storage.store import Store
from storage.windows import WindowConfig, Windows

SFREQ_HZ, N_TIMES, STRIDE = 20.0, 40, 15
SESSION: list[Normalisation] = ["session-zscore", "session-whitening"]


def made_up(seed: int, num_recordings: int = 2, tied: bool = False) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Two subjects of one session; the first one's is in several recordings, with positions in turn or the same."""
    rng = np.random.default_rng(seed)
    rows, signals = [], {}
    for subject in ("a", "b"):
        for number in range(num_recordings if subject == "a" else 1):
            name, stop = f"{subject}{number}", 0
            for trial in range(3):
                start = stop + int(rng.integers(0, 50))
                stop = start + int(rng.integers(300, 700))
                position = trial if tied else trial * num_recordings + number
                rows.append((name, subject, "1", trial, position, start, stop, trial % 2))
            colour = rng.uniform(5, 50, (3, 1)) * np.linspace(1, 4, stop)
            signals[name] = (rng.normal(size=(3, stop)) * colour + rng.uniform(-90, 90, (3, 1))).astype(np.float32)
    names = ["recording_id", "subject", "session", "trial", "position", "start", "stop", "label_id"]
    return pd.DataFrame(rows, columns=names), signals


def normaliser(
    kind: Normalisation, rule: Adaptation, trials: pd.DataFrame, signals: dict[str, np.ndarray], **settings: int
) -> Normaliser:
    def read(spans: list[Span]) -> np.ndarray:
        return np.stack([signals[name][:, start:stop] for name, start, stop in spans])

    return Normaliser(
        kind, rule, trials=trials, all_trials=trials, sfreq_hz=SFREQ_HZ, n_times=N_TIMES, read=read, **settings
    )


def cut(trials: pd.DataFrame, signals: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All windows and the last possible one of each trial, the row of the trial of each, and its end."""
    found = [
        (row, begin)
        for row, (start, stop) in enumerate(zip(trials["start"], trials["stop"], strict=True))
        for begin in (*range(start, stop - N_TIMES, STRIDE), stop - N_TIMES)
    ]
    names = trials["recording_id"].tolist()
    windows = np.stack([signals[names[row]][:, begin : begin + N_TIMES] for row, begin in found])
    return windows, np.array([row for row, _ in found]), np.array([begin + N_TIMES for _, begin in found])


def apply(kind: Normalisation, rule: Adaptation, trials: pd.DataFrame, signals: dict[str, np.ndarray]) -> np.ndarray:
    return normaliser(kind, rule, trials, signals)(*cut(trials, signals))


@pytest.mark.parametrize("kind", SESSION)
@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(0, 10**6), st.booleans())
def test_causal_never_looks_ahead_and_transductive_does(
    kind: Normalisation, data: st.DataObject, seed: int, tied: bool
) -> None:
    """Every sample after a window's end is changed: later in its recording, or at a later position elsewhere."""
    trials, signals = made_up(seed, tied=tied)
    windows, rows, stops = cut(trials, signals)
    last = np.flatnonzero(stops == trials["stop"].to_numpy()[rows])
    chosen = data.draw(st.sampled_from(last.tolist()) | st.integers(0, len(windows) - 1))
    row, stop = rows[chosen], int(stops[chosen])
    name, position, subject = (trials.loc[row, column] for column in ("recording_id", "position", "subject"))
    changed = {other: signal.copy() for other, signal in signals.items()}
    changed[name][:, stop:] *= -7
    for trial in trials.itertuples():
        if trial.recording_id != name and (trial.subject != subject or trial.position >= position):
            changed[trial.recording_id][:, trial.start : trial.stop] += 1000 * (1 + np.arange(3)[:, None])
    before, after = (apply(kind, "causal", trials, given)[chosen] for given in (signals, changed))
    assert np.array_equal(before, after)
    assert np.isfinite(before).all()
    if (trials["stop"][trials["recording_id"] == name] > stop + N_TIMES).any():
        before, after = (apply(kind, "transductive-unlabelled", trials, given)[chosen] for given in (signals, changed))
        assert not np.allclose(before, after)


@pytest.mark.parametrize("kind", SESSION)
def test_causal_uses_the_past_once_there_is_enough_of_it(kind: Normalisation) -> None:
    trials, signals = made_up(1, num_recordings=1)
    windows, rows, stops = cut(trials, signals)
    past = {name: signal.copy() for name, signal in signals.items()}
    past["a0"][:, : int(SNAPSHOT_SECONDS * SFREQ_HZ / 2)] *= 5
    before, after = (apply(kind, "causal", trials, given) for given in (signals, past))
    own = trials["recording_id"].to_numpy()[rows] == "a0"
    begins = trials["start"].to_numpy()[rows[own][0]]
    late = own & (stops > begins + 1.5 * SNAPSHOT_SECONDS * SFREQ_HZ)
    assert late.any()
    assert all(not np.allclose(a, b) for a, b in zip(before[late], after[late], strict=True))
    early = own & (stops <= begins + SNAPSHOT_SECONDS * SFREQ_HZ)
    alone = normaliser(kind, "causal", trials, signals)
    assert early.any()
    for number in np.flatnonzero(early)[:5]:
        own_trial = trials.assign(start=0, stop=N_TIMES).iloc[[rows[number]]].reset_index(drop=True)
        window = {"a0": windows[number]}
        expected = normaliser(kind, "transductive-unlabelled", own_trial, window)(
            windows[[number]], np.array([0]), np.array([N_TIMES])
        )
        got = alone(windows[[number]], rows[[number]], stops[[number]])
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", ["causal", "transductive-unlabelled"])
@pytest.mark.parametrize("kind", SESSION)
def test_labels_and_other_subjects_never_matter(kind: Normalisation, rule: Adaptation) -> None:
    trials, signals = made_up(3)
    before = apply(kind, rule, trials, signals)
    assert np.array_equal(apply(kind, rule, trials.assign(label_id=0), signals), before)
    others = signals | {"b0": signals["b0"] * 100}
    own = (trials["subject"] == "a").to_numpy()[cut(trials, signals)[1]]
    assert np.array_equal(apply(kind, rule, trials, others)[own], before[own])
    assert np.isin([False, True], own).all()


def test_session_zscore_is_the_session_s_own_mean_and_spread() -> None:
    trials, signals = made_up(4, num_recordings=1)
    windows, rows, stops = cut(trials, signals)
    spans = zip(trials["recording_id"], trials["start"], trials["stop"], strict=True)
    whole = [signals["a0"][:, a : a + (b - a) // N_TIMES * N_TIMES] for name, a, b in spans if name == "a0"]
    signal = np.concatenate(whole, axis=1).astype(float)
    expected = (windows - signal.mean(axis=1)[:, None]) / signal.std(axis=1)[:, None]
    got = normaliser("session-zscore", "transductive-unlabelled", trials, signals)(windows, rows, stops)
    own = trials["subject"].to_numpy()[rows] == "a"
    np.testing.assert_allclose(got[own], expected[own], atol=1e-4)
    assert got.dtype == np.float32


def test_window_zscore_needs_nothing_but_the_window() -> None:
    trials, signals = made_up(5)
    got = apply("window-zscore", "none", trials, signals)
    assert np.abs(got.mean(axis=-1)).max() < 1e-4
    assert np.allclose(got.std(axis=-1), 1, atol=1e-3)
    flat = normaliser("window-zscore", "none", trials, signals)(
        np.full((1, 3, N_TIMES), 4.0, np.float32), np.array([0]), np.array([N_TIMES])
    )
    assert not flat.any()


@pytest.mark.parametrize("kind", ["window-zscore", *SESSION])
def test_a_window_is_the_same_in_whatever_batch_and_cache(kind: Normalisation) -> None:
    trials, signals = made_up(6)
    windows, rows, stops = cut(trials, signals)
    whole = normaliser(kind, "causal", trials, signals)(windows, rows, stops)
    tight = normaliser(kind, "causal", trials, signals, cache_bytes=1)
    for number in (0, len(windows) - 1, 1, len(windows) // 2):
        assert np.array_equal(tight(windows[[number]], rows[[number]], stops[[number]])[0], whole[number])


def test_the_cache_is_bounded() -> None:
    trials, signals = made_up(7)
    windows, rows, stops = cut(trials, signals)
    one = normaliser("session-whitening", "causal", trials, signals, cache_bytes=1)
    one(windows, rows, stops)
    assert len(one._cache) == 1
    both = normaliser("session-whitening", "causal", trials, signals)
    both(windows, rows, stops)
    assert len(both._cache) == 2


def test_what_needs_the_session_is_refused_without_a_rule() -> None:
    for kind in SESSION:
        with pytest.raises(ValueError, match=f"{kind} needs adaptation: causal or transductive-unlabelled"):
            WindowConfig(normalisation=kind)
        assert_allowed(kind, "causal")
    for rule in ("none", "causal", "transductive-unlabelled"):
        assert_allowed("none", rule)
        assert_allowed("window-zscore", rule)


@pytest.mark.parametrize(
    ("kind", "channels", "n_times", "problem"),
    [
        ("session-whitening", 1, 400, "one channel is left"),
        ("session-whitening", 3, 1, "resolve no frequency"),
        ("window-zscore", 3, 1, "no standard deviation"),
    ],
)
def test_windows_that_cannot_be_normalised(kind: Normalisation, channels: int, n_times: int, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        assert_can_be_normalised(kind, channels, n_times, 20.0)
    assert_can_be_normalised("none", 1, 1, 20.0)


def test_units() -> None:
    kinds: list[Normalisation] = ["none", "window-zscore", *SESSION]
    assert [unit_of(kind) for kind in kinds] == ["uV", "zscore", "zscore", "whitened"]


def test_windows_of_a_store_are_normalised_by_their_rule(store: Store, describe: Callable, noise: Callable) -> None:
    info = describe("a", lengths=(6000, 6000), sfreq_hz=100.0)
    store.write_recording(info, noise(info) * np.linspace(1, 3, 12_000) + 30)
    read = {}
    for rule in ("causal", "transductive-unlabelled"):
        config = WindowConfig(window_seconds=2, stride_seconds=2, normalisation="session-zscore", adaptation=rule)
        assert config.unit == "zscore"
        read[rule] = Windows(store, config).read(np.arange(60))
        part = Windows(store, config, store.trials.iloc[1:])
        assert np.array_equal(part.read(np.arange(30)), read[rule][30:])
    assert abs(read["transductive-unlabelled"].std() - 1) < 1e-3
    assert np.allclose(read["causal"][:14].std(axis=-1), 1, atol=1e-3), "first windows: by themselves"
    assert read["causal"][-1].std() > 1.2, "later ones: by what came before, which was quieter"
