"""report.html: all results of an evaluation in one file that makes no network requests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from e2llm_core.evaluation.config import SINGLE
from e2llm_core.evaluation.counting import counted
from e2llm_core.evaluation.metrics import Answers, TableMetric
from e2llm_core.evaluation.predictions import KEYS, matching, read_predictions
from e2llm_core.evaluation.references.baselines.table import BASELINES
from e2llm_core.evaluation.report import eeg_figures, figures
from e2llm_core.evaluation.report.faithfulness_section import APART, faithfulness_tables
from e2llm_core.evaluation.report.inputs import Topomaps, read_examples, read_learning_curves
from e2llm_core.evaluation.report.probability_section import NAMES, probability_tables
from e2llm_core.evaluation.report.verdicts import (
    MARGIN,
    control_name,
    display_name,
    is_judged,
    judge,
    meanings,
    worded,
)
from e2llm_core.evaluation.summary import ResultRow, SubjectScore, Summary
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.registry import TASKS
from storage.errors import InputError
from storage.pages import templates
from storage.places.files import write_bytes

METHOD_WORDS = {
    "t_subjects": "Student's t over subjects",
    "subject_bootstrap": "subject-clustered bootstrap, expanded percentiles",
    "none": "no interval, one subject only",
}
_APART = {*NAMES, *APART}
"""Numbers that have sections of their own."""
_ORDER = ("oracle", SINGLE, "probe", "baseline", "random_eeg", "session_only")


@dataclass(frozen=True)
class Headline:
    """The main number of a task, and the rows and the plot that are shown with it."""

    row: ResultRow
    name: str
    times_chance: float | None
    beside: list[tuple[str, ResultRow]]
    plot: str


def write_report(evaluation_dir: Path) -> Path:
    """Write report.html into an evaluation folder.

    Parameters
    ----------
    evaluation_dir
        Folder with summary.json and predictions.parquet and, if they were made, learning_curves.json, topomaps.npz and
        examples.json with examples.npz (see `report.inputs`).

    Returns
    -------
    Path of the report.

    Raises
    ------
    FileNotFoundError
        If the summary or the predictions are missing.
    InputError
        If another version wrote them, or they have results of a task that this version does not know.
    pydantic.ValidationError, ValueError
        If one of them does not follow its schema.
    """
    summary = Summary.read(evaluation_dir / "summary.json")
    predictions = read_predictions(evaluation_dir / "predictions.parquet")
    environment = templates(Path(__file__).parent)
    environment.filters["number"] = _number
    environment.filters["duration"] = _duration
    page = environment.get_template("report.html.jinja").render(**_content(evaluation_dir, summary, predictions))
    path = evaluation_dir / "report.html"
    write_bytes(path, page.encode())
    return path


def _content(folder: Path, summary: Summary, predictions: pd.DataFrame) -> dict[str, Any]:
    """Values for the template."""
    tasks = list(dict.fromkeys(row.task for row in summary.results))
    if unknown := [task for task in tasks if task not in TASKS]:
        problem = f"has results of tasks that this version does not know: {', '.join(unknown)}"
        raise InputError(str(folder / "summary.json"), problem, f"It knows {', '.join(TASKS)}.")
    curves = {stage: rows for stage, rows in read_learning_curves(folder).items() if rows}
    scalp = Topomaps.read(folder)
    picture, left_out = eeg_figures.topomaps(scalp) if scalp else (None, [])
    return {
        "summary": summary,
        "titles": {task: f"{task}: {TASKS[task].title}" for task in tasks},
        "headline_metrics": {task: TASKS[task].metrics[0].words for task in tasks},
        "headlines": [line for task in tasks if (line := _headline(summary, task))],
        "metrics": list(dict.fromkeys(row.metric for row in summary.results if row.metric not in _APART)),
        "probabilities": probability_tables(summary, predictions),
        "probability_names": NAMES,
        "faithfulness": faithfulness_tables(summary),
        "num_clips": sorted({row.n_clips for row in summary.results if row.clip_ci_low is not None and row.n_clips}),
        "table": _table(summary),
        "controls": _controls(summary),
        "margin": MARGIN,
        "subjects": _subject_tables(summary, tasks),
        "confusions": _confusions(predictions, tasks, _speakers(summary)),
        "curves": figures.learning_curves(curves, "curves") if curves else None,
        "scalp": {"picture": picture, "left_out": left_out, "content": scalp} if scalp else None,
        "examples": _examples(folder),
        "interval_words": [METHOD_WORDS.get(name, name) for name in sorted({row.ci_method for row in summary.results})],
        "reproduce": _reproduce(summary),
        "several_adaptations": len({row.adaptation for row in summary.results}) > 1,
        "several_readouts": len({row.readout for row in summary.results if _is_model(row)}) > 1,
    }


def _rank(row: ResultRow) -> tuple[int, int, bool]:
    kind = SINGLE if _is_model(row) else "baseline" if row.model in BASELINES else row.model.partition("-")[0]
    name = control_name(row.model, row.condition) or kind
    return (
        _ORDER.index(name) if name in _ORDER else len(_ORDER),
        0 if row.readout == "generation" else 1,
        row.prompt not in (None, TASKS[row.task].prompt),
    )


def _label(summary: Summary, row: ResultRow) -> str:
    """Name of a row, with its wording if another one counts, and its readout if the same model was read in two ways."""
    name = worded(display_name(row.model, row.condition), row.task, row.prompt)
    siblings = {
        other.readout
        for other in summary.results
        if (other.task, other.model, other.condition) == (row.task, row.model, row.condition)
    }
    return f"{name} ({row.readout})" if len(siblings) > 1 else name


def _is_model(row: ResultRow) -> bool:
    """Whether the answers are those of a language model, not of a reference."""
    return row.model == SINGLE or row.prompt is not None


def _names(row: ResultRow | SubjectScore) -> dict[str, str | None]:
    """What names the set of answers that a number is of."""
    return {key: getattr(row, key) for key in KEYS}


def _is_headline(row: ResultRow) -> bool:
    return row.metric == TASKS[row.task].metrics[0].name


def _headline(summary: Summary, task: str) -> Headline | None:
    rows = sorted((row for row in summary.results if row.task == task and _is_headline(row)), key=_rank)
    answers = [row for row in rows if control_name(row.model, row.condition) is None]
    models = [row for row in answers if _is_model(row)]
    if not answers:
        return None
    main = next((row for row in models if row.primary), (models or answers)[0])
    others = [row for row in models if row is not main and _names(row) == _names(main) | {"prompt": row.prompt}]
    others += [row for row in answers if row.model != main.model]
    words = TASKS[task].metrics[0].words
    return Headline(
        row=main,
        name=_label(summary, main),
        times_chance=main.value / main.chance if main.chance else None,
        beside=[(_label(summary, row), row) for row in others],
        plot=figures.dot_intervals([_dot(summary, row) for row in rows], f"dots-{task}", words),
    )


def _dot(summary: Summary, row: ResultRow) -> figures.DotRow:
    subjects = tuple(one.value for one in summary.per_subject if (_names(one), one.metric) == (_names(row), row.metric))
    control = control_name(row.model, row.condition) is not None
    kind = "control" if control else "model" if _is_model(row) else "reference"
    return figures.DotRow(_label(summary, row), row.value, row.ci_low, row.ci_high, row.chance, subjects, kind)


def _table(summary: Summary) -> list[dict[str, Any]]:
    """One line per set of answers, one cell per metric."""
    lines: dict[tuple[str | None, ...], dict[str, Any]] = {}
    for row in summary.results:
        if row.metric in _APART:
            continue
        name = worded(display_name(row.model, row.condition), row.task, row.prompt)
        line = lines.setdefault(tuple(_names(row).values()), {"first": row, "name": name, "cells": {}})
        line["cells"][row.metric] = row
    tasks = list(dict.fromkeys(row.task for row in summary.results))
    return sorted(lines.values(), key=lambda line: (tasks.index(line["first"].task), *_rank(line["first"])))


def _controls(summary: Summary) -> list[dict[str, Any]]:
    found, known = [], meanings()
    for row in summary.results:
        name = control_name(row.model, row.condition)
        if name and _is_headline(row):
            verdict = judge(row) if row.chance is not None and is_judged(name) else None
            found.append({"row": row, "name": _label(summary, row), "meaning": known[name], "verdict": verdict})
    tasks = list(dict.fromkeys(row.task for row in summary.results))
    return sorted(found, key=lambda item: (tasks.index(item["row"].task), *_rank(item["row"])))


def _subject_tables(summary: Summary, tasks: list[str]) -> list[dict[str, Any]]:
    """Scores of each subject by the models that see EEG."""
    tables = []
    for task in tasks:
        rows = [row for row in summary.results if row.task == task and _is_headline(row)]
        rows = sorted((row for row in rows if control_name(row.model, row.condition) is None), key=_rank)
        columns = {tuple(_names(row).values()): _label(summary, row) for row in rows}
        cells: dict[str, dict[tuple[str | None, ...], float]] = {}
        for one in summary.per_subject:
            key = tuple(_names(one).values())
            if one.metric == TASKS[task].metrics[0].name and key in columns:
                cells.setdefault(one.subject, {})[key] = one.value
        if cells:
            tables.append({"task": task, "columns": columns, "cells": dict(sorted(cells.items(), key=_natural))})
    return tables


def _natural(item: tuple[str, Any]) -> list[Any]:
    """Sort key that puts subject 2 before subject 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", item[0]) if part]


