"""What is sent to the replicas of an evaluation, and what they make of it."""

import os
import tracemalloc
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from e2llm_core.evaluation.answers import ItemAnswerer, KeptAnswers, answer_sets
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.faithfulness.edits import BandEdit, edited
from e2llm_core.evaluation.items import Forced, Noise, Request, requests_of
from e2llm_core.evaluation.report.pictures import class_topomaps
from e2llm_core.inference.predictor import Predictor
from e2llm_core.tasks.items import EEG, RANDOM_EEG, TEXT_ALONE, Items, every_window
from e2llm_core.tasks.registry import LABELLING, TASKS
from storage.signal.bands import BANDS
from storage.windows import WindowConfig, Windows
from tests.askable import askable
from tests.killed_attempts import Death, FakeClient


@pytest.fixture(scope="module")
def source(data) -> Windows:
    return data.windows(data.split.test)


def noise(source: Windows, size: int, items: Items, seed: int = 0) -> np.ndarray:
    made = Noise(source, seed)
    return np.concatenate([made.segments(request) for request in requests_of(items, RANDOM_EEG, size)])


def test_noise_is_the_same_in_any_request(source):
    labels = sorted(source.trials["label"].unique())
    for items in (task.items(source, 10, 0) for task in askable(labels).values()):
        whole = noise(source, len(items.table), items)
        assert whole.dtype == np.float32
        for size in (1, 3, 7):
            assert noise(source, size, items).tobytes() == whole.tobytes()
        backwards = Request(RANDOM_EEG, np.arange(len(whole))[::-1], items.windows[::-1])
        assert Noise(source, 0).segments(backwards)[::-1].tobytes() == whole.tobytes()
        segments = whole.reshape(-1, *whole.shape[2:])
        assert len({one.tobytes() for one in segments}) == len(segments), "each segment has noise of its own"
        assert not np.array_equal(noise(source, 3, items, seed=1), whole)


def test_noise_has_the_band_and_the_amplitude_of_the_eeg(source):
    many = Request(RANDOM_EEG, np.arange(200), np.zeros((200, 1), int))
    made = Noise(source, 0).segments(many)[:, 0]
    expected = source.read(np.arange(len(source))).std(axis=(0, 2))
    np.testing.assert_allclose(made.std(axis=(0, 2)), expected, rtol=0.03)
    power = (np.abs(np.fft.rfft(made)) ** 2).mean(axis=(0, 1))
    freqs = np.fft.rfftfreq(source.n_times, 1 / source.sfreq_hz)
    inside = (freqs >= 0.5) & (freqs < 50)
    assert power[~inside].max() < 1e-6 * power[inside].mean()
    np.testing.assert_allclose(power[inside], power[inside].mean(), rtol=0.2)


def test_replicas_read_what_is_asked_for(data, stage2_folder, source):
    plan = EvaluationPlan(data=data.config, model=str(stage2_folder))
    answerer, predictor = ItemAnswerer(plan), Predictor(str(stage2_folder))
    (task,) = [task for task in TASKS.values() if task.num_segments == 2]
    question, items = task.question(data.labels), task.items(source, 10, 0)
    for condition in ("eeg", RANDOM_EEG):
        request = requests_of(items, condition, 4)[1]
        assert request.items.tolist() == [4, 5, 6, 7]
        shown = Noise(source, 0).segments(request)
        if condition == "eeg":
            shown = np.stack([source.read(pair) for pair in request.windows])
        assert np.array_equal(answerer.likelihood(question, request), predictor.likelihood(question, shown))


def test_replicas_change_the_signal_before_it_is_normalised(data, stage2_folder, source):
    plan = EvaluationPlan(data=data.config, model=str(stage2_folder))
    answerer, predictor = ItemAnswerer(plan), Predictor(str(stage2_folder))
    question, windows = LABELLING.question(data.labels), np.array([[3], [0], [5]])
    edits = (BandEdit("alpha", "central", 5.0), None, BandEdit("beta", "occipital", 0.1))
    request = Request("eeg", np.arange(3), windows, edits)
    prefixes, texts = ("<think>\n",) * 3, (("sad", "happy"),) * 3
    change = partial(edited, edits=edits, channels=source.channels, sfreq_hz=source.sfreq_hz)
    shown = source.read(windows[:, 0], change=change)[:, None]
    found = answerer.forced(question, Forced(request, prefixes, texts))
    assert np.array_equal(found, predictor.forced_nll(question, shown, prefixes, texts))
    plain = answerer.forced(question, Forced(Request("eeg", np.arange(3), windows), prefixes, texts))
    assert np.array_equal(found[1], plain[1])
    assert not np.array_equal(found[0], plain[0])
    assert answerer.generate(question, request) == predictor.generate(question, shown)


