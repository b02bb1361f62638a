"""Two models on the same items: the difference of a metric, its intervals, and whether it is equivalent to zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from e2llm_core.evaluation.clips import ClipClusters
from e2llm_core.evaluation.equivalence import MARGIN, Equivalent, Unit, equivalence, judged_over
from e2llm_core.evaluation.intervals import (
    MIN_CLIPS_FOR_BOOTSTRAP,
    NO_INTERVAL,
    Interval,
    Statistic,
    bootstrap_interval,
    subject_interval,
)
from e2llm_core.evaluation.metrics import Answers, Metric
from e2llm_core.evaluation.predictions import matching, stored_predictions
from e2llm_core.evaluation.summary import Provenance, Summary
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.question import Prompt, Readout
from e2llm_core.tasks.registry import TASKS
from storage.errors import InputError
from storage.places.location import locate
from storage.splits.checks import listed

ITSELF = "compared with itself"
SUMMARY, PREDICTIONS = "summary.json", "predictions.parquet"


class Answerer(BaseModel):
    """The model that answered, its condition, how its answers were read, and how its question was worded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    condition: str
    readout: Readout
    prompt: Prompt | None = None


class SubjectDifference(BaseModel):
    """Values of one subject in a comparison: means over seeds and folds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: str
    value_a: float
    value_b: float
    difference: float


class PairedRow(BaseModel):
    """The difference between two models, A minus B, on the same items.

    Attributes
    ----------
    value_a, value_b, difference
        Averages over the runs of a fold, then over folds, then over subjects.
    ci_low, ci_high, ci_method
        95 % interval of the difference over subjects.
    n_clips, clip_ci_low, clip_ci_high
        Number of clips, and the same interval over clips, with these subjects; null if there are too few.
    margin, equivalent, judged_over
        Margin around zero, whether the interval lies within it, and what that interval is over: subjects, or clips if
        the split tests known subjects on new clips.
    adaptation_a, adaptation_b
        Adaptation rule of each side: what it used of a tested session's own signal.
    is_itself
        Whether A and B are the same model, so that nothing was compared.
    per_subject
        Values of each subject, in the order of subjects.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    metric: str
    a: Answerer
    b: Answerer
    value_a: float
    value_b: float
    difference: float
    ci_low: float | None
    ci_high: float | None
    ci_method: str
    n_clips: int | None
    clip_ci_low: float | None
    clip_ci_high: float | None
    margin: float
    equivalent: Equivalent
    judged_over: Unit
    adaptation_a: str
    adaptation_b: str
    is_itself: bool
    n_items: int = Field(gt=0)
    n_subjects: int = Field(gt=0)
    n_runs: int = Field(gt=0)
    split: str
    per_subject: tuple[SubjectDifference, ...]

    @property
    def verdict(self) -> str:
        """The verdict in words, such as ``equivalent within 0.05: yes ([-0.012, 0.020])``."""
        if self.is_itself:
            return ITSELF
        over_clips = self.judged_over == "clips"
        low, high = (self.clip_ci_low, self.clip_ci_high) if over_clips else (self.ci_low, self.ci_high)
        interval = "no interval" if low is None else f"[{low:.3f}, {high:.3f}]"
        interval += " over clips" if over_clips else ""
        return f"equivalent within {self.margin:g}: {self.equivalent} ({interval})"


def summary_of(run: str | Path) -> Summary:
    """Content of summary.json in an evaluation's folder or URL.

    Raises
    ------
    InputError
        If another version wrote it.
    """
    try:
        return Summary.model_validate_json(locate(run).read(SUMMARY))
    except ValidationError as error:
        raise InputError(f"{run}/{SUMMARY}", "is of another version", "Evaluate the model again.") from error