def _speakers(summary: Summary) -> list[str]:
    """Names of the language models."""
    return list(dict.fromkeys(row.model for row in summary.results if _is_model(row)))


def _confusions(predictions: pd.DataFrame, tasks: list[str], models: list[str]) -> list[dict[str, str]]:
    pictures = []
    for task, model in product(tasks, models):
        if not any(isinstance(metric, TableMetric) for metric in TASKS[task].metrics):
            continue
        rows = matching(counted(predictions), {"task": task, "model": model, "condition": EEG})
        if rows.empty:
            continue
        readout = "generation" if (rows["readout"] == "generation").any() else "likelihood"
        answers = Answers(rows[rows["readout"] == readout])
        picture = figures.confusion(answers.counts.sum(axis=0), answers.labels, f"confusion-{task}-{model}")
        name = readout if len(models) == 1 else f"{model}, {readout}"
        pictures.append({"task": task, "readout": name, "picture": picture})
    return pictures


def _examples(folder: Path) -> list[dict[str, Any]]:
    shown = []
    for number, example in enumerate(read_examples(folder)):
        shown.append(
            {
                "example": example,
                "right": example.answer == example.truth,
                "plot": eeg_figures.eeg_trace(example, f"trace-{number}"),
            }
        )
    return shown


def _reproduce(summary: Summary) -> list[tuple[str, list[str]]]:
    """Fields that identify the run, each with every value that occurs."""
    fields = {
        "split": "split",
        "split_digest": "split digest",
        "fold": "fold",
        "disjoint_on": "sides disjoint on",
        "shared": "test shares with training",
        "labels_missing_in_train": "labels never trained",
        "seed": "seed",
        "adaptation": "adaptation",
        "prompt": "prompt",
        "model_digest": "model digest",
    }
    found = []
    for field, words in fields.items():
        values = list(
            dict.fromkeys(_words(value) for row in summary.results if (value := getattr(row, field)) not in (None, ()))
        )
        if values:
            found.append((words, values))
    return found


def _words(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
