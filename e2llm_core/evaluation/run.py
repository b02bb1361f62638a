"""The evaluation: a hosted model answers, references and controls are computed, and a report is written."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from e2llm_core.claims.measures import QuantityScaler
from e2llm_core.evaluation import answers
from e2llm_core.evaluation.answers import Deploy, KeptAnswers, answer_sets, made_from
from e2llm_core.evaluation.config import LOOKUP, REFERENCES, EvaluationPlan
from e2llm_core.evaluation.counting import counted
from e2llm_core.evaluation.faithfulness.asking import Host, KeptAsking, hosted_once
from e2llm_core.evaluation.faithfulness.checks import checks
from e2llm_core.evaluation.faithfulness.claim_rows import CLAIMS, claim_rows, write_claims
from e2llm_core.evaluation.faithfulness.spoken import Spoken
from e2llm_core.evaluation.lookup import looked_up
from e2llm_core.evaluation.metrics import UNTRAINED_RECALL, Metric
from e2llm_core.evaluation.models import EvaluatedModel, models_of
from e2llm_core.evaluation.predictions import keys_of, matching, prediction_rows, write_predictions
from e2llm_core.evaluation.probabilities import has_probabilities, probability_rows, probability_subject_scores
from e2llm_core.evaluation.references.fitted_controls import FittedControl
from e2llm_core.evaluation.references.inputs import ReferenceInputs
from e2llm_core.evaluation.report.inputs import write_examples, write_learning_curves
from e2llm_core.evaluation.report.pictures import class_topomaps, three_examples
from e2llm_core.evaluation.report.report import write_report
from e2llm_core.evaluation.scores import invalid_rate
from e2llm_core.evaluation.summary import (
    SYNTHETIC_NOTICE,
    Provenance,
    ResultRow,
    SubjectScore,
    Summary,
    rows_for,
    subject_scores_for,
)
from e2llm_core.model.calibration import read_calibration
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.probe import load_scaler
from e2llm_core.tasks.dialogue import conclusion
from e2llm_core.tasks.items import EEG, Items
from e2llm_core.tasks.registry import TASKS, tasks_named
from e2llm_core.tasks.task import Task
from e2llm_core.training.metrics import METRICS, parse_metrics
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
    claims: list[pd.DataFrame] = field(default_factory=list)
    results: list[ResultRow] = field(default_factory=list)
    per_subject: list[SubjectScore] = field(default_factory=list)
    wall_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add to a step's wall time in seconds, of this attempt alone."""
        started = time.monotonic()
        yield
        self.wall_seconds[step] = round(self.wall_seconds.get(step, 0.0) + time.monotonic() - started, 2)

    @cached_property
    def models(self) -> list[EvaluatedModel]:
        """Models to evaluate."""
        return models_of(self.plan)

    @property
    def speakers(self) -> dict[str, EvaluatedModel]:
        """Models with a language model, by name."""
        return {model.name: model for model in self.models if model.speaks}

    def provenance(self, of_model: EvaluatedModel | None = None) -> Provenance:
        """Fields that all rows of a model, or of the references and controls, share."""
        return Provenance(
            split=self.data.split.name,
            split_digest=self.data.split.digest,
            fold=self.data.split.fold,
            disjoint_on=self.data.split.disjoint_on,
            shared=self.data.split.shared,
            labels_missing_in_train=self.data.split.labels_missing_in_train,
            seed=self.plan.seed,
            adaptation=self.data.config.windows.adaptation,
            model_digest=of_model.digest if of_model else None,
        )

    @property
    def tasks(self) -> list[Task]:
        """Tasks to evaluate on."""
        return tasks_named(self.plan.tasks)

    def reference_inputs(self) -> ReferenceInputs:
        """Inputs that the references of all tasks share."""
        twin = None
        if self.plan.twin is not None:
            card = json.loads((self.plan.twin / "twin.json").read_text())
            twin = TwinConfig.model_validate(card["config"])
        return ReferenceInputs(
            self.data,
            self.plan.seed,
            self.plan.baselines,
            probes={model.part("probe"): model.folder for model in self.models},
            towers={model.part("tower"): model.folder for model in self.models},
            twin=twin,
            kept_features=self.plan.kept_features,
        )

    def add(self, rows: pd.DataFrame, chance: dict[str, float] | None = None) -> None:
        """Score one set of answers by every metric of its task."""
        self.predictions.append(rows)
        primary, key = self.plan.primary, keys_of(rows)
        speaker = self.speakers.get(key["model"])
        asked = {"task": primary.task, "prompt": TASKS[primary.task].prompt}
        wanted = asked | {"condition": EEG, "readout": primary.readout}
        is_primary = speaker is not None and wanted.items() <= key.items()
        metrics = _metrics(key["task"], key["condition"])
        provenance = self.provenance(speaker)
        self.results += rows_for(
            rows,
            **key,
            provenance=provenance,
            chance=chance,
            primary=primary.metric if is_primary else None,
            metrics=metrics,
        )
        self.per_subject += subject_scores_for(rows, **key, metrics=metrics)
        untrained = rows[rows["truth"].isin(self.data.split.labels_missing_in_train)]
        if len(untrained) and key["condition"] in TASKS[key["task"]].conditions:
            by_chance = {UNTRAINED_RECALL.name: 1 / len(untrained.iloc[0]["labels"])}
            recall = (UNTRAINED_RECALL,)
            self.results += rows_for(untrained, **key, provenance=provenance, chance=by_chance, metrics=recall)
            self.per_subject += subject_scores_for(untrained, **key, metrics=recall)
        if key["condition"] == EEG and has_probabilities(rows):
            temperature = None
            if speaker is not None:
                temperature = read_calibration(speaker.folder).temperature(key["task"], rows.iloc[0]["labels"])
            self.results += probability_rows(rows, provenance, temperature=temperature)
            self.per_subject += probability_subject_scores(rows)