@dataclass(frozen=True)
class EvaluatedRun:
    """A finished evaluation.

    Attributes
    ----------
    place : str
        Folder or URL of the run, as error messages name it.
    summary : Summary
        Content of summary.json.
    predictions : pandas.DataFrame
        Content of predictions.parquet.
    """

    place: str
    summary: Summary
    predictions: pd.DataFrame

    @classmethod
    def read(cls, run: str | Path) -> EvaluatedRun:
        """Read the results in a run's folder or URL.

        Raises
        ------
        InputError
            If there are no results of an evaluation, or another version wrote them.
        """
        place = locate(run)
        if lacking := [name for name in (SUMMARY, PREDICTIONS) if not place.exists(name)]:
            raise InputError(str(run), f"no results of an evaluation here: {lacking[0]} is missing", "Evaluate first.")
        return cls(str(run), summary_of(run), stored_predictions(place.read(PREDICTIONS), f"{run}/{PREDICTIONS}"))

    @property
    def task(self) -> str:
        """Task of the primary endpoint, or of the first number if no primary endpoint was declared."""
        return next((row.task for row in self.summary.results if row.primary), self.summary.results[0].task)

    def answerer(self, task: str, model: str, readout: Readout | None = None) -> Answerer:
        """Choose one set of answers of a model: on the EEG if it was shown EEG, otherwise under its first condition.

        The readout is its only one, otherwise the requested one, otherwise that of the primary endpoint.

        A language model's answers are those to the wording that counts: its task's first prompt.

        Raises
        ------
        InputError
            If the model has no results on this task, or several readouts of which none is requested or the primary
            endpoint's.
        """
        rows = [row for row in self.summary.results if (row.task, row.model) == (task, model)]
        if not rows:
            known = list(dict.fromkeys(row.model for row in self.summary.results if row.task == task))
            remedy = f"It has {listed(known or list(dict.fromkeys(row.task for row in self.summary.results)))}."
            raise InputError(self.place, f"has no results of {model} on {task}", remedy)
        prompt = None if all(row.prompt is None for row in rows) else TASKS[task].prompt
        condition = EEG if any(row.condition == EEG for row in rows) else rows[0].condition
        ways = list(dict.fromkeys(row.readout for row in rows if row.condition == condition))
        primary = [row.readout for row in self.summary.results if row.primary and row.task == task]
        if len(ways) == 1:
            chosen: Readout | None = ways[0]
        else:
            chosen = readout or next((way for way in primary if way in ways), None)
        if chosen is None:
            raise InputError(self.place, f"{model} was read as {listed(ways)}", "Choose one with --readout.")
        return Answerer(model=model, condition=condition, readout=chosen, prompt=prompt)

    def answers(self, task: str, who: Answerer) -> AnsweredItems:
        """Return one set of answers of this run.

        Raises
        ------
        InputError
            If the run has no such answers.
        """
        wanted = {"task": task, **who.model_dump()}
        rows = matching(self.predictions, wanted)
        numbers = [row for row in self.summary.results if all(getattr(row, k) == v for k, v in wanted.items())]
        if rows.empty or not numbers:
            keys = list(Answerer.model_fields)
            known = self.predictions.loc[self.predictions["task"] == task, keys].drop_duplicates()
            there = listed([_joined(one) for one in known.itertuples(index=False)]) if len(known) else "no such task"
            asked = _joined(who.model_dump().values())
            raise InputError(self.place, f"has no answers of {asked} to {task}", f"It has {there}.")
        fields = set(Provenance.model_fields)
        return AnsweredItems(self.place, Provenance(**numbers[0].model_dump(include=fields)), rows, self.store)

    @property
    def store(self) -> str | None:
        """Digest of the store that the items come from; None if the run does not record it.

        It does not cover which windows were left out as damaged: the items show that.
        """
        inputs = self.summary.environment.get("digests", {}).get("inputs", {})
        digest: str = inputs.get("data.store", "")
        return digest.partition(" ")[0] or None


@dataclass(frozen=True)
class AnsweredItems:
    """One set of answers of one run: rows of predictions, and their provenance."""

    place: str
    provenance: Provenance
    rows: pd.DataFrame
    store: str | None = None

    @property
    def seed_and_fold(self) -> tuple[int, int | None]:
        """Seed and fold, which identify a run within its protocol."""
        return self.provenance.seed, self.provenance.fold

    @property
    def truth(self) -> dict[str, tuple[str, str]]:
        """Subject and true answer of each item."""
        columns = (self.rows["item_id"], self.rows["subject"].astype(str), self.rows["truth"])
        return {item: (subject, truth) for item, subject, truth in zip(*columns, strict=True)}

    @property
    def shown(self) -> dict[str, tuple[tuple[str, int, int], ...]]:
        """Recording, start sample and stop sample of each item's segments."""
        return {
            item: tuple((str(one["recording_id"]), int(one["start"]), int(one["stop"])) for one in segments)
            for item, segments in zip(self.rows["item_id"], self.rows["segments"], strict=True)
        }

    def says_the_same(self, other: AnsweredItems) -> bool:
        """Whether the other set comes from the same model and has the same answers."""
        same = ("model_digest", "seed", "fold", "adaptation")
        given = [one.rows.set_index("item_id")["answer"].sort_index() for one in (self, other)]
        return given[0].equals(given[1]) and all(
            getattr(self.provenance, name) == getattr(other.provenance, name) for name in same
        )


