"""The examples of docs/extending.md: one file and one line of a table each, trained, evaluated and reported."""

import json
import re
import sys
from contextlib import nullcontext
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from cluster.planning.gpus import gpu_of
from cluster.planning.plan import plan_job
from e2llm_core.claims.table import CLAIM_KINDS, DEFAULT_KINDS
from e2llm_core.evaluation import run
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.predictions import matching, read_predictions
from e2llm_core.llm.families import table as families
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.stages.config import DataConfig, LanguageTrainConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.stage1.objectives.config import Stage1Losses
from e2llm_core.stages.stage1.stage import Stage1
from e2llm_core.stages.stage2.stage import Stage2
from e2llm_core.stages.stage3.plan import Stage3Plan
from e2llm_core.tasks.facts import ClaimChoice
from e2llm_core.tasks.items import shown
from e2llm_core.tasks.registry import TASKS
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.world import World
from jobs.load import load_spec
from jobs.spec import SPECS, spec_of
from storage.ingest import ingest_recording
from storage.signal import SignalConfig
from storage.splits import BySubject
from storage.store import create_store
from tests import killed_attempts
from tests.extending import EXAMPLES, PAGE, ROOT, edited, name_of
from tests.families import assert_goes_through_all_of_it, trained
from tests.killed_attempts import Death, FakeClient

ACCURACY = ["OOO", "accuracy", "generation"]

EVERY_CLAIM = ClaimChoice(number=100, smallest=0, relevance=0, reliability=0)


