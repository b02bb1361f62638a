"""Which rows are controls, and what a control says in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from e2llm_core.evaluation.summary import ResultRow

TOLERANCE = 0.02
"""A control no further than this from its expected value is at its null, whatever its interval."""

HEADLINE_METRIC = "balanced_accuracy"

MEANINGS: Mapping[str, str] = {
    "random_eeg": "noise in place of the EEG; above its null the answer would not come from the EEG",
    "other_class": "EEG of another class; above its null the answer would not come from the EEG",
    "text_only": "the prompt without EEG; above its null the wording would give the answer away",
    "session_only": "knows the session, sees no EEG; what recognising the recording day alone would score",
    "session_position": "knows the session and the position of the trial in it, sees no EEG; a shortcut "
    "ceiling, not a chance level: where everybody saw the same order of clips it is right on every item",
}
"""What each control knows."""

DISPLAY_NAMES: Mapping[str, str] = {
    "e2llm": "E2-LLM",
    "de_svm": "DE + linear SVM",
    "oracle": "oracle",
    "probe": "stage-1 probe",
    "session_only": "session only",
    "session_position": "session + position",
    "random_eeg": "random EEG",
    "other_class": "EEG of another class",
    "text_only": "text only",
}


@dataclass(frozen=True)
class Verdict:
    """Whether a control is where its null puts it.

    Attributes
    ----------
    at_null
        Whether the expected value lies in the interval, or within `TOLERANCE` of the value.
    words
        ``at its null: yes (value 0.150, expected 0.143)``.
    """

    at_null: bool
    words: str


def control_name(model: str, condition: str) -> str | None:
    """Name of the control in `MEANINGS`, or none if the row is no control."""
    return next((name for name in (model, condition) if name in MEANINGS), None)


def display_name(model: str, condition: str) -> str:
    """How a model under a condition is called in the report."""
    name = DISPLAY_NAMES.get(model, model)
    if condition in ("eeg", model):
        return name
    if control_name(model, "eeg"):
        return name
    return f"{name}, {DISPLAY_NAMES.get(condition, condition)}"


def judge(row: ResultRow) -> Verdict:
    """Compare a control with its expected value.

    Raises
    ------
    ValueError
        If the row states no expected value.
    """
    if row.chance is None:
        raise ValueError(f"the control {row.model}, {row.condition} on {row.task} states no expected value")
    inside = row.ci_low is not None and row.ci_high is not None and row.ci_low <= row.chance <= row.ci_high
    at_null = inside or abs(row.value - row.chance) <= TOLERANCE
    return Verdict(
        at_null,
        f"at its null: {'yes' if at_null else 'no'} (value {row.value:.3f}, expected {row.chance:.3f})",
    )