def compare(
    runs_a: Sequence[EvaluatedRun],
    runs_b: Sequence[EvaluatedRun],
    *,
    task: str,
    metric: Metric,
    a: Answerer,
    b: Answerer,
    margin: float = MARGIN,
    n_resamples: int = 2000,
    seed: int = 0,
) -> PairedRow:
    """Compare two models on the same items of the same subjects.

    If both sides have runs of the same seeds and folds, items must agree run by run; otherwise all runs of a fold must
    have the same items. Each subject's values are averaged over the runs of a fold, then over folds; the interval is
    over subjects.

    Parameters
    ----------
    runs_a, runs_b
        Evaluations of A and of B: several seeds, several folds, or one each. One run may hold both models.
    task, metric
        Task and metric to compare on.
    a, b
        Answers of each side: model, condition and readout.
    margin
        Largest distance from zero that counts as no difference.
    n_resamples, seed
        Number of resamples and seed of the bootstrap.

    Raises
    ------
    InputError
        If a run lacks the answers, a side has two runs of one seed and fold, or the runs differ in store, split, items
        or truth.
    """
    sets_a, sets_b = [run.answers(task, a) for run in runs_a], [run.answers(task, b) for run in runs_b]
    for sets in (sets_a, sets_b):
        _require_different_runs(sets)
    for one, other in _matched(sets_a, sets_b):
        _require_same_items(one, other, task)
    subjects = _differences(sets_a, sets_b, metric)
    differences = np.array([one.difference for one in subjects])
    interval = subject_interval(differences, n_resamples=n_resamples, seed=seed)
    clips, over_clips = _over_clips(sets_a, sets_b, metric, n_resamples, seed)
    unit = judged_over(sets_a[0].provenance.disjoint_on)
    return PairedRow(
        task=task,
        metric=metric.name,
        a=a,
        b=b,
        value_a=float(np.mean([one.value_a for one in subjects])),
        value_b=float(np.mean([one.value_b for one in subjects])),
        difference=float(differences.mean()),
        ci_low=interval.ends[0],
        ci_high=interval.ends[1],
        ci_method=interval.method,
        n_clips=clips or None,
        clip_ci_low=over_clips.ends[0],
        clip_ci_high=over_clips.ends[1],
        margin=margin,
        equivalent=equivalence(*(over_clips if unit == "clips" else interval).ends, 0.0, margin),
        judged_over=unit,
        adaptation_a=_adaptation(sets_a),
        adaptation_b=_adaptation(sets_b),
        is_itself=a == b and _are_the_same(sets_a, sets_b),
        n_items=len({item for one in sets_a for item in one.truth}),
        n_subjects=len(subjects),
        n_runs=max(len(sets_a), len(sets_b)),
        split=sets_a[0].provenance.split,
        per_subject=subjects,
    )


def _joined(words: Iterable[Any]) -> str:
    return " ".join(str(word) for word in words if not pd.isna(word))


def _require_different_runs(sets: Sequence[AnsweredItems]) -> None:
    found: dict[tuple[int, int | None], str] = {}
    for one in sets:
        if one.seed_and_fold in found:
            seed, fold = one.seed_and_fold
            where = f"seed {seed}" if fold is None else f"seed {seed}, fold {fold}"
            remedy = "Name one run per seed and fold on each side."
            raise InputError(one.place, f"repeats {where} of {found[one.seed_and_fold]}", remedy)
        found[one.seed_and_fold] = one.place


def _are_the_same(sets_a: Sequence[AnsweredItems], sets_b: Sequence[AnsweredItems]) -> bool:
    """Whether both sides consist of the same runs, in any order."""
    others = {one.seed_and_fold: one for one in sets_b}
    return {one.seed_and_fold for one in sets_a} == others.keys() and all(
        one.says_the_same(others[one.seed_and_fold]) for one in sets_a
    )


def _adaptation(sets: Sequence[AnsweredItems]) -> str:
    return ", ".join(dict.fromkeys(one.provenance.adaptation for one in sets))


def _matched(
    sets_a: Sequence[AnsweredItems], sets_b: Sequence[AnsweredItems]
) -> list[tuple[AnsweredItems, AnsweredItems]]:
    """Pairs of sets that must have the same items."""
    by_run_a, by_run_b = ({one.seed_and_fold: one for one in sets} for sets in (sets_a, sets_b))
    if by_run_a.keys() == by_run_b.keys():
        return [(one, by_run_b[run]) for run, one in by_run_a.items()]
    folds_a, folds_b = ({fold for _, fold in by_run} for by_run in (by_run_a, by_run_b))
    if folds_a != folds_b:
        odd = listed(sorted(str(fold) for fold in folds_a ^ folds_b))
        raise InputError(
            sets_b[0].place, f"and {sets_a[0].place} have different folds: {odd}", "Compare runs of the same folds."
        )
    first = {fold: next(one for one in sets_a if one.provenance.fold == fold) for fold in folds_a}
    return [(first[one.provenance.fold], one) for one in (*sets_a, *sets_b) if one is not first[one.provenance.fold]]


