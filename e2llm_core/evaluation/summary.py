"""summary.json: one row per number, with its interval, its chance level and what it was computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.evaluation.clips import ClipClusters
from e2llm_core.evaluation.intervals import subject_interval
from e2llm_core.evaluation.metrics import CLOSED_SET, Answers, Metric
from e2llm_core.evaluation.predictions import matching
from e2llm_core.tasks.question import Prompt, Readout
from storage.places.files import write_bytes

SYNTHETIC_NOTICE = "The synthetic twin is a software check, not evidence about people."
"""First line of every report on synthetic recordings."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Provenance(_Frozen):
    """Fields that all rows of one model share.

    Attributes
    ----------
    split, split_digest, fold
        The split's protocol, its digest and, in cross-validation, the fold.
    disjoint_on, shared
        Axes on which the split's sides are declared disjoint, and those on which the test side shares values with the
        trials that trained or selected the model.
    labels_missing_in_train
        Labels that are tested but were never trained.
    seed
        Seed of the model, and of the bootstrap.
    adaptation
        ``none``, ``causal`` or ``transductive-unlabelled``.
    model_digest
        Digest of the model's weights; null for a model without weights.
    """

    split: str
    split_digest: str
    fold: int | None = None
    disjoint_on: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    labels_missing_in_train: tuple[str, ...] = ()
    seed: int = 0
    adaptation: str = "none"
    model_digest: str | None = None


class ResultRow(_Frozen):
    """One number.

    Attributes
    ----------
    prompt
        How the question was worded; null for what reads no question.
    value
        The metric over all items of all subjects.
    ci_low, ci_high, ci_method
        95 % interval over subjects, and the method that made it.
    chance
        Expected value under this row's own null hypothesis.
    n_clips, clip_ci_low, clip_ci_high
        Number of clips that were shown, and a 95 % interval over clips with these subjects; null if there are too few.
    temperature
        Temperature that the model's log-probabilities were divided by; null for a model that was not calibrated, and
        for metrics that do not score probabilities.
    """

    task: str
    model: str
    condition: str
    metric: str
    value: float
    ci_low: float | None
    ci_high: float | None
    chance: float | None
    n: int = Field(gt=0)
    n_subjects: int = Field(gt=0)
    split: str
    split_digest: str
    fold: int | None
    disjoint_on: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    labels_missing_in_train: tuple[str, ...] = ()
    seed: int
    adaptation: str
    readout: Readout
    prompt: Prompt | None = None
    ci_method: str
    model_digest: str | None
    primary: bool
    n_clips: int | None = None
    clip_ci_low: float | None = None
    clip_ci_high: float | None = None
    temperature: float | None = None


class SubjectScore(_Frozen):
    """One number of one subject."""

    task: str
    model: str
    condition: str
    readout: Readout
    prompt: Prompt | None = None
    metric: str
    subject: str
    value: float
    n: int = Field(gt=0)


class Summary(_Frozen):
    """Content of summary.json.

    Attributes
    ----------
    notice
        Notice that a reader must see before the first number.
    results
        One row per number.
    invalid_rate
        Share of unparsable answers per task.
    wall_seconds
        Duration of each step in seconds.
    environment
        Versions, machine, seeds.
    per_subject
        The scores of each subject.
    """

    notice: str
    results: list[ResultRow]
    invalid_rate: dict[str, float] = {}
    wall_seconds: dict[str, float] = {}
    environment: dict[str, Any] = {}
    per_subject: list[SubjectScore] = []

    def write(self, path: Path) -> None:
        """Write as JSON, atomically: a reader sees the old file or the new one."""
        write_bytes(path, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Summary:
        """Read a file that `write` wrote.

        Raises
        ------
        pydantic.ValidationError
            If the file does not follow this schema.
        """
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


def select(
    predictions: pd.DataFrame, *, task: str, model: str, condition: str, readout: str, prompt: str | None
) -> pd.DataFrame:
    """Rows of one set of answers.

    Raises
    ------
    ValueError
        If there are none.
    """
    wanted = {"task": task, "model": model, "condition": condition, "readout": readout, "prompt": prompt}
    rows = matching(predictions, wanted)
    if rows.empty:
        raise ValueError(f"no predictions for {wanted}")
    return rows


def rows_for(
    predictions: pd.DataFrame,
    *,
    task: str,
    model: str,
    condition: str,
    provenance: Provenance,
    readout: Readout = "likelihood",
    prompt: Prompt | None = None,
    chance: Mapping[str, float] | None = None,
    primary: str | None = None,
    metrics: Sequence[Metric] = CLOSED_SET,
    n_resamples: int = 2000,
) -> list[ResultRow]:
    """Score one set of answers by each metric, with intervals over subjects and over clips.

    The value is the score over all items of all subjects. One interval treats subjects as the sample, the other one
    clips.

    Parameters
    ----------
    predictions
        A table with the columns of `predictions.COLUMNS`.
    task, model, condition, readout, prompt
        Which answers to score.
    provenance
        Fields that these rows share.
    chance
        Expected value of each metric under the null of these rows, by name of the metric; by default that of
        uninformative answers.
    primary
        Name of the metric that was declared the primary endpoint before training, if it is among these rows.
    metrics
        Metrics to compute.
    n_resamples
        Number of bootstrap resamples.

    Raises
    ------
    ValueError
        If nothing matches, or the label sets differ.
    """
    rows = select(predictions, task=task, model=model, condition=condition, readout=readout, prompt=prompt)
    answers, clips = Answers(rows), ClipClusters(rows)
    results = []
    for metric in metrics:
        scores = metric.score(answers)
        over_clips = clips.interval(metric, n_resamples=n_resamples, seed=provenance.seed).ends
        interval = subject_interval(
            scores.by_subject,
            scores.resampled,
            centre=scores.pooled,
            n_resamples=n_resamples,
            seed=provenance.seed,
            bounds=metric.bounds,
        )
        results.append(
            ResultRow(
                task=task,
                model=model,
                condition=condition,
                readout=readout,
                prompt=prompt,
                metric=metric.name,
                value=scores.pooled,
                ci_low=interval.ends[0],
                ci_high=interval.ends[1],
                ci_method=interval.method,
                chance=metric.chance(answers) if chance is None else chance.get(metric.name),
                n=len(answers),
                n_subjects=len(answers.subjects),
                primary=metric.name == primary,
                n_clips=len(clips.clips) or None,
                clip_ci_low=over_clips[0],
                clip_ci_high=over_clips[1],
                **provenance.model_dump(),
            )
        )
    return results


def subject_scores_for(
    predictions: pd.DataFrame,
    *,
    task: str,
    model: str,
    condition: str,
    readout: Readout = "likelihood",
    prompt: Prompt | None = None,
    metrics: Sequence[Metric] = CLOSED_SET,
) -> list[SubjectScore]:
    """Score one set of answers by each metric for each subject alone; raises as `rows_for`."""
    keys: dict[str, Any] = {
        "task": task,
        "model": model,
        "condition": condition,
        "readout": readout,
        "prompt": prompt,
    }
    answers = Answers(select(predictions, **keys))
    return [
        SubjectScore(
            **keys,
            metric=metric.name,
            subject=str(subject),
            value=float(value),
            n=int(number),
        )
        for metric in metrics
        for subject, value, number in zip(
            answers.subjects, metric.score(answers).by_subject, answers.num_items, strict=True
        )
    ]
