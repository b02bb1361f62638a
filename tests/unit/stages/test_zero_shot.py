"""Evaluations of questions that nothing was trained on with EEG: their rows, references, controls and refusals."""

import json
from contextlib import nullcontext

import numpy as np
import pytest

from e2llm_core.evaluation import run
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.predictions import matching, read_predictions
from e2llm_core.inputs import Fit
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.plan import check_inputs
from e2llm_core.stages.config import DataConfig, LanguageTrainConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.stage1.objectives.config import Stage1Losses
from e2llm_core.stages.stage1.stage import Stage1
from e2llm_core.stages.stage2.stage import Stage2
from e2llm_core.stages.stage3.plan import Stage3Plan
from e2llm_core.tasks.facts import ClaimChoice
from e2llm_core.tasks.letters import LETTERS
from storage.errors import InputError
from storage.labels import SEED_VII
from storage.splits import BySubject
from storage.store import RecordingInfo, Trial, create_store
from tests.killed_attempts import Death, FakeClient

CHANNELS = ("FP1", "C3", "O1", "O2")
CLIP = 512
TASKS = ("IED", "IED-open", "ESR", "ESR-untaught", "MC-2-nearest", "MC-4-session", "MC-all")
LEFT_OUT = "fear"


@pytest.fixture(scope="module")
def seven(tmp_path_factory) -> EEGData:
    """Noise of four subjects who were in all of SEED-VII's states, one of which is never trained."""
    root = tmp_path_factory.mktemp("seven") / "store.zarr"
    store = create_store(root, dataset="synthetic", label_set=SEED_VII)
    for subject in range(4):
        trials = tuple(
            Trial(trial=n, position=n, clip=n, start=(n - 1) * CLIP, stop=n * CLIP, label=SEED_VII.names[n - 1])
            for n in range(1, len(SEED_VII) + 1)
        )
        info = RecordingInfo(
            recording_id=f"sub-{subject}",
            subject=f"s{subject}",
            session="1",
            channels=CHANNELS,
            sfreq_hz=256.0,
            n_times=len(trials) * CLIP,
            source_sha256="0" * 64,
            ingest_digest=f"{subject}" * 64,
            provenance={},
            trials=trials,
        )
        noise = np.random.default_rng(subject).normal(0, 20, (len(CHANNELS), info.n_times))
        store.write_recording(info, noise)
    windows = {"window_seconds": 1.0, "stride_seconds": 1.0}
    split = BySubject(train=("s0", "s1"), validation=("s2",), test=("s3",), left_out=(LEFT_OUT,))
    return EEGData.open(DataConfig(store=str(root), windows=windows, split=split))


@pytest.fixture(scope="module")
def model(seven, tower_config, llm_folder, exported, tmp_path_factory) -> str:
    """A model of stage 2 that never saw the label."""
    folder = tmp_path_factory.mktemp("zero-shot")
    stages = {name: folder / name / "model" for name in ("stage1", "stage2")}
    for path in stages.values():
        path.mkdir(parents=True)
    exported(Stage1(seven, tower_config, Stage1Losses(), 0), stages["stage1"])
    train = LanguageTrainConfig(claims=ClaimChoice(smallest=0, reliability=0))
    stage2 = Stage2(seven, stages["stage1"], str(llm_folder), ProjectorConfig(kind="mlp"), train, ("describe",))
    assert LEFT_OUT not in {stage2.training.label(window) for window in range(len(stage2.training))}
    exported(stage2, stages["stage2"])
    return str(stages["stage2"])


@pytest.fixture(scope="module")
def evaluated(seven, model, tmp_path_factory):
    """Results, predictions and report of two models with these weights."""
    folder = tmp_path_factory.mktemp("evaluated")
    plan = EvaluationPlan(
        data=seven.config, models={"a": model, "b": model}, tasks=TASKS, num_pairs=28, baselines=("power_lr",)
    )
    run.evaluate(plan, folder / "run", lambda one: nullcontext(FakeClient(folder / "log", Death(None))), {})
    results = json.loads((folder / "run" / "summary.json").read_text())["results"]
    predictions = read_predictions(folder / "run" / "predictions.parquet")
    return results, predictions, (folder / "run" / "report.html").read_text()


