"""The evaluation: a hosted model answers, references and controls stand beside it, a report is written."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from e2llm_core.evaluation.answers import Deploy, KeptAnswers, answer_sets, made_from
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.faithfulness import claim_accuracy_row
from e2llm_core.evaluation.predictions import KEYS, prediction_rows, write_predictions
from e2llm_core.evaluation.probabilities import has_probabilities, probability_rows
from e2llm_core.evaluation.references.inputs import ReferenceInputs
from e2llm_core.evaluation.report.inputs import write_examples, write_learning_curves
from e2llm_core.evaluation.report.pictures import class_topomaps, three_examples
from e2llm_core.evaluation.report.report import write_report
from e2llm_core.evaluation.scores import invalid_rate
from e2llm_core.evaluation.summary import (
    SYNTHETIC_NOTICE,
    Provenance,
    ResultRow,
    Summary,
    rows_for,
    subject_scores_for,
)
from e2llm_core.llm.families.base import Family
from e2llm_core.llm.families.table import family_of
from e2llm_core.model.calibration import read_calibration
from e2llm_core.model.model_io import model_digest
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.measured import MeasuredWindows
from e2llm_core.tasks.items import EEG, Items
from e2llm_core.tasks.registry import TASKS, tasks_named
from e2llm_core.tasks.task import Task
from e2llm_core.training.metrics import METRICS, parse_metrics
from storage.places.fetching import fetched
from storage.places.location import locate
from storage.places.workspace import working_folder
from storage.twin import TwinConfig

REAL_NOTICE = "Held-out {what} of {dataset}; read the controls before the headline."


@dataclass
class Evaluation:
    """One evaluation in progress: collects predictions and the rows made from them."""

    plan: EvaluationPlan
    data: EEGData
    predictions: list[pd.DataFrame] = field(default_factory=list)
    results: list[ResultRow] = field(default_factory=list)
    wall_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add a step's wall time, of this attempt alone."""
        started = time.monotonic()
        yield
        self.wall_seconds[step] = round(time.monotonic() - started, 2)

    @cached_property
    def model(self) -> Path:
        """The model on this node."""
        return fetched(self.plan.model)

    @cached_property
    def family(self) -> Family:
        """Family of the model's language model, which says how its texts are read."""
        content = json.loads((self.model / "config.json").read_text(encoding="utf-8"))
        return family_of(content["text_config"]["model_type"], str(self.plan.model))

    @cached_property
    def digest(self) -> str:
        """Of the model."""
        return model_digest(self.model)

    def provenance(self, *, of_model: bool) -> Provenance:
        """What all rows of the model, or of a reference, have in common."""
        return Provenance(
            split=self.data.split.name,
            split_digest=self.data.split.digest,
            fold=self.data.split.fold,
            disjoint_on=self.data.split.disjoint_on,
            shared=self.data.split.shared,
            labels_missing_in_train=self.data.split.labels_missing_in_train,
            seed=self.plan.seed,
            adaptation=self.data.config.windows.adaptation,
            prompt="first-wording" if of_model else None,
            model_digest=self.digest if of_model else None,
        )

    @property
    def tasks(self) -> list[Task]:
        """What is asked."""
        return tasks_named(self.plan.tasks)

    def reference_inputs(self) -> ReferenceInputs:
        """What the references of all tasks share."""
        twin = None
        if self.plan.twin is not None:
            card = json.loads((self.plan.twin / "twin.json").read_text())
            twin = TwinConfig.model_validate(card["config"])
        return ReferenceInputs(self.data, self.model, self.plan.seed, twin)

    def add(self, rows: pd.DataFrame, chance: dict[str, float] | None = None) -> None:
        """Score one set of answers by every metric of its task."""
        self.predictions.append(rows)
        first = rows.iloc[0]
        primary, key = self.plan.primary, {name: first[name] for name in KEYS}
        wanted = ("e2llm", EEG, primary.task, primary.readout)
        is_primary = (key["model"], key["condition"], key["task"], key["readout"]) == wanted
        self.results += rows_for(
            rows,
            **key,
            provenance=self.provenance(of_model=first["model"] == "e2llm"),
            chance=chance,
            primary=primary.metric if is_primary else None,
            metrics=TASKS[first["task"]].metrics,
        )
        if first["condition"] == EEG and has_probabilities(rows):
            self.results += self._of_probabilities(rows)

    def _of_probabilities(self, rows: pd.DataFrame) -> list[ResultRow]:
        """Calibration and the like of one set of answers."""
        first, temperature = rows.iloc[0], None
        if of_model := first["model"] == "e2llm":
            temperature = read_calibration(self.model).temperature(first["task"], first["labels"])
        return probability_rows(rows, self.provenance(of_model=of_model), temperature=temperature)