def evaluate(plan: EvaluationPlan, run: str | Path, deploy: Deploy, environment: dict[str, Any]) -> str:
    """Evaluate model directories, baselines and controls on the split's test side.

    One model is hosted at a time; without a language model, none is.

    A run that was killed resumes: saved answers and references are not computed again, and the result is that of an
    undisturbed run. This process holds only tables; signals are read where they are used, a few windows at a time.
    The caller marks the run as done and then calls `e2llm_core.evaluation.answers.discard_answers`.

    Parameters
    ----------
    plan : EvaluationPlan
        What to evaluate; its paths are absolute.
    run : str or Path
        Folder or URL that receives summary.json, predictions.parquet, claims.parquet, report.html and the files that
        the report needs.
    deploy : callable
        Hosts the only model of a plan, in replicas of `e2llm_core.evaluation.answers.ItemAnswerer`.
    environment : dict
        Versions, machine and seeds, recorded in the summary.

    Returns
    -------
    str
        Path or URL of the report.
    """
    evaluation = Evaluation(plan, EEGData.open(plan.data))
    with working_folder(run) as folder:
        for left in folder.glob("*.partial"):  # left by a writer that was killed
            left.unlink()
        report = _evaluate(evaluation, run, deploy, folder, environment)
    return f"{run}/{report.name}"


