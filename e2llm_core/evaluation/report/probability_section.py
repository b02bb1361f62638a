"""The report's section on probabilities: their scores, their temperature, and figures of both."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from e2llm_core.evaluation.counting import counted
from e2llm_core.evaluation.predictions import matching
from e2llm_core.evaluation.probabilities import PROBABILITY_METRICS, Judged, has_probabilities
from e2llm_core.evaluation.report.probability_figures import probability_panels
from e2llm_core.evaluation.report.verdicts import display_name, worded
from e2llm_core.evaluation.summary import ResultRow, Summary
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.registry import TASKS

NAMES = {metric.name: metric.words for metric in PROBABILITY_METRICS}
"""Names of the probability scores in the report, by their name in the results."""


@dataclass(frozen=True)
class ProbabilityLine:
    """One model's scores, by name, and its temperature in words."""

    name: str
    cells: dict[str, ResultRow]
    calibrated: str


@dataclass(frozen=True)
class ProbabilityTable:
    """Lines of one task, and figures of the language models' probabilities, by name of the model."""

    task: str
    lines: list[ProbabilityLine]
    pictures: dict[str, str]


def probability_tables(summary: Summary, predictions: pd.DataFrame) -> list[ProbabilityTable]:
    """One table for each task whose answers have scored probabilities."""
    rows = [row for row in summary.results if row.metric in NAMES]
    tasks = dict.fromkeys(row.task for row in rows)
    return [_table(task, [row for row in rows if row.task == task], predictions) for task in tasks]


def _table(task: str, rows: list[ResultRow], predictions: pd.DataFrame) -> ProbabilityTable:
    lines: dict[tuple[str, str, str | None], ProbabilityLine] = {}
    for row in rows:
        line = ProbabilityLine(worded(display_name(row.model, row.condition), task, row.prompt), {}, _calibrated(row))
        lines.setdefault((row.model, row.readout, row.prompt), line).cells[row.metric] = row
    speakers = {row.model: row.temperature for row in rows if row.prompt == TASKS[task].prompt}
    pictures = {model: _picture(task, model, temperature, predictions) for model, temperature in speakers.items()}
    drawn = {display_name(model, EEG): picture for model, picture in pictures.items() if picture is not None}
    return ProbabilityTable(task, list(lines.values()), drawn)


def _calibrated(row: ResultRow) -> str:
    return "not calibrated" if row.temperature is None else f"temperature {row.temperature:.2f}"


def _picture(task: str, model: str, temperature: float | None, predictions: pd.DataFrame) -> str | None:
    """Figure of a model's probabilities that count, as they are and before calibration; None if there are none."""
    rows = matching(counted(predictions), {"task": task, "model": model, "condition": EEG, "readout": "likelihood"})
    if rows.empty or not has_probabilities(rows):
        return None
    sets = {"not calibrated": (judged := Judged.of(rows))}
    if temperature is not None:
        before = judged.at_temperature(1 / temperature)
        sets = {f"temperature {temperature:.2f}": judged, "before, temperature 1": before}
    return probability_panels(sets, f"probabilities-{task}-{model}")
