"""Which rows are controls, and what a control says in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from e2llm_core.evaluation.equivalence import MARGIN, equivalence
from e2llm_core.evaluation.equivalence import Equivalent as AtNull
from e2llm_core.evaluation.references.controls import Control
from e2llm_core.evaluation.repeated import RepeatedRow
from e2llm_core.evaluation.summary import ResultRow
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.registry import TASKS

MEANINGS: Mapping[str, str] = {
    "random_eeg": "noise in place of the EEG; above its null the answer would not come from the EEG",
    "other_class": "EEG of another class; above its null the answer would not come from the EEG",
    "text_only": "the prompt without EEG; above its null the wording would give the answer away",
}
"""What each condition that is a control shows."""

DISPLAY_NAMES: Mapping[str, str] = {
    "e2llm": "E2-LLM",
    "de_svm": "DE + linear SVM",
    "oracle": "oracle",
    "probe": "stage-1 probe",
    "random_eeg": "random EEG",
    "other_class": "EEG of another class",
    "text_only": "text only",
}


def controls_of_tasks() -> dict[str, Control]:
    """The controls of all tasks by name."""
    return {control.name: control for task in TASKS.values() for control in task.controls}


def meanings() -> dict[str, str]:
    """What each control knows."""
    return dict(MEANINGS) | {name: control.meaning for name, control in controls_of_tasks().items()}


@dataclass(frozen=True)
class Verdict:
    """The judgement of a control.

    Attributes
    ----------
    at_null
        Whether the control is where its null puts it.
    margin
        What was allowed around the expected value.
    words
        ``at its null: yes ([0.120, 0.180], expected 0.143 ± 0.05)``.
    """

    at_null: AtNull
    margin: float
    words: str


def control_name(model: str, condition: str) -> str | None:
    """Name of the control in `meanings`, or none if the row is no control."""
    known = meanings()
    return next((name for name in (model, condition) if name in known), None)


def display_name(model: str, condition: str) -> str:
    """How a model under a condition is called in the report."""
    names = dict(DISPLAY_NAMES) | {name: control.title for name, control in controls_of_tasks().items()}
    name = names.get(model, model)
    if condition in (EEG, model) or control_name(model, EEG):
        return name
    return f"{name}, {names.get(condition, condition)}"


def judge(row: ResultRow | RepeatedRow) -> Verdict:
    """Test whether a control is equivalent to its expected value; a wide interval shows nothing.

    Raises
    ------
    ValueError
        If the row states no expected value.
    """
    if row.chance is None:
        raise ValueError(f"the control {row.model}, {row.condition} on {row.task} states no expected value")
    expected = f"expected {row.chance:.3f} ± {MARGIN}"
    at_null = equivalence(row.ci_low, row.ci_high, row.chance)
    interval = "no interval" if row.ci_low is None else f"[{row.ci_low:.3f}, {row.ci_high:.3f}]"
    return Verdict(at_null, MARGIN, f"at its null: {at_null} ({interval}, {expected})")