def test_every_task_is_asked_and_answered_by_all_that_can(evaluated):
    _, predictions, _ = evaluated
    for task in TASKS:
        rows = predictions[predictions["task"] == task]
        asked = {"a", "b", "probe-a", "probe-b", "power_lr"}
        assert asked <= set(rows["model"])
        assert ("lookup-a" in set(rows["model"])) == task.startswith("ESR")
        assert ("text_alone" in set(rows["condition"])) == task.startswith(("ESR", "MC"))
        numbers = rows.groupby(["model", "condition", "readout", "prompt"], dropna=False).size()
        assert len(set(numbers)) == 1
    whole = matching(predictions, {"task": "MC-all", "model": "a", "condition": "eeg", "prompt": "primary"})
    assert {tuple(labels) for labels in whole["labels"]} == {LETTERS[:7]}


def test_what_is_looked_up_is_the_product_of_a_models_own_answers(evaluated):
    _, predictions, _ = evaluated
    rows = matching(predictions, {"task": "ESR", "model": "lookup-a"})
    assert set(rows["condition"]) == {"eeg"}
    assert np.stack(rows["probabilities"].to_list()).sum(axis=1) == pytest.approx(1.0)
    other = matching(predictions, {"task": "ESR", "model": "lookup-b"})
    assert np.array_equal(*(np.stack(some["probabilities"].to_list()) for some in (rows, other)))


def test_the_recall_of_the_label_that_was_left_out_counts_its_items_alone(evaluated):
    results, predictions, _ = evaluated
    found = [row for row in results if row["metric"] == "untrained_recall"]
    assert {row["task"] for row in found} == {"IED", "IED-open"}
    assert {row["condition"] for row in found} == {"eeg", "random_eeg"}
    for row in found:
        keys = {name: row[name] for name in ("task", "model", "condition", "readout", "prompt")}
        own = matching(predictions, keys)
        own = own[own["truth"] == LEFT_OUT]
        assert row["n"] == len(own) == 2
        assert row["value"] == pytest.approx((own["answer"] == LEFT_OUT).mean())
        assert row["chance"] == pytest.approx(1 / 7)


def test_controls_have_their_expected_values(evaluated):
    results, _, page = evaluated
    expected = {"ESR": 1 / 4, "MC-2-nearest": 1 / 2, "MC-4-session": 1 / 4, "MC-all": 1 / 7}
    for task, chance in expected.items():
        rows = [row for row in results if row["task"] == task and row["condition"] == "text_alone"]
        accuracy = [row for row in rows if row["metric"] == "balanced_accuracy"]
        assert len(accuracy) == 4
        assert [row["chance"] for row in accuracy] == pytest.approx([chance] * 4)
    orders = {row["metric"]: row for row in results if row["task"] == "MC-4-session" and row["model"] == "probe-a"}
    assert orders["order_consistency"]["value"] == 1.0
    assert orders["first_letter"]["value"] == orders["last_letter"]["value"] == 0.25
    for words in ("text alone", "lookup-a", "zero-shot scenario reasoning", "multiple choice of all labels"):
        assert words in page


def test_a_model_that_has_seen_the_label_is_refused(seven, model):
    seen = seven.config.model_copy(update={"split": seven.config.split.model_copy(update={"left_out": ("sad",)})})
    with pytest.raises(InputError, match="labels sad"):
        Fit("model", model, seen).digest()
    Fit("model", model, seven.config).digest()


def test_questions_that_need_other_labels_are_refused_before_anything_runs(data):
    asked = {"ESR": "scenarios are known of 3", "MC-4-uniform": "3 labels, but it offers 4"}
    for task, problem in asked.items():
        plan = EvaluationPlan(data=data.config, tasks=(task,), primary={"task": task})
        with pytest.raises(InputError, match=problem):
            check_inputs(plan.inputs())


def test_what_is_only_evaluated_cannot_be_trained():
    for task in ("ESR", "ESR-untaught", "IED-open", "MC-all"):
        with pytest.raises(ValueError, match=f"is none of IED, EPC, ESS, EIM .*input_value='{task}'"):
            Stage3Plan.model_validate({"data": {"store": "s"}, "model": {"start": "m"}, "tasks": [task]})