def evaluate(plan: EvaluationPlan, run: str | Path, deploy: Deploy, environment: dict[str, Any]) -> str:
    """Evaluate a model directory on the split's test side.

    A run that was killed goes on: answers and references that are there are not computed again, and the result is that
    of an undisturbed run. Only tables are held here; signals are read where they are used, a few windows at a time.
    Whoever marks the run as done calls `e2llm_core.evaluation.answers.discard_answers` afterwards.

    Parameters
    ----------
    plan : EvaluationPlan
        Absolute paths.
    run : str or Path
        Folder or URL that receives summary.json, predictions.parquet, report.html and what the report is made from.
    deploy : callable
        Hosts the model of this plan, in copies of `e2llm_core.evaluation.answers.ItemAnswerer`.
    environment : dict
        Recorded in the summary.

    Returns
    -------
    str
        Path or URL of the report.
    """
    evaluation = Evaluation(plan, EEGData.open(plan.data))
    kept = KeptAnswers(run, made_from(plan, evaluation.data, evaluation.digest))
    with working_folder(run) as folder:
        for left in folder.glob("*.partial"):  # by a writer that was killed
            left.unlink()
        report = _evaluate(evaluation, kept, deploy, folder, environment)
    return f"{run}/{report.name}"


def _evaluate(
    evaluation: Evaluation, kept: KeptAnswers, deploy: Deploy, folder: Path, environment: dict[str, Any]
) -> Path:
    plan, data = evaluation.plan, evaluation.data
    source, inputs = data.windows(data.split.test), evaluation.reference_inputs()
    items = {task: task.items(source, plan.num_pairs, plan.seed) for task in evaluation.tasks}
    references = {task: task.references(inputs, items[task]) for task in items}  # a split may be refused here
    sets = [one for task, asked in items.items() for one in answer_sets(task, asked, data.labels)]
    with evaluation.timed("model"):
        kept.ask(sets, deploy)
    for one in sets:
        evaluation.add(kept.rows(one, plan.seed))
    with evaluation.timed("references"):
        print("[evaluate] baseline and controls", flush=True)
        for task, made in references.items():
            for name, make in made.items():
                evaluation.add(kept.reference(f"{task.name}/{name}", make))
            if task.speaks_of_claims:
                _add_claims(evaluation, task, items[task])
        for task, asked in items.items():
            for rows, expected in control_predictions(data, task, asked, plan.seed).values():
                evaluation.add(rows, expected)
    with evaluation.timed("pictures"):
        _draw(evaluation, folder)
    predictions = pd.concat(evaluation.predictions, ignore_index=True)
    write_predictions(predictions, folder / "predictions.parquet")
    _summary(evaluation, predictions, environment).write(folder / "summary.json")
    print("[evaluate] writing the report", flush=True)
    return write_report(folder)


