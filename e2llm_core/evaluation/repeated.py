"""Runs of one protocol with several seeds and folds: means of subjects, their interval, and the spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.evaluation.faithfulness.metrics import CHECKS
from e2llm_core.evaluation.intervals import subject_interval
from e2llm_core.evaluation.metrics import UNTRAINED_RECALL
from e2llm_core.evaluation.probabilities import PROBABILITY_METRICS
from e2llm_core.evaluation.summary import Summary
from e2llm_core.tasks.question import Prompt, Readout
from e2llm_core.tasks.registry import TASKS
from storage.errors import InputError
from storage.splits.checks import listed

SET = ("task", "model", "condition", "readout", "prompt", "metric")
"""Columns that identify a number."""

SCORE_COLUMNS = (*SET, "subject", "seed", "fold", "value", "n", "chance", "split", "split_digest", "adaptation")
"""Columns of `run_scores`."""

_ONE_FOLD = -1

_BOUNDS = {
    UNTRAINED_RECALL.name: UNTRAINED_RECALL.bounds,
    **{metric.name: metric.bounds for task in TASKS.values() for metric in task.metrics},
    **{metric.name: metric.bounds for metric in PROBABILITY_METRICS},
    **{check.name: check.bounds for check in CHECKS.values()},
}

_DRAWN = {check.name for check in CHECKS.values() if check.drawn}


class RepeatedRow(BaseModel):
    """One number over several runs.

    Attributes
    ----------
    value
        Mean over subjects of each subject's mean over its runs.
    ci_low, ci_high, ci_method
        95 % interval over subjects of those means.
    chance
        Mean of the expected values of the runs; null if one of them has none.
    n_items
        Number of items of one seed, over all subjects.
    n_subjects, n_seeds, n_folds, n_runs
        Numbers of subjects, seeds, folds and runs.
    seed_min, seed_max, seed_sd
        Smallest, largest and standard deviation (n - 1) over seeds of the mean over subjects; null with one seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    model: str
    condition: str
    readout: Readout
    prompt: Prompt | None
    metric: str
    value: float
    ci_low: float | None
    ci_high: float | None
    ci_method: str
    chance: float | None
    n_items: int = Field(gt=0)
    n_subjects: int = Field(gt=0)
    n_seeds: int = Field(gt=0)
    n_folds: int = Field(gt=0)
    n_runs: int = Field(gt=0)
    seed_min: float | None
    seed_max: float | None
    seed_sd: float | None
    split: str
    adaptation: str


def run_scores(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Scores of every subject in every run, one row each, with the columns `SCORE_COLUMNS`.

    Parameters
    ----------
    summaries
        One summary per run. A score has the seed and the fold of its row in `Summary.results`.
    """
    tables = []
    for summary in summaries:
        if not summary.per_subject:
            continue
        scores = pd.DataFrame([one.model_dump() for one in summary.per_subject])
        wanted = (*SET, "seed", "fold", "chance", "split", "split_digest", "adaptation")
        runs = pd.DataFrame([row.model_dump(include=set(wanted)) for row in summary.results])[list(wanted)]
        tables.append(scores.merge(runs, on=list(SET), validate="many_to_one")[list(SCORE_COLUMNS)])
    if not tables:
        return pd.DataFrame(columns=list(SCORE_COLUMNS))
    scores = pd.concat(tables, ignore_index=True)
    scores["fold"] = scores["fold"].astype("Int64")
    return scores


def repeated_rows(scores: pd.DataFrame, *, n_resamples: int = 2000) -> list[RepeatedRow]:
    """Summarise runs of several seeds and folds, number by number.

    A subject that is tested in several folds (official folds) has the mean over them; one that is tested in a fold of
    its own (leave one subject out) has that fold's value. Of a metric on drawn windows, a subject has the mean over the
    seeds that drew a window of it.

    Parameters
    ----------
    scores
        Table that `run_scores` returns.
    n_resamples
        Number of bootstrap resamples.

    Raises
    ------
    InputError
        If a run occurs twice, seeds tested different subjects or folds, a fold has several splits, or the protocol or
        the adaptation differs.
    """
    keyed = scores.assign(fold=scores["fold"].astype("Int64").fillna(_ONE_FOLD).astype(int))
    return [
        _row({name: None if pd.isna(key) else key for name, key in zip(SET, keys, strict=True)}, part, n_resamples)
        for keys, part in keyed.groupby(list(SET), sort=False, dropna=False)
    ]


def _row(keys: dict[str, Any], scores: pd.DataFrame, n_resamples: int) -> RepeatedRow:
    _require_one_protocol(keys, scores)
    of_seed = scores.groupby(["subject", "seed"])["value"].mean().unstack("seed")
    subjects = of_seed.mean(axis=1)
    bounds = _BOUNDS.get(keys["metric"], (-math.inf, math.inf))
    interval = subject_interval(subjects.to_numpy(), n_resamples=n_resamples, bounds=bounds)
    seeds = of_seed.mean(axis=0).to_numpy()
    several = len(seeds) > 1
    first = scores["seed"] == scores["seed"].iloc[0]
    return RepeatedRow(
        **keys,
        value=float(subjects.mean()),
        ci_low=interval.ends[0],
        ci_high=interval.ends[1],
        ci_method=interval.method,
        chance=None if scores["chance"].isna().any() else float(scores["chance"].mean()),
        n_items=int(scores.loc[first, "n"].sum()),
        n_subjects=len(subjects),
        n_seeds=len(seeds),
        n_folds=scores["fold"].nunique(),
        n_runs=len(scores[["seed", "fold"]].drop_duplicates()),
        seed_min=float(seeds.min()) if several else None,
        seed_max=float(seeds.max()) if several else None,
        seed_sd=float(seeds.std(ddof=1)) if several else None,
        split=scores["split"].iloc[0],
        adaptation=scores["adaptation"].iloc[0],
    )


def _require_one_protocol(keys: dict[str, Any], scores: pd.DataFrame) -> None:
    """Refuse runs whose mean would mix unlike results."""
    place = ", ".join(str(value) for value in keys.values() if value is not None)
    twice = scores[scores.duplicated(["subject", "seed", "fold"])]
    if len(twice):
        one = twice.iloc[0]
        fold = "" if one["fold"] == _ONE_FOLD else f", fold {one['fold']}"
        raise InputError(place, f"the run of seed {one['seed']}{fold} occurs twice", "Name each run once.")
    for column, words in (("split", "protocols of the split"), ("adaptation", "adaptation rules")):
        if len(found := sorted(scores[column].unique())) > 1:
            raise InputError(place, f"runs have different {words}: {listed(found)}", "Summarise each separately.")
    digests = scores.groupby("fold")["split_digest"].nunique()
    if (digests > 1).any():
        fold = digests.index[digests > 1][0]
        where = "runs" if fold == _ONE_FOLD else f"runs of fold {fold}"
        remedy = "Give all of them one `split.seed`; seeds of training do not change it."
        raise InputError(place, f"{where} have different splits", remedy)
    if keys["metric"] in _DRAWN:
        return
    tested = {seed: set(zip(part["subject"], part["fold"], strict=True)) for seed, part in scores.groupby("seed")}
    (first, expected), *others = tested.items()
    for seed, found_here in others:
        if found_here != expected:
            odd = sorted(f"{subject}" for subject, _ in found_here ^ expected)
            problem = f"seeds {first} and {seed} did not test the same subjects and folds: {listed(odd)} differ"
            raise InputError(place, problem, "Run the cells that are missing.")
