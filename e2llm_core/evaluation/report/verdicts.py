"""Which rows are controls, and the verdict on a control in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from e2llm_core.evaluation.config import LOOKUP
from e2llm_core.evaluation.equivalence import MARGIN, equivalence, judged_over
from e2llm_core.evaluation.equivalence import Equivalent as AtNull
from e2llm_core.evaluation.references.baselines.table import BASELINES
from e2llm_core.evaluation.references.controls import Control
from e2llm_core.evaluation.references.fitted_controls import FittedControl
from e2llm_core.evaluation.repeated import RepeatedRow
from e2llm_core.evaluation.summary import ResultRow
from e2llm_core.tasks.items import EEG, RANDOM_EEG, TEXT_ALONE
from e2llm_core.tasks.question import Prompt
from e2llm_core.tasks.registry import TASKS

MEANINGS: Mapping[str, str] = {
    RANDOM_EEG: "noise in place of the EEG; above its null, answers do not come from the EEG",
    TEXT_ALONE: "the text of the question, no EEG; above its null, the options give the answer away",
}
"""What each condition that is a control shows the model, and what its score would mean."""

DISPLAY_NAMES: Mapping[str, str] = {
    "e2llm": "E2-LLM",
    "oracle": "oracle",
    "probe": "stage-1 probe",
    "tower": "tower",
    LOOKUP: "looked up: own label of the segment, own labels of the options",
    RANDOM_EEG: "random EEG",
    TEXT_ALONE: "text alone",
}


def controls_of_tasks() -> dict[str, Control | FittedControl]:
    """The controls of all tasks by name."""
    found: dict[str, Control | FittedControl] = {}
    for task in TASKS.values():
        found |= {control.name: control for control in task.controls}
        found |= {control.name: control for control in task.fitted_controls}
    return found


def is_judged(name: str) -> bool:
    """Whether a control is compared with its expected value; some are findings."""
    control = controls_of_tasks().get(name)
    return not isinstance(control, FittedControl) or control.judged


def meanings() -> dict[str, str]:
    """What each control is and what its score would mean, by name."""
    return dict(MEANINGS) | {name: control.meaning for name, control in controls_of_tasks().items()}


@dataclass(frozen=True)
class Verdict:
    """The judgement of a control.

    Attributes
    ----------
    at_null
        Whether the control is at its null, that is, within the margin of its expected value.
    margin
        Distance from the expected value that was allowed.
    words
        The verdict in words, such as ``at its null: yes ([0.120, 0.180], expected 0.143 ± 0.05)``.
    """

    at_null: AtNull
    margin: float
    words: str


def control_name(model: str, condition: str) -> str | None:
    """Name of the control in `meanings`, or None if the row is not a control."""
    known = meanings()
    return next((name for name in (model, condition) if name in known), None)


def display_name(model: str, condition: str) -> str:
    """Name in the report of a model under a condition."""
    names = dict(DISPLAY_NAMES) | {name: entry.title for name, entry in BASELINES.items()}
    names |= {name: control.title for name, control in controls_of_tasks().items()}
    name = names.get(model, model)
    if condition in (EEG, model) or control_name(model, EEG):
        return name
    return f"{name}, {names.get(condition, condition)}"


def worded(name: str, task: str, prompt: Prompt | None) -> str:
    """A name, with the wording of the question where that is not the one whose answers count."""
    return name if prompt in (None, TASKS[task].prompt) else f"{name}, {prompt} wording"


def judge(row: ResultRow | RepeatedRow) -> Verdict:
    """Test whether a control is equivalent to its expected value; a wide interval is inconclusive.

    The interval is over subjects; for a single run whose split tests known subjects on new clips, it is over clips.

    Raises
    ------
    ValueError
        If the row states no expected value.
    """
    if row.chance is None:
        raise ValueError(f"the control {row.model}, {row.condition} on {row.task} states no expected value")
    expected = f"expected {row.chance:.3f} ± {MARGIN}"
    low, high, over = row.ci_low, row.ci_high, ""
    if isinstance(row, ResultRow) and judged_over(row.disjoint_on) == "clips":
        low, high, over = row.clip_ci_low, row.clip_ci_high, " over clips"
    at_null = equivalence(low, high, row.chance)
    interval = "no interval" if low is None else f"[{low:.3f}, {high:.3f}]{over}"
    return Verdict(at_null, MARGIN, f"at its null: {at_null} ({interval}, {expected})")
