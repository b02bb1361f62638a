"""The report's section on faithfulness: one line per check, one column per model."""

from dataclasses import dataclass

from e2llm_core.evaluation.faithfulness.metrics import CHECKS, CLAIM_ACCURACY, Check
from e2llm_core.evaluation.report.verdicts import display_name
from e2llm_core.evaluation.summary import ResultRow, Summary
from e2llm_core.tasks.items import EEG

APART = frozenset(CHECKS) - {CLAIM_ACCURACY.name}
"""Checks that the table of every number leaves to this section."""


@dataclass(frozen=True)
class FaithfulnessTable:
    """One task's checks: names of the models, and for each check their rows, None where it is undefined."""

    task: str
    models: list[str]
    lines: list[tuple[Check, list[ResultRow | None]]]


def faithfulness_tables(summary: Summary) -> list[FaithfulnessTable]:
    """One table for each task whose rationales were checked."""
    rows = {(row.task, row.model, row.metric): row for row in summary.results if row.metric in CHECKS}
    tables = []
    for task in dict.fromkeys(task for task, _, _ in rows):
        models = list(dict.fromkeys(model for of, model, _ in rows if of == task))
        lines = [(check, [rows.get((task, model, name)) for model in models]) for name, check in CHECKS.items()]
        shown = [display_name(model, EEG) for model in models]
        tables.append(FaithfulnessTable(task, shown, [line for line in lines if any(line[1])]))
    return tables
