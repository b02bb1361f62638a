"""Channels go by their names: recordings that store them in another order show the model the same windows."""

import json

import numpy as np
import pytest

from e2llm_core.evaluation.report.pictures import class_topomaps
from e2llm_core.inputs import same_windows
from e2llm_core.stages.measured import MeasuredWindows
from storage.errors import InputError
from storage.windows import Windows


@pytest.mark.parametrize("side", ["train", "validation", "test"])
def test_every_side_is_shown_in_the_order_of_the_training_side(data, reordered, side):
    one, other = (each.windows(getattr(each.split, side)) for each in (data, reordered))
    assert other.channels == one.channels == data.settings.channels
    numbers = np.arange(len(one))
    np.testing.assert_array_equal(other.read(numbers), one.read(numbers))


def test_measures_and_maps_are_those_of_the_electrodes(data, reordered):
    measured = [MeasuredWindows(each.measured(each.split.test)) for each in (data, reordered)]
    numbers = np.arange(len(measured[0].windows))
    np.testing.assert_array_equal(*(each(numbers) for each in measured))
    one, other = (class_topomaps(each) for each in (data, reordered))
    assert one.channels == other.channels
    np.testing.assert_array_equal(one.maps, other.maps)


def test_a_model_of_another_order_or_rate_is_refused(data, reordered, stage2_folder, tmp_path):
    for name in ("config.json", "probe.json"):
        (tmp_path / name).write_bytes((stage2_folder / name).read_bytes())
    same_windows(data.windows(data.split.test), "data.windows", str(tmp_path), "model")
    as_stored = Windows(reordered.store, data.config.windows, reordered.split.test.rows(reordered.store.trials))
    with pytest.raises(InputError, match=r"data.windows.channels: are O2, .* takes FP1, .* in this order"):
        same_windows(as_stored, "data.windows", str(tmp_path), "model")
    config = json.loads((tmp_path / "config.json").read_text())
    config["eeg"]["sfreq_hz"] = 200.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"is sampled at 256 Hz, .* takes 200 Hz"):
        same_windows(data.windows(data.split.test), "data.windows", str(tmp_path), "model")