def _evaluate(
    evaluation: Evaluation, run: str | Path, deploy: Deploy, folder: Path, environment: dict[str, Any]
) -> Path:
    plan, data = evaluation.plan, evaluation.data
    source, inputs = data.windows(data.split.test), evaluation.reference_inputs()
    items = {task: task.items(source, plan.num_pairs, plan.seed) for task in evaluation.tasks}
    references = {task: task.references(inputs, items[task]) for task in items}  # a split may be refused here
    fitted = {task: _fitted_controls(plan, task, items[task], inputs) for task in items}  # and here
    speakers = evaluation.speakers
    scalers = {name: load_scaler(model.folder, data.quantities) for name, model in speakers.items()}  # and here
    for name, model in speakers.items():
        with hosted_once(partial(deploy, plan.of(model.place))) as host:
            with evaluation.timed("model"):
                kept = _ask(evaluation, model, items, run, host)
            with evaluation.timed("faithfulness"):
                for task in [task for task in items if task.speaks_of_claims]:
                    _check(evaluation, task, items[task], model, scalers[name], kept, host)
    with evaluation.timed("references"):
        print("[evaluate] baselines and controls", flush=True)
        everything = made_from(plan, data, " ".join(model.digest for model in evaluation.models))
        kept = KeptAnswers(run, everything, REFERENCES)
        for task, made in references.items():
            for name, make in made.items():
                evaluation.add(kept.reference(f"{task.name}/{name}", make))
        for task, asked in items.items():
            for name, (rows, expected) in control_predictions(data, task, asked, plan.seed).items():
                if plan.runs(name):
                    evaluation.add(rows, expected)
            for control, made in fitted[task]:
                for name, make in made.items():
                    rows = kept.reference(f"{task.name}/{name}", make)
                    evaluation.add(rows, control.expected(rows))
    with evaluation.timed("pictures"):
        _draw(evaluation, folder)
    predictions = pd.concat(evaluation.predictions, ignore_index=True)
    write_predictions(predictions, folder / "predictions.parquet")
    if evaluation.claims:
        write_claims(pd.concat(evaluation.claims, ignore_index=True), folder / CLAIMS)
    _summary(evaluation, predictions, environment).write(folder / "summary.json")
    print("[evaluate] writing the report", flush=True)
    return write_report(folder)


def _ask(
    evaluation: Evaluation, model: EvaluatedModel, items: dict[Task, Items], run: str | Path, host: Host
) -> KeptAnswers:
    """Obtain a model's answers to all items, and score them; returns what keeps the answers."""
    plan, data = evaluation.plan, evaluation.data
    if not model.alone:
        print(f"[evaluate] model {model.name}", flush=True)
    sets = []
    for task, asked in items.items():
        conditions = [shown for shown in task.conditions if shown == EEG or plan.runs(shown)]
        sets += answer_sets(task, asked, data.labels, conditions)
    kept = KeptAnswers(run, made_from(plan, data, model.digest), model.name)
    kept.ask(sets, host)
    for one in sets:
        evaluation.add(kept.rows(one, plan.seed))
    for task, asked in items.items():
        if task.text_map is not None:
            rows = looked_up(task, asked, data.labels, kept, host, answers.ITEMS_PER_REQUEST)
            evaluation.add(rows.assign(model=model.part(LOOKUP), seed=plan.seed))
    return kept


def _fitted_controls(
    plan: EvaluationPlan, task: Task, items: Items, inputs: ReferenceInputs
) -> list[tuple[FittedControl, dict[str, Callable[[], pd.DataFrame]]]]:
    """Requested fitted controls of a task, each with the functions that make its predictions, by name."""
    asked = [control for control in task.fitted_controls if plan.runs(control.name, fitted=True)]
    return [(control, control.answers(inputs, task.name, items)) for control in asked]


def _metrics(task: str, condition: str) -> tuple[Metric, ...]:
    """Metrics that score a set of answers: those of the task; for a fitted control, only those that it names."""
    named = {control.name: control.metrics for control in TASKS[task].fitted_controls}.get(condition)
    return tuple(metric for metric in TASKS[task].metrics if named is None or metric.name in named)


