"""Stages on sides that are not whole subjects, and in balanced orders."""

import numpy as np
import pytest
import torch

from e2llm_core.evaluation.references.inputs import ReferenceInputs
from e2llm_core.evaluation.references.sides import with_validation
from e2llm_core.evaluation.run import control_predictions
from e2llm_core.stages.config import DataConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.measured import MeasuredWindows
from e2llm_core.stages.stage1.objectives.config import Stage1Losses
from e2llm_core.stages.stage1.stage import Stage1
from e2llm_core.tasks.items import shown
from e2llm_core.tasks.registry import LABELLING
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.world import World
from storage.errors import InputError
from storage.sampling.strata import BalancedOrder
from storage.splits import Custom, Side, SideConfig


@pytest.fixture(scope="module")
def by_clip(data) -> EEGData:
    """Every subject on every side, the clips kept apart."""
    split = Custom(
        protocol="custom",
        train=SideConfig(clips=(1, 2, 3)),
        validation=SideConfig(clips=(4,), subjects=("s0", "s1")),
        test=SideConfig(clips=(5, 6)),
        disjoint_on=("clip",),
        reserved=1,
    )
    return EEGData.open(DataConfig(store=data.config.store, windows=data.config.windows, split=split))


def micro(ids) -> MicroBatch:
    return MicroBatch(np.asarray(ids), np.arange(len(ids)), np.ones(len(ids), np.float32))


def test_stage1_fits_the_clips_of_its_side(by_clip, tower_config):
    stage = Stage1(by_clip, tower_config, Stage1Losses(), 0)
    assert set(stage.windows.trials["clip"]) == {1, 2, 3}
    assert set(stage.windows.trials["subject"]) == {"s0", "s1", "s2"}
    with torch.no_grad():
        metrics = stage.validate(stage.build()[0].eval(), World())
    assert {"balanced_accuracy_validation", "balanced_accuracy_reserved", "balanced_accuracy_fitted"} <= set(metrics)
    assert stage._origin().sides == (
        Side(subjects=("s0", "s1", "s2"), clips=(1, 2, 3)),
        Side(subjects=("s0", "s1"), clips=(4,)),
    )


def test_balanced_stages_show_classes_equally_often(data, tower_config, make_stage2, make_stage3):
    stage = Stage1(data, tower_config, Stage1Losses(), 0, "class")
    order = stage.order(0)
    assert isinstance(order, BalancedOrder)
    labels = stage.prepare(micro(order.batch(0, 30))).tensors["labels"].numpy()
    assert np.bincount(labels).tolist() == [10, 10, 10]
    for made in (make_stage2(), make_stage3()):
        made.balance = "class-and-subject"
        order = made.order(0)
        ids = order.batch(0, order.size)
        assert set(ids) == set(range(made.size))
        rows = made.training.windows.trials.iloc[made.training.windows.locate(ids % len(made.training))[0]]
        assert rows.groupby(["subject", "label"]).size().nunique() == 1


def test_measures_do_not_depend_on_the_company_or_on_what_was_kept(data, monkeypatch):
    measured = data.measured(data.split.train)
    ids = np.array([5, 0, 7, 7, 2])
    whole = MeasuredWindows(measured)(np.arange(len(measured)))
    assert np.array_equal(MeasuredWindows(measured)(ids), whole[ids])
    monkeypatch.setattr("e2llm_core.stages.measured._KEPT", 2)
    tight = MeasuredWindows(measured)
    for _ in range(2):
        assert np.array_equal(tight(ids), whole[ids])
        assert len(tight._kept) == 2


def test_the_spread_of_very_many_windows_is_a_sample(data, monkeypatch):
    measured = data.measured(data.split.train)
    whole = MeasuredWindows(measured).scaler()
    monkeypatch.setattr("e2llm_core.stages.measured._FITTED", 7)
    monkeypatch.setattr("e2llm_core.stages.measured.AVERAGED", 3)
    monkeypatch.setattr("e2llm_core.stages.reliability.FEWEST", 2)
    monkeypatch.setattr("e2llm_core.stages.reliability._SAMPLE", 3)
    monkeypatch.setattr("e2llm_core.stages.measured.FEWEST", 2)
    sample = MeasuredWindows(measured)
    assert not np.array_equal(sample.scaler().std, whole.std)
    assert len(sample._kept) <= 7 + 2 * 3 + 2 * 3 < len(measured)


def test_the_baseline_takes_any_sides_and_adapts_by_whole_sessions(by_clip):
    items = LABELLING.items(by_clip.windows(by_clip.split.test), 0, 0)
    rows = ReferenceInputs(by_clip, 0).fitted("de_svm").label(LABELLING.name, items)
    assert len(rows) == len(by_clip.windows(by_clip.split.test))
    assert set(shown(rows)["trial"]) == {5, 6}


def test_controls_expect_what_the_split_implies(by_clip):
    items = LABELLING.items(by_clip.windows(by_clip.split.test), 0, 0)
    found = control_predictions(by_clip, LABELLING, items, 0)
    rows, expected = found["session_position"]
    assert expected == {}, "its own answers are nothing to compare it with"
    assert (rows["answer"] == rows["truth"]).mean() < 1, "no position of a tested clip was trained"


def test_a_baseline_needs_somebody_to_choose_its_cost(by_clip):
    split = by_clip.split.model_copy(update={"validation": None})
    sides = with_validation(split)
    assert sides["validation"].subjects == split.train.subjects[-1:]
    assert sides["train"].subjects == split.train.subjects[:-1]
    alone = split.model_copy(update={"train": split.train.of(("s0",))})
    with pytest.raises(InputError, match="needs validation trials"):
        with_validation(alone)