def test_replicas_are_asked_in_text_alone(data, stage2_folder, source):
    """No segment is shown, and each item has options of its own."""
    plan = EvaluationPlan(data=data.config, model=str(stage2_folder))
    answerer, predictor = ItemAnswerer(plan), Predictor(str(stage2_folder))
    task, listed = TASKS["ESR"], ("A: cries\nB: smiles\nC: runs\nD: waits", "A: runs\nB: waits\nC: cries\nD: smiles")
    items = every_window(source).taken(np.arange(2))
    items = Items(items.table.assign(listed=listed), items.windows)
    question = task.question(data.labels, None, TEXT_ALONE)
    (request,) = requests_of(items, TEXT_ALONE, 4)
    assert request.windows.shape == (2, 0)
    nothing = np.empty((2, 0, len(source.channels), source.n_times), np.float32)
    found = answerer.likelihood(question, request)
    assert np.array_equal(found, predictor.likelihood(question, nothing, listed))
    assert found.shape == (2, 4)
    assert answerer.generate(question, request) == predictor.generate(question, nothing, listed)
    with_eeg = answerer.likelihood(task.question(data.labels), requests_of(items, EEG, 4)[0])
    assert not np.allclose(found, with_eeg)


def many_items(count: int) -> Items:
    """Rows as of windows that nobody recorded."""
    names = {name: "1" for name in ("recording_id", "subject", "session")}
    segments = [
        [names | {"trial": 1, "clip": 1, "start": number, "stop": number + 800, "position": 1}]
        for number in range(count)
    ]
    table = pd.DataFrame({"item_id": [str(number) for number in range(count)], "label": "sad"})
    return Items(table.assign(subject="1", session="1", segments=segments), np.arange(count)[:, None])


def test_both_wordings_are_asked_about_the_eeg_and_kept_apart(held_out):
    sets = answer_sets(LABELLING, many_items(60), ("sad", "happy"))
    asked = [(one.condition, one.readout, one.prompt) for one in sets]
    assert asked == [
        *((shown, way, "primary") for shown in ("eeg", RANDOM_EEG) for way in ("likelihood", "generation")),
        *(("eeg", way, "seen") for way in ("likelihood", "generation")),
    ]
    users = {one.prompt: one.question.user for one in sets}
    assert users["primary"] != users["seen"]
    parts = [name for one in sets for name in one.parts()]
    assert len(parts) == len(set(parts)) == 2 * 6
    assert len({one.name for one in sets}) == 6


def test_without_a_primary_wording_each_condition_is_asked_once(none_held_out):
    sets = answer_sets(LABELLING, many_items(60), ("sad", "happy"))
    asked = [(one.condition, one.readout, one.prompt) for one in sets]
    assert asked == [(shown, way, "seen") for shown in ("eeg", RANDOM_EEG) for way in ("likelihood", "generation")]
    assert {one.question.user for one in sets} == {LABELLING.ask(("sad", "happy"))}


def test_the_driver_holds_rows_and_no_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    labels = ("sad", "happy", "neutral")

    def peak_bytes(count: int) -> int:
        folder: Path = tmp_path / str(count)
        kept = KeptAnswers(folder, {"model": "a"})
        tracemalloc.start()
        sets = answer_sets(LABELLING, many_items(count), labels)
        kept.ask(sets, lambda: nullcontext(FakeClient(tmp_path / "log", Death(None))))
        assert sum(len(kept.rows(one, 0)) for one in sets) == 6 * count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    grown = (peak_bytes(2000) - peak_bytes(200)) / 1800
    assert grown < 4000, "a window of 58 channels and 4 s at 200 Hz has 185,600 bytes"


def test_maps_are_of_deviations_from_the_session(data):
    config = WindowConfig(
        window_seconds=1.0,
        stride_seconds=1.0,
        normalisation="session-whitening",
        adaptation="transductive-unlabelled",
    )
    source = Windows(data.store, config, data.split.test.rows(data.store.trials))
    power = np.abs(np.fft.rfft(source.read(np.arange(len(source))).astype(float))) ** 2 / source.n_times
    freqs = np.fft.rfftfreq(source.n_times, 1 / source.sfreq_hz)
    bands = [power[..., (freqs >= low) & (freqs < high)].mean(axis=-1) for low, high in BANDS.values()]
    logs, label = np.log(np.stack(bands, axis=1) + 1e-6), source.table["label"].to_numpy()
    found = class_topomaps(data)
    means = np.stack([logs[label == name].mean(axis=0) for name in found.labels])
    np.testing.assert_allclose(found.maps, means - means.mean(axis=0), atol=1e-4)
