"""Results of all cells: scores as cells finish, and a summary over folds and seeds with paired differences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from e2llm_core.evaluation.comparison import Answerer, EvaluatedRun, PairedRow, compare, summary_of
from e2llm_core.evaluation.metrics import Metric
from e2llm_core.evaluation.predictions import matching
from e2llm_core.evaluation.repeated import SET, RepeatedRow, repeated_rows, run_scores
from e2llm_core.evaluation.report.verdicts import worded
from e2llm_core.evaluation.summary import ResultRow, Summary
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.registry import TASKS
from jobs.cross_validation.grid import Cell
from storage.errors import InputError
from storage.places.files import write_bytes

RESULTS = "results.parquet"
_NOT_COMPARED = ["text", "probabilities"]


class CellFacts(BaseModel):
    """Identity of a cell: its names, and the digests of its split, spec and model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: str
    fold: str
    seed: int
    run: str
    split_digest: str
    spec_digest: str
    model_digest: str | None


class VariantRow(RepeatedRow):
    """One result of a variant, summarised over its folds and seeds."""

    variant: str
    primary: bool


class VariantDifference(BaseModel):
    """A paired difference between a variant and the first one, or between two models of one variant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant_a: str
    variant_b: str
    row: PairedRow


class CrossValidationSummary(BaseModel):
    """Content of summary.json of a cross-validation.

    Attributes
    ----------
    notice
        Statement about the data, shown before the first number.
    metrics
        The metric of each task that tables show and comparisons use: the declared one, else the task's first.
    results
        One row per result and variant.
    differences
        Paired differences on the same items.
    not_compared
        Reasons for the comparisons that could not be made.
    cells
        Identity of each cell.
    environment
        Versions, machine and digests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    notice: str
    metrics: dict[str, str]
    results: list[VariantRow]
    differences: list[VariantDifference]
    not_compared: list[str]
    cells: list[CellFacts]
    environment: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write the summary as JSON, atomically."""
        write_bytes(path, (self.model_dump_json(indent=2) + "\n").encode())


@dataclass(frozen=True)
class CellScores:
    """Scores of a finished cell.

    Attributes
    ----------
    cell
        The cell.
    fold_number
        Number of its fold in the protocol; for a fold without a number, its position, from 1.
    run
        Folder or URL of the run of its last step.
    summary
        Summary of that run, with the fold's number in its rows.
    """

    cell: Cell
    fold_number: int
    run: str
    summary: Summary

    @property
    def table(self) -> pd.DataFrame:
        """Scores of the run, one row per subject and result, with variant, fold and run added as columns."""
        names = {"variant": self.cell.variant, "fold_name": self.cell.fold.name, "run": self.run}
        return run_scores([self.summary]).assign(**names)

    @property
    def evaluated(self) -> EvaluatedRun:
        """The run with its answers on the EEG, without the columns that no comparison reads."""
        run = EvaluatedRun.read(self.run)
        rows = run.predictions[run.predictions["condition"] == EEG].drop(columns=_NOT_COMPARED)
        return replace(run, summary=self.summary, predictions=rows)

    @property
    def facts(self) -> CellFacts:
        """Identity of the cell, for the summary."""
        digests = self.summary.environment.get("digests", {})
        inputs = digests.get("inputs", {})
        models = [row.model_digest for row in self.summary.results if row.model_digest is not None]
        models += [digest for key, digest in inputs.items() if key.split(".")[0] in ("model", "models")]
        return CellFacts(
            variant=self.cell.variant,
            fold=self.cell.fold.name,
            seed=self.cell.seed,
            run=self.run,
            split_digest=self.summary.results[0].split_digest,
            spec_digest=digests.get("spec", ""),
            model_digest=models[0] if models else None,
        )


def cell_scores(cell: Cell, fold_number: int, run: str) -> CellScores:
    """Read the scores of a cell from the run of its last step; raises as `summary_of` does."""
    summary = summary_of(run)
    rows = [row.model_copy(update={"fold": fold_number}) for row in summary.results]
    return CellScores(cell, fold_number, run, summary.model_copy(update={"results": rows}))


def write_scores(cells: Sequence[CellScores], path: Path) -> None:
    """Write the scores of all cells finished so far, atomically."""
    temporary = path.with_name(f".{path.name}.partial")
    pd.concat([cell.table for cell in cells], ignore_index=True).to_parquet(temporary, index=False)
    temporary.replace(path)


def summarised(
    cells: Sequence[CellScores], variants: Sequence[str], environment: Mapping[str, Any]
) -> CrossValidationSummary:
    """Summarise all cells: intervals over subjects, spread over seeds, and paired differences.

    Parameters
    ----------
    cells
        Scores of all cells.
    variants
        Names of the variants, in order; the others are compared with the first.
    environment
        Environment that the summary records.

    Raises
    ------
    InputError
        When the cells of a variant cannot be combined, for example because their adaptation rules differ.
    """
    of_variant = {name: [cell for cell in cells if cell.cell.variant == name] for name in variants}
    metrics = _metrics(cells)
    runs = {name: [cell.evaluated for cell in found] for name, found in of_variant.items()}
    differences: list[VariantDifference] = []
    reasons: list[str] = []
    for variant_a, variant_b, task, a, b in chain(
        _between_variants(of_variant, metrics), _between_models(of_variant, metrics)
    ):
        try:
            row = compare(runs[variant_a], runs[variant_b], task=task, metric=metrics[task], a=a, b=b)
        except InputError as error:
            reasons.append(f"{task}, {_words(task, a)} of {variant_a} and {_words(task, b)} of {variant_b}: {error}")
            continue
        differences.append(VariantDifference(variant_a=variant_a, variant_b=variant_b, row=row))
    return CrossValidationSummary(
        notice=cells[0].summary.notice,
        metrics={task: metric.name for task, metric in metrics.items()},
        results=[row for name, found in of_variant.items() for row in _rows(name, found)],
        differences=differences,
        not_compared=reasons,
        cells=[cell.facts for cell in cells],
        environment=dict(environment),
    )


def subject_means(scores: pd.DataFrame, row: VariantRow) -> tuple[float, ...]:
    """Each subject's mean over folds and seeds, for one result in results.parquet."""
    rows = matching(scores, {name: getattr(row, name) for name in ("variant", *SET)})
    return tuple(rows.groupby("subject")["value"].mean())