def test_the_page_counts_its_files():
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| [")]
    sections = {text.split("\n")[0].lower(): text for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[2:]}
    assert len(rows) == len(sections)
    for _, name, _, after, which, _ in rows:
        section = sections[name.strip(" [").partition("]")[0]]
        files = [path for path in EXAMPLES if f"# {path}\n" in section]
        assert int(after) == len(files) + ("docs/specs.md" in which)
        assert sum((ROOT / path).exists() for path in files) == 1


@pytest.fixture
def odd_one_out(add, monkeypatch) -> None:
    add("e2llm_core/tasks/odd_one_out.py")
    monkeypatch.setitem(TASKS, "OOO", edited("e2llm_core/tasks/registry.py")["TASKS"]["OOO"])


def test_a_task_is_trained_beside_another(odd_one_out, make_stage3):
    stage = make_stage3(tasks=("EPC", "OOO"))
    first = len(stage.training)
    for number in range(first, 2 * first):
        sample = stage.draw(stage.training, number, np.random.default_rng(number))
        labels = [stage.training.label(window) for window in sample.windows]
        odd = ("first", "second", "third").index(sample.dialogue.answer)
        assert labels.count(labels[odd]) == 1
        assert len(set(labels)) == 2
        assert stage.tasks[sample.task] == "OOO"
    assert stage.draw(stage.training, first, np.random.default_rng(0)) == stage.draw(
        stage.training, first, np.random.default_rng(0)
    )
    assert not len(stage.windows_with_claims(np.arange(2 * first)))
    batch = stage.row(stage.training, stage.tokenize(np.array([0, first]), np.arange(2)))
    assert len(batch.tensors["eeg"]) == 2 + 3
    assert all(number > 0 for number in batch.tensors["task_targets"])


def test_specs_know_a_task_and_refuse_others(odd_one_out):
    made = {"data": {"store": "s"}, "model": {"start": "m"}}
    assert Stage3Plan.model_validate(made | {"tasks": ["OOO"]}).tasks == ("OOO",)
    assert "OOO" in Stage3Plan.model_json_schema()["properties"]["tasks"]["items"]["enum"]
    with pytest.raises(ValidationError, match="is none of IED, EPC, ESS, EIM, OOO"):
        Stage3Plan.model_validate(made | {"tasks": ["XYZ"]})
    scored = {"data": {"store": "s"}, "model": "m", "tasks": ["IED"], "primary": {"metric": "answered"}}
    with pytest.raises(ValidationError, match="answered is not a metric of IED, which has balanced_accuracy"):
        EvaluationPlan.model_validate(scored)


def train_and_export(stage, folder) -> None:
    """A few steps, and the model directory."""
    model, state, losses = trained(stage)
    assert losses[-1] < losses[0]
    stage.export(model, state, folder)


@pytest.fixture
def calm(add, tmp_path) -> EEGData:
    """The data set of the page, ingested."""
    add("storage/readers/calm.py")
    for subject in range(1, 5):
        noise = np.random.default_rng(subject).normal(0, 20, (6, 4, 1024))
        np.save(tmp_path / f"sub{subject:02d}.npy", noise)
    source = TypeAdapter(edited("storage/readers/__init__.py")["AnySource"]).validate_python(
        {"format": "calm", "root": tmp_path}
    )
    store = create_store(tmp_path / "store.zarr", dataset="CALM", label_set=source.label_set)
    for ref in source.list_recordings():
        assert ingest_recording(store, source, ref, SignalConfig())
    split = BySubject(train=("01", "02"), validation=("03",), test=("04",), reserved=1)
    windows = {"window_seconds": 1.0, "stride_seconds": 1.0}
    return EEGData.open(DataConfig(store=str(tmp_path / "store.zarr"), windows=windows, split=split))


@pytest.fixture
def with_edge(add, monkeypatch) -> str:
    """The kind of claim of the page, and a sentence of its."""
    add("e2llm_core/claims/edge.py")
    kind = edited("e2llm_core/claims/table.py")["CLAIM_KINDS"]["edge"]
    monkeypatch.setitem(CLAIM_KINDS, "edge", kind)
    return "The alpha rhythm over the left frontal region is faster than the average person's."


def test_a_data_set_a_claim_and_a_task_are_trained_on_evaluated_and_reported(
    calm, with_edge, odd_one_out, tower_config, llm_folder, tmp_path, monkeypatch
):
    calm = EEGData.open(calm.config.model_copy(update={"claims": (*DEFAULT_KINDS, "edge")}))
    assert calm.labels == ("calm", "tense")
    folders = [tmp_path / name / "model" for name in ("stage1", "stage2")]
    for folder in folders:
        folder.mkdir(parents=True)
    stage1 = Stage1(calm, tower_config, Stage1Losses(), seed=0)
    train_and_export(stage1, folders[0])
    assert "edge alpha left frontal" in json.loads((folders[0] / "probe.json").read_text())["quantities"]
    stage2 = Stage2(calm, folders[0], str(llm_folder), ProjectorConfig(), LanguageTrainConfig(claims=EVERY_CLAIM))
    drawn = [stage2.draw(stage2.training, number, np.random.default_rng(number)) for number in range(stage2.size)]
    assert any("rhythm over the" in sample.dialogue.answer for sample in drawn)
    train_and_export(stage2, folders[1])

    monkeypatch.setattr(killed_attempts, "_THOUGHT", with_edge)
    plan = EvaluationPlan(
        data=calm.config,
        model=str(folders[1]),
        tasks=["IED", "OOO"],
        primary={"task": "OOO", "metric": "answered"},
        num_pairs=31,
    )
    run.evaluate(plan, tmp_path / "run", lambda one: nullcontext(FakeClient(tmp_path / "log", Death(None))), {})
    predictions = read_predictions(tmp_path / "run" / "predictions.parquet")
    results = json.loads((tmp_path / "run" / "summary.json").read_text())["results"]
    page = (tmp_path / "run" / "report.html").read_text()

    emotions, odd = (predictions[predictions["task"] == task] for task in plan.tasks)
    assert set(emotions["truth"]) == {"calm", "tense"}
    assert set(shown(emotions)["subject"]) == {"04"}
    (claims,) = [row for row in results if row["metric"] == "claim_accuracy"]
    assert 0 < claims["value"] < 1

    assert set(odd.groupby(["model", "condition", "readout", "prompt"]).size()) == {31}
    assert set(odd["segments"].map(len)) == {3}
    assert odd["truth"].value_counts().to_dict() == {"first": 66, "second": 60, "third": 60}
    for place in range(3):
        assert set(shown(odd, place)["subject"]) == {"04"}
    (primary,) = [row for row in results if row["primary"]]
    asked = matching(odd, {"condition": "eeg", "readout": "generation", "prompt": "primary"})
    assert primary["value"] == pytest.approx(asked["answer"].notna().mean())
    assert (primary["task"], primary["metric"], primary["chance"], primary["n"]) == ("OOO", "answered", 1.0, 31)
    accuracy = next(row for row in results if [row[k] for k in ("task", "metric", "readout")] == ACCURACY)
    assert accuracy["value"] == pytest.approx((asked["answer"] == asked["truth"]).mean())
    assert accuracy["chance"] == pytest.approx(1 / 3)
    assert all(words in page for words in ("CALM", "claim", "OOO: odd one out", ">answered<", "random EEG"))


def test_a_stage_is_accepted_planned_and_trained(add, monkeypatch, tmp_path):
    for name in ("plan", "stage"):
        add(f"e2llm_core/stages/long_texts/{name}.py")
    plan = get_args(edited("e2llm_core/stages/table.py")["AnyPlan"])[-1]
    monkeypatch.setitem(SPECS, "long-texts", spec_of(plan))
    (tmp_path / "job.yaml").write_text(f"kind: long-texts\nrun: {tmp_path / 'run'}\ntrain: {{max_steps: 8}}\n")
    spec = load_spec(tmp_path / "job.yaml", ["words=6"], SPECS).spec
    assert plan_job(spec.workload(), 1, gpu_of("h200")).fits
    stage, config = spec.plan().stage(), TrainConfig(global_batch=12, micro_batch=6)
    torch.manual_seed(0)
    model, (group,) = stage.build()
    assert spec.workload().trainable == sum(parameter.numel() for parameter in group.parameters)
    optimizer, lengths = torch.optim.Adam(group.parameters, lr=0.1), []
    for step in range(20):
        batches = stage.batches(np.arange(12), 12 * step, config, World())
        with torch.no_grad():
            batches = stage.rollout(model.eval(), batches)
        lengths.append(sum(batch.num_targets for batch in batches))
        for batch in batches:
            (stage.losses(model.train(), batch).total / lengths[-1]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sum(lengths[-5:]) > 1.2 * sum(lengths[:5])
    stage.export(model, model.state_dict(), tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True).keys() == model.state_dict().keys()


def test_a_family_goes_through_all_of_it(add, data, tower_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("e2llm_core.inference.predictor.MAX_NEW_TOKENS", 8)
    add("e2llm_core/llm/families/smollm3.py")
    family = edited("e2llm_core/llm/families/table.py")["FAMILIES"][-1]
    for model_type in family.architectures:
        monkeypatch.setitem(families._BY_MODEL_TYPE, model_type, family)
        assert_goes_through_all_of_it(model_type, True, False, data, tower_folder, tmp_path)


def test_nothing_of_the_page_is_left_behind():
    assert not {name_of(path) for path in EXAMPLES if not (ROOT / path).exists()} & sys.modules.keys()
