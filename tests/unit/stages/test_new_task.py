"""A new task is one class and one entry of the registry: it is trained, asked, scored and reported."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from e2llm_core.evaluation import run
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.metrics import CLOSED_SET, AnswerMetric
from e2llm_core.evaluation.predictions import read_predictions
from e2llm_core.stages.stage3.plan import Stage3Plan
from e2llm_core.tasks.dialogue import Dialogue, LabelledWindows, TextLengths
from e2llm_core.tasks.items import Items, shown
from e2llm_core.tasks.registry import TASKS
from e2llm_core.tasks.task import Sampler, Task
from storage.windows import Windows
from tests.killed_attempts import Death, FakeClient


def share_answered(answers: Sequence[str | None]) -> float:
    return 1 - answers.count(None) / len(answers)


class OddOneOut(Task):
    """Three windows of one session, of which one is of another label."""

    name = "OOO"
    title = "odd one out"
    num_segments = 3
    wordings = ("{0} {1} {2}\nWhich one is of another state: {options}?",)
    text = TextLengths(question=55, answer=6)
    metrics = (*CLOSED_SET, AnswerMetric("answered", (0.0, 1.0), lambda *given: share_answered(given[1]), expected=1.0))

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        return "first", "second", "third"

    def _three(self, table: pd.DataFrame, place: int, rng: np.random.Generator) -> tuple[int, ...]:
        """Windows of which the one in this place is odd."""
        own = table[table["subject"] == rng.choice(table["subject"].unique())]
        odd, other = rng.choice(own["label"].unique(), 2, replace=False)
        windows = rng.choice(own.index[own["label"] == other], 3, replace=False)
        windows[place] = rng.choice(own.index[own["label"] == odd])
        return tuple(windows.tolist())

    def items(self, source: Windows, number: int, seed: int) -> Items:
        rng, places = np.random.default_rng([seed, number]), np.arange(number) % 3
        windows = np.array([self._three(source.table, place, rng) for place in places])
        return Items.of(source, windows, np.array(self.options(()))[places])

    def sampler(self, source: Windows) -> Sampler:
        return lambda window, rng: self._three(source.table, int(rng.integers(3)), rng)

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        count = Counter(labels := [source.label(window) for window in windows])
        place = next(place for place, label in enumerate(labels) if count[label] == 1)
        return Dialogue(self.name, self.ask_anyhow((), rng), self.options(())[place])


@pytest.fixture(autouse=True)
def registered(monkeypatch) -> None:
    monkeypatch.setitem(TASKS, OddOneOut.name, OddOneOut())


def test_it_is_trained_beside_another(make_stage3):
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


@pytest.fixture
def plan(data, stage2_folder) -> EvaluationPlan:
    primary = {"task": "OOO", "metric": "answered"}
    return EvaluationPlan(data=data.config, model=str(stage2_folder), tasks=["OOO"], primary=primary, num_pairs=31)


def test_it_is_asked_scored_and_reported(plan, tmp_path):
    folder = tmp_path / "run"
    run.evaluate(plan, folder, lambda: nullcontext(FakeClient(tmp_path / "log", Death(None))), {})
    predictions = read_predictions(folder / "predictions.parquet")
    assert set(predictions.groupby(["model", "condition", "readout"]).size()) == {31}
    assert set(predictions["segments"].map(len)) == {3}
    assert predictions["truth"].value_counts().to_dict() == {"first": 44, "second": 40, "third": 40}
    for place in range(3):
        assert set(shown(predictions, place)["subject"]) == {"s3"}
    results = json.loads((folder / "summary.json").read_text())["results"]
    assert {row["task"] for row in results} == {"OOO"}
    (primary,) = [row for row in results if row["primary"]]
    asked = predictions[(predictions["condition"] == "eeg") & (predictions["readout"] == "generation")]
    assert primary["value"] == pytest.approx(asked["answer"].notna().mean())
    assert (primary["metric"], primary["chance"], primary["n"]) == ("answered", 1.0, 31)
    (accuracy,) = [row for row in results if row["metric"] == "accuracy" and row["readout"] == primary["readout"]][:1]
    assert accuracy["value"] == pytest.approx((asked["answer"] == asked["truth"]).mean())
    assert accuracy["chance"] == pytest.approx(1 / 3)
    page = (folder / "report.html").read_text()
    assert all(words in page for words in ("OOO: odd one out", ">answered<", "random EEG"))


def test_specs_know_it_and_refuse_others():
    made = {"data": {"store": "s"}, "model": {"start": "m"}}
    assert Stage3Plan.model_validate(made | {"tasks": ["OOO"]}).tasks == ("OOO",)
    assert "OOO" in Stage3Plan.model_json_schema()["properties"]["tasks"]["items"]["enum"]
    with pytest.raises(ValidationError, match="is none of IED, EPC, OOO"):
        Stage3Plan.model_validate(made | {"tasks": ["XYZ"]})
    evaluated = {"data": {"store": "s"}, "model": "m", "tasks": ["IED"], "primary": {"metric": "answered"}}
    with pytest.raises(ValidationError, match="metric answered is none of IED, which has balanced_accuracy"):
        EvaluationPlan.model_validate(evaluated)