def control_predictions(
    data: EEGData, task: Task, items: Items, seed: int
) -> dict[str, tuple[pd.DataFrame, dict[str, float]]]:
    """Predictions of a task's controls without EEG by their names, each with its own expected scores.

    Where the split does not test new subjects on known clips, no rule says how much of the schedule carries over: it
    depends on which trials were held out, and the answers themselves measure it. Nothing is expected then.
    """
    trials, options = data.store.trials, task.options(data.labels)
    train = data.split.train.rows(trials)
    known_order = "subject" in data.split.disjoint_on and "clip" in data.split.shared
    found = {}
    for control in task.controls:
        rows = prediction_rows(
            items.table,
            task=task.name,
            model=control.name,
            condition=control.name,
            labels=options,
            answers=control.answers(train, items.table),
            seed=seed,
        )
        found[control.name] = rows, control.expected(trials, items.table) if known_order else {}
    return found


def _add_claims(evaluation: Evaluation, task: Task, items: Items) -> None:
    data = evaluation.data
    measured = MeasuredWindows(data.measured(data.split.test))
    deviations = measured(items.windows[:, 0])
    rows, provenance = _generated(evaluation, task), evaluation.provenance(of_model=True)
    evaluation.results.append(claim_accuracy_row(rows, measured.measures.quantities, deviations, provenance))


def _generated(evaluation: Evaluation, task: Task) -> pd.DataFrame:
    """The model's generated answers on the EEG."""
    wanted = (task.name, "e2llm", EEG, "generation")
    for rows in evaluation.predictions:
        if tuple(rows.iloc[0][list(KEYS)]) == wanted:
            return rows
    raise KeyError(f"no predictions of {wanted}")


def _draw(evaluation: Evaluation, folder: Path) -> None:
    class_topomaps(evaluation.data).write(folder)
    if single := [task for task in evaluation.tasks if task.num_segments == 1]:
        generated = _generated(evaluation, single[0])
        write_examples(folder, three_examples(evaluation.data, generated, evaluation.family))
    curves = {name: parse_metrics(_text(run, METRICS) or "") for name, run in evaluation.plan.stages.items()}
    write_learning_curves(folder, curves)


def _summary(evaluation: Evaluation, predictions: pd.DataFrame, environment: dict[str, Any]) -> Summary:
    plan, data = evaluation.plan, evaluation.data
    generated = predictions[(predictions["readout"] == "generation") & (predictions["condition"] == EEG)]
    invalid = {
        task: invalid_rate(rows["answer"].tolist(), rows["labels"].iloc[0]) for task, rows in generated.groupby("task")
    }
    sets = predictions[list(KEYS)].drop_duplicates().to_dict("records")
    per_subject = [
        score for one in sets for score in subject_scores_for(predictions, **one, metrics=TASKS[one["task"]].metrics)
    ]
    split = data.split.model_dump(mode="json", exclude={"name", "fold"}, exclude_none=True)
    windows = data.config.windows.model_dump(mode="json", exclude={"channels"})
    return Summary(
        notice=SYNTHETIC_NOTICE if plan.twin is not None else _notice(data),
        results=evaluation.results,
        invalid_rate=invalid,
        wall_seconds=_stage_seconds(plan) | evaluation.wall_seconds,
        environment=environment | {"dataset": data.store.dataset, "split": split, "windows": windows},
        per_subject=per_subject,
    )


def _notice(data: EEGData) -> str:
    """What the test side has of its own."""
    axes = [f"{axis}s" for axis in data.split.disjoint_on if axis != "recording"]
    return REAL_NOTICE.format(dataset=data.store.dataset, what=" and ".join(axes or ["trials"]))


def _stage_seconds(plan: EvaluationPlan) -> dict[str, float]:
    finished = {name: _text(run, "DONE.json") for name, run in plan.stages.items()}
    return {name: float(json.loads(text)["wall_seconds"]) for name, text in finished.items() if text is not None}


def _text(run: str, name: str) -> str | None:
    """A file of a run; None when it is not there."""
    place = locate(run)
    return place.read(name).decode() if place.exists(name) else None