def _rows(variant: str, cells: Sequence[CellScores]) -> list[VariantRow]:
    primary = {_number(row) for row in cells[0].summary.results if row.primary}
    rows = repeated_rows(pd.concat([cell.table for cell in cells], ignore_index=True))
    return [VariantRow(**row.model_dump(), variant=variant, primary=_number(row) in primary) for row in rows]


def _number(row: ResultRow | RepeatedRow) -> tuple[str | None, ...]:
    return tuple(getattr(row, name) for name in SET)


def _metrics(cells: Sequence[CellScores]) -> dict[str, Metric]:
    """For each task, the declared metric, else the task's first."""
    results = cells[0].summary.results
    declared = {row.task: row.metric for row in results if row.primary}
    found = {}
    for task in dict.fromkeys(row.task for row in results):
        known = {metric.name: metric for metric in TASKS[task].metrics}
        found[task] = known.get(declared.get(task, ""), TASKS[task].metrics[0])
    return found


def _answerers(cells: Sequence[CellScores], task: str, metric: str) -> list[Answerer]:
    """Models that answered a task from the EEG, the primary one first."""
    rows = [row for row in cells[0].summary.results if (row.task, row.condition, row.metric) == (task, EEG, metric)]
    rows.sort(key=lambda row: not row.primary)
    return [answerer_of(row) for row in rows]


def answerer_of(row: ResultRow | RepeatedRow) -> Answerer:
    """Whose number it is."""
    return Answerer(model=row.model, condition=row.condition, readout=row.readout, prompt=row.prompt)


_Comparison = tuple[str, str, str, Answerer, Answerer]


def _between_variants(
    of_variant: Mapping[str, Sequence[CellScores]], metrics: Mapping[str, Metric]
) -> Iterator[_Comparison]:
    first, *others = of_variant
    for task, metric in metrics.items():
        for other in others:
            there = _answerers(of_variant[other], task, metric.name)
            for who in _answerers(of_variant[first], task, metric.name):
                if who in there:
                    yield other, first, task, who, who


def _between_models(
    of_variant: Mapping[str, Sequence[CellScores]], metrics: Mapping[str, Metric]
) -> Iterator[_Comparison]:
    for variant, cells in of_variant.items():
        for task, metric in metrics.items():
            answerers = _answerers(cells, task, metric.name)
            for who in answerers[1:]:
                yield variant, variant, task, who, answerers[0]


def _words(task: str, who: Answerer) -> str:
    return worded(f"{who.model} ({who.readout})", task, who.prompt)
