"""``e2llm compare``: two models on the same items, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.tasks.question import Readout
from storage.errors import InputError

if TYPE_CHECKING:
    from e2llm_core.evaluation.comparison import PairedRow


class Wanted(BaseModel):
    """What is compared.

    Attributes
    ----------
    task, metric
        None for that of the primary endpoint, and for the task's first.
    model_a, model_b
        As predictions name them.
    readout
        Of a model that was read in both ways; None for that of the primary endpoint.
    margin
        Differences within it count as none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str | None = None
    metric: str | None = None
    model_a: str = "e2llm"
    model_b: str = "e2llm"
    readout: Readout | None = None
    margin: float = Field(0.05, gt=0)


def compare_runs(runs_a: Sequence[str], runs_b: Sequence[str], wanted: Wanted) -> PairedRow:
    """Read evaluations and compare two models of them.

    Parameters
    ----------
    runs_a, runs_b
        Folders or URLs of evaluations: several seeds, several folds, or one each.
    wanted
        What is compared.

    Raises
    ------
    InputError
        When a run, a model or a metric is not there, or the runs differ in their store, items, truth or split.
    """
    from e2llm_core.evaluation.comparison import EvaluatedRun, compare
    from e2llm_core.tasks.registry import TASKS

    read = {run: EvaluatedRun.read(run) for run in dict.fromkeys((*runs_a, *runs_b))}
    sides = [[read[run] for run in runs] for runs in (runs_a, runs_b)]
    task = wanted.task or sides[0][0].task
    if task not in TASKS:
        raise InputError(f"--task {task}", "no such task", f"There is {', '.join(TASKS)}.")
    metrics = {metric.name: metric for metric in TASKS[task].metrics}
    name = wanted.metric or next(iter(metrics))
    if name not in metrics:
        raise InputError(f"--metric {name}", f"is none of {task}", f"It has {', '.join(metrics)}.")
    models = (wanted.model_a, wanted.model_b)
    a, b = (side[0].answerer(task, model, wanted.readout) for side, model in zip(sides, models, strict=True))
    return compare(*sides, task=task, metric=metrics[name], a=a, b=b, margin=wanted.margin)


def show_comparison(row: PairedRow) -> None:
    """Print the difference with its intervals and its verdict, and each subject."""
    from rich.console import Console
    from rich.table import Table

    names = [f"{who.model} ({who.readout})" for who in (row.a, row.b)]
    runs = f", means over {row.n_runs} runs" if row.n_runs > 1 else ""
    words = row.metric.replace("_", " ")
    title = f"{row.task}, {words}: A {names[0]} less B {names[1]}, {row.n_items} items{runs}"
    table = Table(title=title, title_justify="left")
    table.add_column("subject")
    for column in ("A", "B", "A - B"):
        table.add_column(column, justify="right")
    for one in row.per_subject:
        table.add_row(one.subject, f"{one.value_a:.3f}", f"{one.value_b:.3f}", f"{one.difference:+.3f}")
    table.add_section()
    table.add_row("mean", f"{row.value_a:.3f}", f"{row.value_b:.3f}", f"{row.difference:+.3f}")
    console = Console(highlight=False)
    console.print(table)
    over = _interval(row.ci_low, row.ci_high)
    console.print(f"difference {row.difference:+.3f}, 95 % over {row.n_subjects} subjects {over} ({row.ci_method})")
    if row.clip_ci_low is not None:
        over = _interval(row.clip_ci_low, row.clip_ci_high)
        console.print(f"95 % over {row.n_clips} clips, these subjects: {over} (of all items together)")
    console.print(f"adaptation: A {row.adaptation_a}, B {row.adaptation_b}", markup=False)
    console.print(row.verdict, markup=False)


def _interval(low: float | None, high: float | None) -> str:
    return "no interval" if low is None or high is None else rf"\[{low:+.3f}, {high:+.3f}]"