def _require_same_items(one: AnsweredItems, other: AnsweredItems, task: str) -> None:
    """Refuse two sets whose difference would not be due to the models alone."""
    place = other.place
    for field, words in (("split_digest", "split"), ("fold", "fold")):
        here, there = getattr(one.provenance, field), getattr(other.provenance, field)
        if here != there:
            problem = f"has another {words} ({there}) than {one.place} ({here})"
            raise InputError(place, problem, "Evaluate both on one split.")
    if one.store and other.store and one.store != other.store:
        problem = f"answers about another store ({other.store}) than {one.place} ({one.store})"
        raise InputError(place, problem, "Evaluate both on one store.")
    mine, theirs = one.truth, other.truth
    if not (common := mine.keys() & theirs.keys()):
        raise InputError(place, f"shares no item of {task} with {one.place}", "Evaluate both on the same windows.")
    if odd := sorted(mine.keys() ^ theirs.keys()):
        problem = f"and {one.place} have different items of {task}: {len(odd)} are in only one, such as {odd[0]}"
        raise InputError(place, problem, "Evaluate both with the same windows, `num_pairs` and `seed`.")
    if unlike := sorted(item for item in common if mine[item] != theirs[item]):
        problem = f"and {one.place} differ in the truth of {len(unlike)} items of {task}, such as {unlike[0]}"
        raise InputError(place, problem, "Evaluate both on one store.")
    here, there = one.shown, other.shown
    if unlike := sorted(item for item in common if here[item] != there[item]):
        problem = f"and {one.place} show different samples in {len(unlike)} items of {task}, such as {unlike[0]}"
        raise InputError(place, problem, "Evaluate both on one store, with the same windows.")


def _differences(
    sets_a: Sequence[AnsweredItems], sets_b: Sequence[AnsweredItems], metric: Metric
) -> tuple[SubjectDifference, ...]:
    value_a, value_b = (_subject_means(sets, metric) for sets in (sets_a, sets_b))
    return tuple(
        SubjectDifference(
            subject=subject,
            value_a=value_a[subject],
            value_b=value_b[subject],
            difference=value_a[subject] - value_b[subject],
        )
        for subject in sorted(value_a)
    )


def _subject_means(sets: Sequence[AnsweredItems], metric: Metric) -> Mapping[str, float]:
    """Each subject's mean over folds: every fold has the same weight, however many runs it has."""
    values: dict[str, dict[int | None, list[float]]] = {}
    for one in sets:
        answers = Answers(one.rows)
        for subject, value in zip(answers.subjects, metric.score(answers).by_subject, strict=True):
            values.setdefault(str(subject), {}).setdefault(one.provenance.fold, []).append(float(value))
    return {subject: float(np.mean([np.mean(fold) for fold in found.values()])) for subject, found in values.items()}


def _over_clips(
    sets_a: Sequence[AnsweredItems], sets_b: Sequence[AnsweredItems], metric: Metric, n_resamples: int, seed: int
) -> tuple[int, Interval]:
    """Number of clips, and the interval over clips of the difference of the metric over all items.

    The metric of each side is averaged over the runs of a fold, then over folds.
    """
    clusters = [[ClipClusters(one.rows) for one in sets] for sets in (sets_a, sets_b)]
    clips = sorted({clip for side in clusters for one in side for clip in one.clips})
    if len(clips) < MIN_CLIPS_FOR_BOOTSTRAP or not all(one.are_known for side in clusters for one in side):
        return len(clips), NO_INTERVAL
    sides = []
    for sets, side in zip((sets_a, sets_b), clusters, strict=True):
        folds: dict[int | None, list[Statistic]] = {}
        for one, cluster in zip(sets, side, strict=True):
            folds.setdefault(one.provenance.fold, []).append(_resampled(cluster, metric, clips))
        sides.append(list(folds.values()))

    def difference(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        mean_a, mean_b = (
            np.mean([np.mean([run(draws) for run in fold], axis=0) for fold in folds], axis=0) for folds in sides
        )
        return np.asarray(mean_a - mean_b, dtype=np.float64)

    return len(clips), bootstrap_interval(
        difference, len(clips), n_resamples=n_resamples, seed=seed, method="clip_bootstrap"
    )


def _resampled(clusters: ClipClusters, metric: Metric, clips: Sequence[int]) -> Statistic:
    """The metric of one run, as a function of draws of the clips of all runs."""
    places = [clips.index(clip) for clip in clusters.clips]
    statistic = clusters.statistic(metric)
    return lambda draws: statistic(draws[:, places])
