"""What a task is: items, question, options, training dialogue, parser, metrics, controls and references in one place.

A new task is a subclass in a file of its own and an entry in `e2llm_core.tasks.registry`. Light to import: what a
reference computes with is imported when an evaluation asks for it.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from e2llm_core.evaluation.metrics import CLOSED_SET, Metric
from e2llm_core.evaluation.references.controls import Control
from e2llm_core.evaluation.references.fitted_controls import FittedControl
from e2llm_core.tasks.corpus.states import States
from e2llm_core.tasks.dialogue import SEGMENT, DialogueForm, EEGForm
from e2llm_core.tasks.items import EEG, RANDOM_EEG, TEXT_ALONE, Condition, Items
from e2llm_core.tasks.question import LISTED, PRIMARY, SEEN, Prompt, Question, exact_option
from storage.windows import Windows

if TYPE_CHECKING:
    import pandas as pd

    from e2llm_core.evaluation.references.inputs import ReferenceInputs


NOT_SHOWN = "(not shown)"
"""Stands in a question for a segment that is kept back."""


class Task(DialogueForm):
    """A closed question about segments that is evaluated; one that is trained, too, is a `TrainedTask`.

    Attributes
    ----------
    title : str
        Name of the task in the report.
    primary_wording : str or None
        Template of the question in a wording that is in no training text. None: no wording is held out.
    speaks_of_claims : bool
        Whether its chain of thought makes claims about the one segment that it shows: claim accuracy is measured.
    metrics : tuple of Metric
        What is reported; the first is the headline, by which controls are judged.
    conditions : tuple of str
        What the model is shown: the EEG, and what stands in its place as a control.
    text_map : States or None
        Question without EEG from one of an item's lettered options to a label. Where there is one, evaluation also
        answers by looking up: the model's own label of the segment, in the model's own labels of the options.
    controls : tuple of Control
        Predictors that see no EEG.
    fitted_controls : tuple of FittedControl
        Predictors that see EEG and are fitted to something other than the labels.
    """

    title: str
    primary_wording: ClassVar[str | None] = None
    speaks_of_claims: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = CLOSED_SET
    conditions: ClassVar[tuple[Condition, ...]] = (EEG, RANDOM_EEG)
    text_map: ClassVar[States | None] = None
    controls: ClassVar[tuple[Control, ...]] = ()
    fitted_controls: ClassVar[tuple[FittedControl, ...]] = ()
    parse = staticmethod(exact_option)

    @abstractmethod
    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The answers to choose from, for a data set of these labels."""

    def check_labels(self, labels: Sequence[str], field: str) -> None:
        """Refuse labels that the task cannot be asked of; `field` is the setting that names the task.

        Raises
        ------
        InputError
            Naming the labels.
        """

    @abstractmethod
    def items(self, source: Windows, number: int, seed: int) -> Items:
        """Items of one side of a split; a task that draws them draws `number`, balanced, the same for a seed."""

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Wordings that evaluation asks in: the one whose answers count, then what is asked beside it."""
        return (SEEN,) if self.primary_wording is None else (PRIMARY, SEEN)

    @property
    def prompt(self) -> Prompt:
        """The wording whose answers count: primary where the task has such a wording, else the first trained one."""
        return self.prompts[0]

    def question(self, labels: Sequence[str], prompt: Prompt | None = None, condition: Condition = EEG) -> Question:
        """What a trained model is asked, in the wording that counts unless another one is named.

        Under `TEXT_ALONE` it shows no segment, and says so.

        Raises
        ------
        ValueError
            If the primary wording is named and the task has none.
        """
        options, num_segments = self.options(labels), 0 if condition == TEXT_ALONE else self.num_segments
        segments = (SEGMENT if num_segments else NOT_SHOWN,) * self.num_segments
        if (prompt or self.prompt) == SEEN:
            user = self.ask(labels, segments, listed=LISTED)
        elif self.primary_wording is None:
            raise ValueError(f"{self.name} has no primary wording")
        else:
            user = self.primary_wording.format(*segments, options=", ".join(options), listed=LISTED)
        return Question(user, options, num_segments, self.parse, self.name)

    def composed(self, probabilities: np.ndarray, labels: Sequence[str], listed: Sequence[str]) -> np.ndarray | None:
        """What label probabilities of single segments imply for the answer, if the segments are independent.

        At the odds at which `items` draws. Also called with no items, to learn whether anything follows.

        Parameters
        ----------
        probabilities : np.ndarray
            (items, segments, labels).
        labels : sequence of str
            Class names, in the order of the last axis.
        listed : sequence of str
            Each item's own part of the question; empty if all are asked the same.

        Returns
        -------
        np.ndarray or None
            Probabilities (items, options), each row summing to 1; None where nothing follows.
        """
        return None

    def references(self, inputs: "ReferenceInputs", items: Items) -> "dict[str, Callable[[], pd.DataFrame]]":
        """Predictions of what else answers these items, by name; each is made when it is called.

        By default the answers `composed` from whatever labels single windows: baselines, the models' own label heads
        and, on the twin, its oracle.

        Raises
        ------
        InputError
            Where a split does not allow one of them; before anything is computed.
        """
        from e2llm_core.evaluation.references.composed import composed_references

        return composed_references(inputs, self, items)


class TrainedTask(Task, EEGForm):
    """A task that stage 3 trains, on dialogues of its form about EEG."""
