"""Stage 3 fits temperatures on its validation side: of likelihoods that are the predictor's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from e2llm_core.inference.predictor import Predictor
from e2llm_core.model.calibration import fit_temperature, read_calibration, smoothed_nll
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.stage3 import calibrating
from e2llm_core.stages.stage3.stage import Stage3
from e2llm_core.tasks.registry import TASKS, trained_tasks
from e2llm_core.training.world import World


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(calibrating, "ITEMS", 9)


@torch.no_grad()
def calibrated(stage, exported, folder):
    """A stage that has trained, as the trainer ends it."""
    model, state = exported(stage, folder)
    stage.calibrate(model, World())
    stage.export(model, state, folder)
    return model


def test_temperatures_are_those_of_the_predictor_on_validation_windows(make_stage3, data, exported, few, tmp_path):
    stage = make_stage3(tasks=tuple(trained_tasks()), train=LanguageTrainConfig(seed=0, micro_batch=7))
    model = calibrated(stage, exported, tmp_path)
    kept, predictor = read_calibration(tmp_path), Predictor(tmp_path)
    assert [one.task for one in kept.temperatures] == list(trained_tasks())
    source = data.windows(data.split.validation)
    for one in kept.temperatures:
        task = TASKS[one.task]
        question, items = task.question(data.labels), calibrating.chosen_items(task, stage.validation, 0)
        assert set(items.table["subject"]) == {"s2"}
        shown = np.stack([source.read(windows) for windows in items.windows])
        nll = predictor.option_nll(question, shown, items.listed)
        scorer = calibrating.OptionScorer(stage.validation, stage.processor, question, stage.train, items.listed)
        with torch.no_grad():
            np.testing.assert_allclose(scorer.nll(model, items.windows, World()), nll, rtol=1e-3, atol=1e-3)
        truth = np.array([question.options.index(label) for label in items.table["label"]])
        assert one.temperature == pytest.approx(fit_temperature(nll, truth)[0], rel=2e-2)
        assert (one.n, one.split_digest) == (len(items.windows), data.split.digest)
        assert smoothed_nll(nll, truth, one.temperature) <= smoothed_nll(nll, truth, 1.0)


def test_without_a_validation_side_a_model_is_not_calibrated(make_stage3, data, stage2_folder, exported, tmp_path):
    split = data.config.split.model_copy(update={"validation": ()})
    alone = replace(data, config=data.config.model_copy(update={"split": split}))
    assert not alone.split.validation
    stage = Stage3(alone, stage2_folder, None, ("IED",), LanguageTrainConfig())
    calibrated(stage, exported, tmp_path)
    assert read_calibration(tmp_path).temperatures == ()
    assert not (tmp_path / "calibration.json").exists()


@torch.no_grad()
def test_a_row_is_within_the_bound_of_training(make_stage3, data, exported, few, tmp_path):
    """All options of an item are as many samples, and a row may have room for fewer."""
    stage = make_stage3(train=LanguageTrainConfig(seed=0))
    model, _ = exported(stage, tmp_path)
    rows = []
    held = model.register_forward_pre_hook(
        lambda module, args, given: rows.append(len(given["cu_seq_lens_q"]) - 1), with_kwargs=True
    )
    task = TASKS["IED"]
    items = calibrating.chosen_items(task, stage.validation, 0)
    found, options = {}, len(task.question(data.labels).options)
    for bound in (options - 1, 64):
        train = LanguageTrainConfig(seed=0, micro_batch=bound)
        scorer = calibrating.OptionScorer(stage.validation, stage.processor, task.question(data.labels), train)
        found[bound] = scorer.nll(model, items.windows, World())
        assert max(rows) <= bound
        rows.clear()
    held.remove()
    np.testing.assert_allclose(found[options - 1], found[64], rtol=1e-3, atol=1e-3)


def test_the_items_are_few_and_follow_from_the_seed(make_stage3, few):
    source = make_stage3().validation
    for task in trained_tasks().values():
        first, again, other = (calibrating.chosen_items(task, source, seed) for seed in (0, 0, 1))
        assert len(first.windows) == len(first.table) == 9
        assert first.windows.tolist() == again.windows.tolist() != other.windows.tolist()
