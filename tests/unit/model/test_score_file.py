"""One recording, scored on this machine by the path of the batch job."""

import mne
import numpy as np
import pytest

from cluster.score_file import score_file
from storage.errors import InputError


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
    with pytest.raises(InputError, match="no model directory"):
        score_file(tmp_path, path)