def control_predictions(
    data: EEGData, task: Task, items: Items, seed: int
) -> dict[str, tuple[pd.DataFrame, dict[str, float]]]:
    """Predictions of a task's controls that see no EEG, by name, each with its own expected scores.

    Unless the split tests new subjects on known clips, how much of the schedule carries over depends on which trials
    were held out: no rule predicts it, and the answers themselves measure it. Such a control has no expected scores
    unless `Control.expected_elsewhere` gives some.
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
        expected = control.expected(trials, items.table) if known_order else {}
        found[control.name] = rows, expected or control.expected_elsewhere(train, items.table)
    return found


def _check(
    evaluation: Evaluation,
    task: Task,
    items: Items,
    model: EvaluatedModel,
    scaler: QuantityScaler,
    kept: KeptAnswers,
    host: Host,
) -> None:
    """Add the checks of faithfulness of a model's generated answers to a task."""
    plan, data = evaluation.plan, evaluation.data
    measured, windows = data.measured_windows(data.split.test), items.windows[:, 0]
    spoken = Spoken(
        _generated(evaluation, task, model),
        windows,
        measured.measures.quantities,
        measured.reference,
        scaler.standardise(measured(windows)),
        evaluation.provenance(model),
    )
    evaluation.claims.append(claim_rows(spoken))
    asking = KeptAsking(kept, task.name, task.question(data.labels), host, answers.ITEMS_PER_REQUEST)
    found = checks(spoken, measured, scaler, data, asking, model.family, conclusion, plan.faithfulness, plan.seed)
    for number in found:
        evaluation.results.append(number.row)
        evaluation.per_subject += number.of_subjects


def _generated(evaluation: Evaluation, task: Task, model: EvaluatedModel) -> pd.DataFrame:
    """A model's generated answers on the EEG, asked in the wording that counts."""
    wanted = (task.name, model.name, EEG, "generation", task.prompt)
    for rows in evaluation.predictions:
        if tuple(keys_of(rows).values()) == wanted:
            return rows
    raise KeyError(f"no predictions of {wanted}")


def _draw(evaluation: Evaluation, folder: Path) -> None:
    class_topomaps(evaluation.data).write(folder)
    labels = evaluation.data.labels
    single = [task for task in evaluation.tasks if task.num_segments == 1 and task.options(labels) == labels]
    if single and evaluation.speakers:
        shown = next(iter(evaluation.speakers.values()))
        generated = _generated(evaluation, single[0], shown)
        write_examples(folder, three_examples(evaluation.data, generated, shown.family))
    curves = {name: parse_metrics(_text(run, METRICS) or "") for name, run in evaluation.plan.stages.items()}
    write_learning_curves(folder, curves)


def _summary(evaluation: Evaluation, predictions: pd.DataFrame, environment: dict[str, Any]) -> Summary:
    plan, data = evaluation.plan, evaluation.data
    generated = counted(matching(predictions, {"readout": "generation", "condition": EEG}))
    invalid = {
        task if len(evaluation.models) == 1 else f"{task}, {model}": invalid_rate(
            rows["answer"].tolist(), rows["labels"].iloc[0]
        )
        for (task, model), rows in generated.groupby(["task", "model"])
    }
    split = data.split.model_dump(mode="json", exclude={"name", "fold"}, exclude_none=True)
    windows = data.config.windows.model_dump(mode="json", exclude={"channels"})
    return Summary(
        notice=SYNTHETIC_NOTICE if plan.twin is not None else _notice(data),
        results=evaluation.results,
        invalid_rate=invalid,
        wall_seconds=_stage_seconds(plan) | evaluation.wall_seconds,
        environment=environment | {"dataset": data.store.dataset, "split": split, "windows": windows},
        per_subject=evaluation.per_subject,
    )


def _notice(data: EEGData) -> str:
    """Notice for real recordings, which names what the test side does not share with training."""
    axes = [f"{axis}s" for axis in data.split.disjoint_on if axis != "recording"]
    return REAL_NOTICE.format(dataset=data.store.dataset, what=" and ".join(axes or ["trials"]))


def _stage_seconds(plan: EvaluationPlan) -> dict[str, float]:
    finished = {name: _text(run, "DONE.json") for name, run in plan.stages.items()}
    return {name: float(json.loads(text)["wall_seconds"]) for name, text in finished.items() if text is not None}


def _text(run: str, name: str) -> str | None:
    """Text of a run's file; None if the file does not exist."""
    place = locate(run)
    return place.read(name).decode() if place.exists(name) else None
