"""The results table in the terminal and the HTML page of a cross-validation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from e2llm_core.evaluation.comparison import Answerer
from e2llm_core.evaluation.report.figures import DotRow, dot_intervals
from e2llm_core.evaluation.report.verdicts import display_name, worded
from e2llm_core.tasks.items import EEG
from jobs.cross_validation.results import (
    RESULTS,
    CrossValidationSummary,
    VariantDifference,
    VariantRow,
    answerer_of,
    subject_means,
)
from storage.pages import templates
from storage.places.files import write_bytes

PAGE, SUMMARY = "report.html", "summary.json"
_SYSTEM = "e2llm"


def write_page(folder: Path, summary: CrossValidationSummary) -> Path:
    """Write summary.json and report.html beside results.parquet.

    Returns
    -------
    Path
        Path of the page.
    """
    summary.write(folder / SUMMARY)
    scores = pd.read_parquet(folder / RESULTS)
    environment = templates(Path(__file__).parent)
    environment.filters["number"] = number
    environment.filters["interval"] = interval
    page = environment.get_template("page.html.jinja").render(
        summary=summary,
        tables={task: shown_rows(summary, task) for task in summary.metrics},
        others=[row for row in summary.results if row.condition != EEG and row.metric == summary.metrics[row.task]],
        pictures={task: _picture(shown_rows(summary, task), scores, task) for task in summary.metrics},
        name=row_name,
        answerer=answerer_name,
        seeds=sorted({cell.seed for cell in summary.cells}),
        folds=list(dict.fromkeys(cell.fold for cell in summary.cells)),
        variants=list(dict.fromkeys(cell.variant for cell in summary.cells)),
        facts=facts(summary.environment),
    )
    write_bytes(folder / PAGE, page.encode())
    return folder / PAGE


def written_again(folder: Path) -> Path:
    """Rewrite the page of a finished cross-validation from its files, and return its path."""
    text = (folder / SUMMARY).read_text(encoding="utf-8")
    return write_page(folder, CrossValidationSummary.model_validate_json(text))


def shown_rows(summary: CrossValidationSummary, task: str) -> list[VariantRow]:
    """Results from the EEG on one task, in the metric that `summary.metrics` selects."""
    metric = summary.metrics[task]
    return [row for row in summary.results if (row.task, row.metric, row.condition) == (task, metric, EEG)]


def results_table(summary: CrossValidationSummary) -> Group:
    """Results as tables for a terminal of 80 columns."""
    parts: list[Table | Text] = [Text(summary.notice, style="bold")]
    for task, metric in summary.metrics.items():
        table = Table(title=f"{task}: {metric.replace('_', ' ')}", title_justify="left", pad_edge=False)
        table.add_column("variant", overflow="fold")
        table.add_column("model", overflow="fold")
        for name in ("value", "95 % over subjects", "seeds' SD", "chance"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in shown_rows(summary, task):
            cells = (number(row.value), interval(row.ci_low, row.ci_high), number(row.seed_sd), number(row.chance))
            table.add_row(row.variant, row_name(row), *cells, style="bold" if row.primary else None)
        parts.append(table)
    if summary.differences:
        table = Table(title="Paired differences on the same items", title_justify="left", pad_edge=False)
        for name in ("task", "difference of", "from"):
            table.add_column(name, overflow="fold")
        for name in ("difference", "95 % over subjects"):
            table.add_column(name, justify="right", no_wrap=True)
        for one in summary.differences:
            ends = interval(one.row.ci_low, one.row.ci_high)
            table.add_row(one.row.task, *_sides(one), number(one.row.difference), ends)
        parts.append(table)
    parts += [Text(f"not compared: {reason}", style="dim") for reason in summary.not_compared]
    return Group(*parts)


def number(value: float | None) -> str:
    """Format a number with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """Format an interval by its two ends; a dash for None."""
    return "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def row_name(row: VariantRow) -> str:
    """Name of the model, with its condition, readout and wording where they are not the usual ones."""
    return answerer_name(row.task, answerer_of(row))


def answerer_name(task: str, who: Answerer) -> str:
    """Name of one side of a comparison, formed like `row_name`."""
    name = display_name(who.model, who.condition)
    return worded(f"{name}, {who.readout}" if who.readout == "generation" else name, task, who.prompt)


def facts(environment: dict[str, Any]) -> dict[str, str]:
    """Digests of the spec and the run, by the words that the page shows."""
    digests = environment.get("digests", {})
    named = {"spec": digests.get("spec"), "run": digests.get("run")}
    return {f"digest of the {name}": str(value) for name, value in named.items() if value}


def _sides(one: VariantDifference) -> tuple[str, str]:
    """Names of the two sides: two variants of one model, or two models of one variant."""
    if one.variant_a != one.variant_b:
        return f"{one.variant_a}: {answerer_name(one.row.task, one.row.a)}", one.variant_b
    return f"{one.variant_a}: {answerer_name(one.row.task, one.row.a)}", answerer_name(one.row.task, one.row.b)


def _picture(rows: Sequence[VariantRow], scores: pd.DataFrame, task: str) -> str:
    several = len({row.variant for row in rows}) > 1
    dots = [
        DotRow(
            name=f"{row.variant}: {row_name(row)}" if several else row_name(row),
            value=row.value,
            low=row.ci_low,
            high=row.ci_high,
            chance=row.chance,
            subjects=subject_means(scores, row),
            kind="model" if row.model == _SYSTEM else "reference",
        )
        for row in rows
    ]
    return dot_intervals(dots, f"{task}-subjects", rows[0].metric.replace("_", " ")) if dots else ""
