"""Controls that something is fitted for: a baseline on permuted labels, and what a tower's features tell besides.

Light to import: what they compute with is imported when they are asked for.
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
    """A control that sees EEG and is fitted to something else than the labels.

    Attributes
    ----------
    name : str
        As results name it.
    title : str
        As the report writes it.
    meaning : str
        What it is and what its score would mean, for the report.
    judged : bool
        Whether the report says if it is at its expected value; a finding is not judged.
    metrics : tuple of str or None
        What its answers are scored by; None: by every metric of the task.
    """

    name: str
    title: str
    meaning: str
    judged: bool = True
    metrics: tuple[str, ...] | None = None

    @abstractmethod
    def answers(self, inputs: ReferenceInputs, task: str, items: Items) -> dict[str, Callable[[], pd.DataFrame]]:
        """Predictions by the name under which they are kept; each is made when it is called."""

    @abstractmethod
    def expected(self, rows: pd.DataFrame) -> dict[str, float]:
        """Scores, by metric, that these predictions have under their null."""


@dataclass(frozen=True)
class PermutedLabels(FittedControl):
    """A baseline that is fitted to labels which were permuted among the trials of each subject and session."""

    def answers(self, inputs: ReferenceInputs, task: str, items: Items) -> dict[str, Callable[[], pd.DataFrame]]:
        """The test items' labels; raises InputError where the baseline cannot be fitted to windows of this size."""
        from e2llm_core.evaluation.references.permuted import permuted_predictions

        inputs.check((PERMUTED_BASELINE,))
        return {self.name: partial(permuted_predictions, inputs.windows, task, self.name, items)}

    def expected(self, rows: pd.DataFrame) -> dict[str, float]:
        """What the answers would score on average if the true labels changed places within subject and session."""
        from e2llm_core.evaluation.references.permuted import expected_within_sessions

        return expected_within_sessions(rows)


@dataclass(frozen=True)
class Decoded(FittedControl):
    """A linear probe of a frozen tower's features for something that is no label.

    Its answers are scored by shares of right ones alone. Where the subject is asked for, all of a subject's windows are
    of one class, and agreement beyond chance and F1 say nothing of them.

    Attributes
    ----------
    what : str
        ``subject``, ``session`` or ``position``.
    """

    judged: bool = False
    metrics: tuple[str, ...] | None = ("balanced_accuracy", "accuracy")
    what: str = "subject"

    def answers(self, inputs: ReferenceInputs, task: str, items: Items) -> dict[str, Callable[[], pd.DataFrame]]:
        """What training windows tell, by cross-validation among them, for each tower."""
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
        """One in so many classes."""
        from e2llm_core.evaluation.scores import chance_levels

        return chance_levels(rows["truth"], list(rows["labels"].iloc[0]))


PERMUTED_LABELS = PermutedLabels(
    name="permuted_labels",
    title="labels permuted",
    meaning="DE + linear SVM, fitted to labels that were permuted within each subject and session; above its null, "
    "something else than the labels is learned",
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
