from collections.abc import Callable
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import InputError
from storage.labels import LabelSet
from storage.store import Store, create_store
from storage.windows import WindowConfig, Windows


@pytest.fixture
def filled(store: Store, describe: Callable, noise: Callable) -> Store:
    """Two subjects with two sessions each, trials of uneven length, channel orders that differ."""
    for number, (subject, session) in enumerate([("s1", "1"), ("s1", "2"), ("s2", "1"), ("s2", "2")]):
        channels = ("FP1", "FP2", "OZ", "CZ") if number % 2 else ("OZ", "FP2", "FP1")
        info = describe(f"r{number}", lengths=(350, 99, 420), channels=channels, subject=subject, session=session)
        store.write_recording(info, noise(info, number))
    return store


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=5),
    window=st.integers(1, 60),
    stride=st.integers(1, 60),
    data=st.data(),
)
def test_windows_are_those_of_brute_force(
    lengths: list[int], window: int, stride: int, data: st.DataObject, describe: Callable
) -> None:
    info = describe(lengths=lengths, channels=("CZ", "PZ"), sfreq_hz=50.0)
    signal = np.arange(2 * info.n_times, dtype=float).reshape(2, -1)
    expected = [
        (trial.trial, start) for trial in info.trials for start in range(trial.start, trial.stop - window + 1, stride)
    ]
    config = WindowConfig(window_seconds=window / 50, stride_seconds=stride / 50)
    with TemporaryDirectory() as folder:
        store = create_store(folder, dataset="d", label_set=LabelSet(name="two", names=("rest", "task")))
        store.write_recording(info, signal)
        if not expected:
            with pytest.raises(InputError, match="no trial lasts"):
                Windows(store, config)
            return
        windows = Windows(store, config)
        assert len(windows) == len(expected)
        assert list(zip(windows.table["trial"], windows.table["start"], strict=True)) == expected
        some = data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=4))
        truth = np.stack([signal[:, start : start + window] for _, start in np.array(expected)[some]])
        assert np.abs(windows.read(some) - truth).max() <= 0.05 + 1e-4


def test_windows_never_cross_trials(filled: Store) -> None:
    windows = Windows(filled, WindowConfig(window_seconds=1.0, stride_seconds=0.3))
    trials = filled.trials.set_index(["recording_id", "trial"])
    for row in windows.table.itertuples():
        trial = trials.loc[(row.recording_id, row.trial)]
        assert trial["start"] <= row.start < row.stop <= trial["stop"]
        assert row.label == trial["label"]


def test_read_picks_channels_by_name(filled: Store, describe: Callable, noise: Callable) -> None:
    windows = Windows(filled, WindowConfig(window_seconds=1.0, stride_seconds=0.5, channels=("OZ", "FP1")))
    signals = {name: noise(info, int(name[1])) for name, info in filled.recordings.items()}
    batch = windows.read(np.arange(len(windows)))
    assert batch.dtype == np.float32
    for got, row in zip(batch, windows.table.itertuples(), strict=True):
        channels = filled.recordings[row.recording_id].channels
        rows = [channels.index("OZ"), channels.index("FP1")]
        truth = signals[row.recording_id][rows, row.start : row.stop]
        assert np.abs(got - truth).max() <= 0.05 + 1e-4


def test_chosen_trials_are_kept_apart(filled: Store) -> None:
    trials = filled.trials
    windows = Windows(filled, WindowConfig(window_seconds=1.0), trials[trials["subject"] == "s2"])
    assert set(windows.table["subject"]) == {"s2"}
    assert windows.read([]).shape == (0, 3, 100)
    assert windows.describe([]).empty


@pytest.mark.parametrize("index", [-1, 10**6])
def test_window_numbers_are_checked(filled: Store, index: int) -> None:
    with pytest.raises(IndexError, match="window numbers"):
        Windows(filled, WindowConfig(window_seconds=1.0)).read([index])


WHITENING = {"normalisation": "session-whitening", "adaptation": "transductive-unlabelled"}


@pytest.mark.parametrize(
    ("config", "subjects", "problem"),
    [
        ({"channels": ("OZ", "PZ")}, None, "has no channel PZ. Correct `windows.channels`; it has OZ, FP2"),
        ({"window_seconds": 60}, None, "no trial lasts 60"),
        ({"window_seconds": 0.001}, None, "shorter than one sample"),
        ({"stride_seconds": 0.001}, None, "shorter than one sample"),
        ({}, [], "no trial was chosen"),
        (WHITENING | {"channels": ("OZ",)}, None, "one channel is left"),
        (WHITENING | {"window_seconds": 0.01, "stride_seconds": 1}, None, "resolve no frequency"),
    ],
)
def test_refusals(filled: Store, config: dict, subjects: list[str] | None, problem: str) -> None:
    rows = filled.trials if subjects is None else filled.trials[filled.trials["subject"].isin(subjects)]
    with pytest.raises(InputError, match=problem):
        Windows(filled, WindowConfig(**({"window_seconds": 1.0} | config)), rows)


def test_one_sampling_rate(filled: Store, describe: Callable, noise: Callable) -> None:
    info = describe("fast", sfreq_hz=200.0)
    filled.write_recording(info, noise(info))
    with pytest.raises(InputError, match=r"sampling rates differ: \[100.0, 200.0\]"):
        Windows(filled, WindowConfig(window_seconds=1.0))


@pytest.mark.parametrize(
    "config",
    [
        {"normalisation": "session-whitening"},
        {"window_seconds": 0},
        {"channels": ()},
        {"channels": ("CZ", "CZ")},
        {"windows": 3},
    ],
)
def test_bad_configs(config: dict) -> None:
    with pytest.raises(ValidationError):
        WindowConfig(**config)


def test_unit() -> None:
    assert WindowConfig().unit == "uV"
    assert WindowConfig(**WHITENING).unit == "whitened"


def test_opening_does_not_depend_on_the_number_of_windows(store: Store, describe: Callable, noise: Callable) -> None:
    info = describe(sfreq_hz=1000.0)
    store.write_recording(info, noise(info))
    long = store.trials.loc[store.trials.index.repeat(3)].assign(stop=10**12)
    windows = Windows(store, WindowConfig(window_seconds=1, stride_seconds=0.001), long)
    assert len(windows) == 3 * (10**12 - 999)
    assert windows.describe([len(windows) - 1])["stop"].item() == 10**12
    assert windows.ends.nbytes == 3 * 8


def test_reads_into_a_given_buffer(filled: Store) -> None:
    windows = Windows(filled, WindowConfig(window_seconds=1.0))
    buffer = np.full((2, len(windows.channels), windows.n_times), np.nan, dtype=np.float32)
    assert windows.read([3, 1], out=buffer) is buffer
    assert np.array_equal(buffer, windows.read([3, 1]))


def test_a_cache_changes_nothing(filled: Store) -> None:
    config = WindowConfig(window_seconds=1.0, stride_seconds=0.1)
    cached, plain = Windows(filled, config, cache_bytes=10**6), Windows(filled, config)
    for _ in range(2):
        assert np.array_equal(cached.read([5, 0, 5, 9]), plain.read([5, 0, 5, 9]))
