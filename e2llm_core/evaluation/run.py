"""The evaluation: a hosted model answers, references and controls stand beside it, a report is written."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from e2llm_core.evaluation.answers import Deploy, KeptAnswers, answer_sets, made_from
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.faithfulness import claim_accuracy_row
from e2llm_core.evaluation.items import EEG, Items, pair_items, window_items
from e2llm_core.evaluation.predictions import write_predictions
from e2llm_core.evaluation.references.references import (
    Baseline,
    control_predictions,
    oracle_predictions,
    probe_predictions,
)
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
from e2llm_core.inference.predictor import Question
from e2llm_core.model.model_io import model_digest
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.measured import MeasuredWindows
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

    def add(self, rows: pd.DataFrame, chance: dict[str, float] | None = None) -> None:
        """Score one set of answers by every metric."""
        self.predictions.append(rows)
        first = rows.iloc[0]
        primary, key = (
            self.plan.primary,
            {name: first[name] for name in ("task", "model", "condition", "readout")},
        )
        wanted = ("e2llm", EEG, primary.task, primary.readout)
        is_primary = (key["model"], key["condition"], key["task"], key["readout"]) == wanted
        self.results += rows_for(
            rows,
            **key,
            provenance=self.provenance(of_model=first["model"] == "e2llm"),
            chance=chance,
            primary=primary.metric if is_primary else None,
        )


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
    items = _items(plan, data)
    questions = {"IED": Question.emotion(data.labels), "EPC": Question.pair()}
    sets = [one for task, asked in items.items() for one in answer_sets(task, asked, questions[task])]
    baseline = Baseline(data, plan.seed)  # which refuses a split before the model is asked
    with evaluation.timed("model"):
        kept.ask(sets, deploy)
    for one in sets:
        evaluation.add(kept.rows(one, plan.seed))
    with evaluation.timed("references"):
        _add_references(evaluation, kept, items, baseline)
    with evaluation.timed("pictures"):
        _draw(evaluation, folder)
    predictions = pd.concat(evaluation.predictions, ignore_index=True)
    write_predictions(predictions, folder / "predictions.parquet")
    _summary(evaluation, predictions, environment).write(folder / "summary.json")
    print("[evaluate] writing the report", flush=True)
    return write_report(folder)


def _items(plan: EvaluationPlan, data: EEGData) -> dict[str, Items]:
    source = data.windows(data.split.test)
    made = {"IED": lambda: window_items(source), "EPC": lambda: pair_items(source, plan.num_pairs, plan.seed)}
    return {task: made[task]() for task in plan.tasks}


def _add_references(evaluation: Evaluation, kept: KeptAnswers, items: dict[str, Items], baseline: Baseline) -> None:
    """Classical baseline, probe, oracle, controls without EEG, and claim accuracy."""
    plan, data = evaluation.plan, evaluation.data
    print("[evaluate] baseline and controls", flush=True)
    if "IED" in items:
        evaluation.add(kept.reference("IED/baseline", baseline.windows))
        probe = partial(probe_predictions, evaluation.model, data, items["IED"], plan.seed)
        evaluation.add(kept.reference("IED/probe", probe))
        if plan.twin is not None:
            card = json.loads((plan.twin / "twin.json").read_text())
            config = TwinConfig.model_validate(card["config"])
            evaluation.add(oracle_predictions(config, data, items["IED"], plan.seed))
        _add_claims(evaluation)
    if "EPC" in items:
        evaluation.add(kept.reference("EPC/baseline", partial(baseline.pairs, items["EPC"])))
    for task, asked in items.items():
        for answers, expected in control_predictions(data, asked, task, plan.seed).values():
            evaluation.add(answers, expected)


def _add_claims(evaluation: Evaluation) -> None:
    data = evaluation.data
    measured = MeasuredWindows(data.measured(data.split.test))
    deviations = measured(np.arange(len(measured.windows)))
    rows, provenance = _generated(evaluation), evaluation.provenance(of_model=True)
    evaluation.results.append(claim_accuracy_row(rows, measured.measures.quantities, deviations, provenance))


def _generated(evaluation: Evaluation) -> pd.DataFrame:
    """The model's generated IED answers on the EEG."""
    wanted = ("IED", "e2llm", EEG, "generation")
    for rows in evaluation.predictions:
        if tuple(rows.iloc[0][["task", "model", "condition", "readout"]]) == wanted:
            return rows
    raise KeyError(f"no predictions of {wanted}")


def _draw(evaluation: Evaluation, folder: Path) -> None:
    class_topomaps(evaluation.data).write(folder)
    if "IED" in evaluation.plan.tasks:
        write_examples(folder, three_examples(evaluation.data, _generated(evaluation)))
    curves = {name: parse_metrics(_text(run, METRICS) or "") for name, run in evaluation.plan.stages.items()}
    write_learning_curves(folder, curves)


def _summary(evaluation: Evaluation, predictions: pd.DataFrame, environment: dict[str, Any]) -> Summary:
    plan, data = evaluation.plan, evaluation.data
    generated = predictions[(predictions["readout"] == "generation") & (predictions["condition"] == EEG)]
    invalid = {
        task: invalid_rate(rows["answer"].tolist(), rows["labels"].iloc[0]) for task, rows in generated.groupby("task")
    }
    sets = predictions[["task", "model", "condition", "readout"]].drop_duplicates().to_dict("records")
    per_subject = [score for one in sets for score in subject_scores_for(predictions, **one)]
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
