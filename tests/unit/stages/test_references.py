"""Baselines, controls and several models beside each other, on a small store."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from e2llm_core.evaluation import run
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.faithfulness.claim_rows import CLAIMS
from e2llm_core.evaluation.faithfulness.metrics import CHECKS
from e2llm_core.evaluation.inputs import Heads, TrainedLabels
from e2llm_core.evaluation.predictions import check_predictions, read_predictions
from e2llm_core.evaluation.references.baselines.network import NetworkBaseline
from e2llm_core.evaluation.references.baselines.table import BASELINES, BaselineEntry
from e2llm_core.evaluation.references.fitted_controls import PERMUTED_LABELS
from e2llm_core.evaluation.references.inputs import ReferenceInputs
from e2llm_core.evaluation.references.windows import BaselineWindows
from e2llm_core.inputs import Fit
from e2llm_core.plan import check_inputs
from e2llm_core.tasks.registry import TASKS, control_names
from storage.errors import InputError
from storage.splits import BySubject, Custom, SideConfig
from tests.askable import askable
from tests.killed_attempts import Death, FakeClient

LABELLED = [name for name, task in askable(("sad", "happy", "neutral")).items() if task.num_segments == 1]
FITTED = ["permuted_labels", "decoded_subject", "decoded_position"]


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_answers_every_task(data, name, monkeypatch):
    baseline = BASELINES[name].load()
    if isinstance(baseline, NetworkBaseline):
        monkeypatch.setattr(BaselineEntry, "load", lambda entry: replace(baseline, max_epochs=1))
    inputs = ReferenceInputs(data, 0, (name,))
    for task in askable(data.labels).values():
        items = task.items(data.windows(data.split.test), 12, 0)
        (make,) = task.references(inputs, items).values()
        rows = make()
        check_predictions(rows)
        assert set(rows["model"]) == {name}
        assert rows["item_id"].tolist() == items.table["item_id"].tolist()
        assert np.stack(rows["probabilities"].to_list()).sum(axis=1) == pytest.approx(1.0)
        pd.testing.assert_frame_equal(make(), rows)


def test_features_that_are_kept_are_those_that_are_measured(data, tmp_path, monkeypatch):
    kinds = [BASELINES[name].load().kind for name in ("de_svm", "riemann_lr")]
    once = BaselineWindows(data, 0)
    for kind in kinds:
        kept = BaselineWindows(data, 0, str(tmp_path)).features(kind)
        assert np.array_equal(kept, once.features(kind))
    assert len(list(tmp_path.iterdir())) == 2
    split = data.config.split.model_copy(update={"train": ("s0", "s3"), "test": ("s1",)})
    other = type(data).open(data.config.model_copy(update={"split": split}))
    expected = [BaselineWindows(other, 0).features(kind) for kind in kinds]
    for kind, features in zip(kinds, expected, strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(kind.__class__, "measure", lambda *_: pytest.fail("they are there"))
            assert np.array_equal(BaselineWindows(other, 0, str(tmp_path)).features(kind), features)


def evaluated(plan, folder, log):
    """Rows, predictions and page of an evaluation whose language models answer at random."""
    path = run.evaluate(plan, folder, lambda one: nullcontext(FakeClient(log, Death(None))), {})
    assert path == f"{folder}/report.html"
    summary = json.loads((folder / "summary.json").read_text())
    return summary["results"], read_predictions(folder / "predictions.parquet"), (folder / "report.html").read_text()


def test_without_a_model_references_and_controls_stand_alone(data, tmp_path):
    plan = EvaluationPlan(data=data.config, num_pairs=12, controls=("session_only", "permuted_labels"))
    check_inputs(plan.inputs())
    rows, predictions, page = evaluated(plan, tmp_path / "run", tmp_path / "log")
    assert not (tmp_path / "log").exists(), "nobody is asked"
    assert set(predictions["model"]) == {"de_svm", "session_only", "permuted_labels"}
    assert not any(row["primary"] for row in rows)
    assert "DE + linear SVM" in page
    assert "labels permuted" in page


def test_of_stage_1_the_label_head_answers_and_the_features_are_looked_at(data, tower_folder, tmp_path):
    plan = EvaluationPlan(data=data.config, model=str(tower_folder), tasks=LABELLED, baselines=(), controls=FITTED)
    rows, predictions, page = evaluated(plan, tmp_path / "run", tmp_path / "log")
    assert set(predictions["model"]) == {"probe", "tower", "permuted_labels"}
    decoded = [row for row in rows if row["model"] == "tower" and row["metric"] == "balanced_accuracy"]
    assert {row["condition"]: row["chance"] for row in decoded} == {"decoded_subject": 0.5, "decoded_position": 0.25}
    scored = {row["metric"] for row in rows if row["condition"].startswith("decoded_")}
    assert scored == {"balanced_accuracy", "accuracy"}
    trained = predictions[predictions["model"] == "tower"]
    assert set(trained["subject"]) == set(data.split.train.subjects)
    assert "subject from features" in page
    assert "a finding" in page


def test_a_model_of_other_labels_is_refused_before_anything_is_computed(data, tower_folder, tmp_path):
    folder = shutil.copytree(tower_folder, tmp_path / "model")
    content = json.loads((folder / "probe.json").read_text())
    (folder / "probe.json").write_text(json.dumps(content | {"labels": ["low", "high", "rest"]}))
    plan = EvaluationPlan(data=data.config, model=str(folder), tasks=LABELLED, baselines=())
    with pytest.raises(InputError, match=r"labels low, high, rest, but the store's labels are sad, happy, neutral"):
        evaluated(plan, tmp_path / "run", tmp_path / "log")


def test_several_models_stand_beside_each_other(data, stage2_folder, tower_folder, tmp_path, held_out):
    models = {"small": str(stage2_folder), "large": str(stage2_folder), "encoder": str(tower_folder)}
    plan = EvaluationPlan(data=data.config, models=models, num_pairs=12, controls=("random_eeg", "decoded_subject"))
    rows, predictions, page = evaluated(plan, tmp_path / "run", tmp_path / "log")
    asked = predictions[predictions["readout"] == "generation"]
    assert set(asked["model"]) == {"small", "large"}
    shown = {("IED", "eeg", "primary"), ("IED", "eeg", "seen"), ("IED", "random_eeg", "primary")}
    shown |= {("EPC", "eeg", "primary"), ("EPC", "eeg", "seen"), ("EPC", "random_eeg", "primary")}
    assert set(asked[["task", "condition", "prompt"]].itertuples(index=False, name=None)) == shown
    assert predictions.loc[~predictions["model"].isin(["small", "large"]), "prompt"].isna().all()
    assert all(row["prompt"] == "primary" for row in rows if row["primary"] or row["metric"] == "claim_accuracy")
    parts = {f"{part}-{name}" for part in ("probe", "tower") for name in models}
    assert set(predictions["model"]) == {"small", "large", "de_svm"} | parts
    assert [row["model"] for row in rows if row["primary"]] == ["small", "large"]
    assert [row["model"] for row in rows if row["metric"] == "claim_accuracy"] == ["small", "large"]
    assert set(CHECKS) <= {row["metric"] for row in rows if row["model"] == "large"}
    claims = pd.read_parquet(tmp_path / "run" / CLAIMS)
    assert claims["model"].value_counts().to_dict() == dict.fromkeys(("large", "small"), len(claims) // 2)
    assert set(claims["item_id"]) <= set(predictions["item_id"])
    assert "<h2>Faithfulness</h2>" in page
    assert all(name in page for name in ("small (generation)", "large (generation)", "probe-encoder"))
    assert (tmp_path / "run" / "answers" / "small").is_dir()
    keys = ("task", "model", "condition", "readout", "prompt", "metric")
    scored = json.loads((tmp_path / "run" / "summary.json").read_text())["per_subject"]
    assert {tuple(one[key] for key in keys) for one in scored} == {tuple(row[key] for key in keys) for row in rows}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "a", "models": {"b": "b"}}, "either model or models"),
        ({"models": {"de_svm": "b"}}, "already names something else"),
        ({"models": {"random_eeg": "b"}}, "already names something else"),
        ({"models": {"probe-b": "b"}}, "already names something else"),
        ({"models": {"a/b": "b"}}, "is not a name"),
        ({"baselines": ["de_svm", "de_svm"]}, "names one of them twice"),
        ({"baselines": ["svm"]}, "is none of de_svm, de_lr"),
        ({"controls": ["noise"]}, "is none of random_eeg"),
        ({"baselines": [], "controls": []}, "nothing is evaluated"),
    ],
)
def test_settings_that_do_not_fit_are_refused(data, settings, words):
    with pytest.raises(ValueError, match=words):
        EvaluationPlan(data=data.config, **settings)


def test_what_a_model_lacks_is_named_before_anything_runs(data, llm_folder, stage2_folder, tower_folder, tmp_path):
    for folder in (stage2_folder, tower_folder):
        assert Heads("model", str(folder)).digest() is None
    with pytest.raises(InputError, match=r"models\.a: .*no label head: no probe\.json"):
        Heads("models.a", str(llm_folder)).digest()
    half = tmp_path / "half"
    half.mkdir()
    for file in tower_folder.iterdir():
        if file.name != "probe.safetensors":
            (half / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match=r"no probe\.safetensors here"):
        Heads("model", str(half)).digest()
    plan = EvaluationPlan(data=data.config, models={"a": str(tower_folder), "b": str(half)})
    assert [given.field for given in plan.inputs() if isinstance(given, Heads | Fit)] == [
        "models.a",
        "models.b",
        "models.a",
        "models.b",
    ]


def test_a_class_that_no_training_trial_has_is_named_before_anything_runs(data):
    sides = {"train": SideConfig(clips=(1, 6)), "validation": SideConfig(clips=(4,)), "test": SideConfig(clips=(2, 3))}
    split = Custom(protocol="custom", **sides, disjoint_on=("clip",))
    config = data.config.model_copy(update={"split": split})
    with pytest.raises(InputError, match=r"data\.split \(custom\).*tests happy without any training trial for de_svm"):
        check_inputs(EvaluationPlan(data=config).inputs())
    for settings in ({"missing_labels": "accept"}, {"baselines": ()}):
        check_inputs(EvaluationPlan(data=config, **settings).inputs())
    kinds = [type(given) for given in EvaluationPlan(data=config, baselines=(), controls=FITTED).inputs()]
    assert TrainedLabels in kinds


def test_a_class_that_only_the_stand_in_for_validation_has_is_named_before_anything_runs(data, monkeypatch):
    split = BySubject(train=("s0", "s1"), validation=(), test=("s3",))
    config = data.config.model_copy(update={"split": split})
    check_inputs(EvaluationPlan(data=config).inputs())
    trials = data.store.trials
    unlabelled = (trials["label"] == "sad") & (trials["subject"] == "s0")
    relabelled = SimpleNamespace(trials=trials.assign(label=trials["label"].mask(unlabelled)))
    monkeypatch.setattr("e2llm_core.evaluation.inputs.open_store", lambda place: relabelled)
    with pytest.raises(InputError, match="tests sad without any training trial for de_svm"):
        TrainedLabels("data.split", config, "de_svm").digest()


def test_features_of_a_store_with_unlike_recordings_are_not_kept(data, tmp_path):
    shutil.copytree(str(data.store.root), tmp_path / "store.zarr")
    other = type(data).open(data.config.model_copy(update={"store": str(tmp_path / "store.zarr")}))
    info = other.store.recordings["sub-3"]
    fewer = {"recording_id": "sub-4", "subject": "s4", "channels": info.channels[:-1]}
    other.store.write_recording(info.model_copy(update=fewer), np.ones((len(info.channels) - 1, info.n_times)))
    other = type(data).open(other.config)
    assert BaselineWindows(other, 0).size[0] == len(info.channels)
    inputs = ReferenceInputs(other, 0, ("de_svm",), kept_features=str(tmp_path / "kept"))
    with pytest.raises(InputError, match=rf"^kept_features: .*sub-4 has no channel {info.channels[-1]}\. Leave it out"):
        inputs.check()


@pytest.mark.parametrize(("name", "seconds"), [("shallow_convnet", 0.25), ("de_svm", 0.1)])
def test_windows_that_a_baseline_cannot_take_are_named_before_anything_runs(data, name, seconds):
    windows = data.config.windows.model_copy(update={"window_seconds": seconds, "stride_seconds": 1.0})
    short = type(data).open(data.config.model_copy(update={"windows": windows}))
    task = TASKS[LABELLED[0]]
    items = task.items(short.windows(short.split.test), 12, 0)
    with pytest.raises(InputError, match=rf"data\.windows: {name} cannot be fitted"):
        task.references(ReferenceInputs(short, 0, (name,)), items)
    if name == "de_svm":
        with pytest.raises(InputError, match=r"data\.windows: de_svm cannot be fitted"):
            PERMUTED_LABELS.answers(ReferenceInputs(short, 0), task.name, items)


def test_every_control_can_be_named():
    assert {"random_eeg", "session_only", "session_position", "nearest_trial", *FITTED} <= set(control_names())
