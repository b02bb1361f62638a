"""Controls that need fitting: a baseline on permuted labels, and probes for what else a tower's features carry.

Light to import: the packages that a control computes with are imported when it runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from e2llm_core.tasks.items import Items

if TYPE_CHECKING:
    import pandas as pd

    from e2llm_core.evaluation.references.inputs import ReferenceInputs

PERMUTED_BASELINE = "de_svm"
"""The baseline that is fitted to permuted labels."""


@dataclass(frozen=True)
class FittedControl(ABC):
    """A control that sees EEG and is fitted to something other than the labels.

    Attributes
    ----------
    name : str
        Name in the results.
    title : str
        Name in the report.
    meaning : str
        What it is and what its score would mean, for the report.
    judged : bool
        Whether the report judges if it is at its expected value; a finding is not judged.
    metrics : tuple of str or None
        Names of the metrics that score its answers; None: every metric of the task.
    """

    name: str
    title: str
    meaning: str
    judged: bool = True
    metrics: tuple[str, ...] | None = None

    @abstractmethod
    def answers(self, inputs: ReferenceInputs, task: str, items: Items) -> dict[str, Callable[[], pd.DataFrame]]:
        """Functions that make the control's predictions, by the name under which these are saved."""

    @abstractmethod
    def expected(self, rows: pd.DataFrame) -> dict[str, float]:
        """Expected scores of these predictions under their null, by metric."""


@dataclass(frozen=True)
class PermutedLabels(FittedControl):
    """A baseline fitted to labels that are permuted among the trials of each subject and session."""

    def answers(self, inputs: ReferenceInputs, task: str, items: Items) -> dict[str, Callable[[], pd.DataFrame]]:
        """Function that labels the test items; raises InputError if windows of this size cannot be fitted."""
        from e2llm_core.evaluation.references.permuted import permuted_predictions

        inputs.check((PERMUTED_BASELINE,))
        return {self.name: partial(permuted_predictions, inputs.windows, task, self.name, items)}

    def expected(self, rows: pd.DataFrame) -> dict[str, float]:
        """Mean scores of the answers when the true labels are permuted within each subject and session."""
        from e2llm_core.evaluation.references.permuted import expected_within_sessions

        return expected_within_sessions(rows)


@dataclass(frozen=True)
class Decoded(FittedControl):
    """A linear probe of a frozen tower's features for something other than the label.

    Its answers are scored by shares of right ones alone. When the subject is decoded, all windows of a subject are of
    one class, and agreement beyond chance and F1 say nothing about them.

    Attributes
    ----------
    what : str
        What is decoded: ``subject``, ``session`` or ``position``.
    """

    judged: bool = False
    metrics: tuple[str, ...] | None = ("balanced_accuracy", "accuracy")
    what: str = "subject"

    def answers(self, inputs: ReferenceInputs, task: str, items: Items) -> dict[str, Callable[[], pd.DataFrame]]:
        """Functions that decode `what` from each tower's features, by cross-validation among training windows."""
        if not inputs.tells_apart(self.what):
            return {}
        return {f"{self.name}-{tower}": partial(self._decode, inputs, task, tower) for tower in inputs.towers}

    def _decode(self, inputs: ReferenceInputs, task: str, tower: str) -> pd.DataFrame:
        from e2llm_core.evaluation.references.decoding import decoded_predictions

        numbers, features = inputs.tower_features(tower)
        return decoded_predictions(
            inputs.data,
            numbers,
            features,
            self.what,
            task=task,
            model=tower,
            condition=self.name,
            seed=inputs.seed,
        )

    def expected(self, rows: pd.DataFrame) -> dict[str, float]:
        """Chance levels, which follow from the number of classes."""
        from e2llm_core.evaluation.scores import chance_levels

        return chance_levels(rows["truth"], list(rows["labels"].iloc[0]))


PERMUTED_LABELS = PermutedLabels(
    name="permuted_labels",
    title="labels permuted",
    meaning="DE + linear SVM, fitted to labels that were permuted within each subject and session; above its null, "
    "something other than the labels is learned",
)
DECODED = tuple(
    Decoded(
        name=f"decoded_{what}",
        title=f"{what} from features",
        meaning=f"a linear probe of the frozen tower's features for the {words}, among training windows; above its "
        "null, the features carry it",
        what=what,
    )
    for what, words in (
        ("subject", "subject, on trials that it was not fitted to"),
        ("session", "session, on subjects that it was not fitted to"),
        ("position", "quarter of the session that the trial lies in, on subjects that it was not fitted to"),
    )
)
