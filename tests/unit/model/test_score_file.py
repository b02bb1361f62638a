"""One recording, scored on this machine by the path of the batch job."""

import mne
import numpy as np
import pytest
from typer.testing import CliRunner

from e2llm_core.inference.score_file import score_file
from jobs.cli import app
from storage.errors import InputError
from tests.eeg_files import EdfFile


@pytest.fixture
def model_folder(make_model, processor, tmp_path):
    folder = tmp_path / "model"
    make_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def recording(path, channels, seconds=5.0, sfreq_hz=200.0):
    rng = np.random.default_rng(0)
    signal = 20e-6 * rng.normal(size=(len(channels), round(seconds * sfreq_hz)))
    info = mne.create_info([name.capitalize() for name in channels], sfreq_hz, "eeg")
    mne.io.RawArray(signal, info, verbose="error").save(path, verbose="error")
    return path


def test_every_window_gets_a_row_with_probabilities_and_a_text(model_folder, settings, tmp_path):
    rows = score_file(model_folder, recording(tmp_path / "one_raw.fif", settings.channels))
    assert rows["start_seconds"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    np.testing.assert_allclose(rows["p_sad"] + rows["p_happy"], 1.0, atol=1e-5)
    assert rows["text"].map(type).eq(str).all()
    assert rows["emotion"].dropna().isin(["sad", "happy"]).all()


def test_scoring_twice_gives_the_same(model_folder, settings, tmp_path):
    path = recording(tmp_path / "one_raw.fif", settings.channels)
    assert score_file(model_folder, path).equals(score_file(model_folder, path))


def test_a_recording_without_a_channel_of_the_model_is_refused(model_folder, settings, tmp_path):
    path = recording(tmp_path / "few_raw.fif", settings.channels[:3])
    with pytest.raises(InputError, match=f"no channel {settings.channels[3]}"):
        score_file(model_folder, path)


def test_a_recording_shorter_than_a_window_is_refused(model_folder, settings, tmp_path):
    path = recording(tmp_path / "short_raw.fif", settings.channels, seconds=0.5)
    with pytest.raises(InputError, match="no trial lasts"):
        score_file(model_folder, path)


def test_a_folder_that_is_no_model_is_refused(settings, tmp_path):
    path = recording(tmp_path / "one_raw.fif", settings.channels)
    with pytest.raises(InputError, match="is not a model directory"):
        score_file(tmp_path, path)


def test_times_are_those_of_the_recording(model_folder, settings, tmp_path):
    names = [name.capitalize() for name in settings.channels]
    signals = np.random.default_rng(0).normal(0, 200, (len(names), 400)).astype(np.int32)
    path = EdfFile(signals, names, onsets=[0, 1, 97, 98]).write(tmp_path / "one.edf")
    assert score_file(model_folder, path)["start_seconds"].tolist() == [0.0, 1.0, 97.0, 98.0]


@pytest.mark.parametrize(("units", "seconds", "problem"), [([b""], 5, "the unit of"), ([b"uV"], 0, "no trial lasts")])
def test_a_refusal_names_the_file_and_no_key_of_a_spec(model_folder, settings, units, seconds, problem, tmp_path):
    names = [name.capitalize() for name in settings.channels]
    rate = 100 if seconds else 40
    signals = np.random.default_rng(0).normal(0, 200, (len(names), rate * max(1, seconds))).astype(np.int32)
    file = EdfFile(signals, names, rate=rate, units=units * len(names))
    path = file.write(tmp_path / "one.edf")
    if not seconds:
        path = recording(tmp_path / "one_raw.fif", settings.channels, seconds=0.5)
    with pytest.raises(InputError, match=problem) as caught:
        score_file(model_folder, path)
    assert str(caught.value).startswith(str(path))
    assert "source." not in str(caught.value)
    assert "This command takes a file as it is" in str(caught.value)


def test_the_table_can_be_read_in_80_columns(model_folder, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path = recording(tmp_path / "one_raw.fif", settings.channels)
    shown = CliRunner().invoke(app, ["score", str(model_folder), str(path)])
    assert shown.exit_code == 0, shown.output
    windows = [line for line in shown.stdout.splitlines() if "│" in line and ".0 " in line[:12]]
    assert [line.split("│")[1].strip() for line in windows] == ["0.0", "1.0", "2.0", "3.0", "4.0"]
    assert all(word in ("sad", "happy") for line in windows for word in [line.split("│")[3].split()[0]])
    assert {len(line) for line in shown.stdout.splitlines() if line[0] in "┏┡└"} <= set(range(81))
