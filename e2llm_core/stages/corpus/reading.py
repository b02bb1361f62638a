"""Dialogues of a corpus, as a stage trains on them."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.stages.corpus.names import WindowNames
from e2llm_core.stages.samples import Sample
from e2llm_core.tasks.dialogue import Dialogue
from storage.corpus import Corpus
from storage.sampling.order import Order, WrittenOrder
from storage.windows import Windows

OTHER = "other"
"""Task of the rows that others wrote."""


class WrittenDialogues:
    """The samples of a corpus.

    Parameters
    ----------
    corpus : Corpus
        Where they are written.
    windows : Windows
        Windows of the training side.
    tasks : sequence of str
        Tasks that the stage numbers.
    """

    def __init__(self, corpus: Corpus, windows: Windows, tasks: Sequence[str]) -> None:
        self._corpus, self._names = corpus, WindowNames(windows)
        self.tasks = (*tasks, OTHER) if corpus.manifest.num_others else tuple(tasks)
        self._number = {name: number for number, name in enumerate(self.tasks)}

    @property
    def size(self) -> int:
        """Samples per epoch: rows."""
        return self._corpus.manifest.num_rows

    def order(self, seed: int) -> Order:
        """The first epoch as it is written."""
        return WrittenOrder(self.size, seed)

    def samples(self, numbers: np.ndarray) -> list[Sample]:
        """Samples of some rows, in their order."""
        found = []
        for number, row in zip(numbers.tolist(), self._corpus.rows(numbers), strict=True):
            task = row["task"]
            windows = self._names.numbers(row["windows"], f"{self._corpus.place}: row {number}")
            dialogue = Dialogue(task, row["user"], row["answer"], row["thinking"])
            found.append(Sample(dialogue, windows, self._number[task]))
        return found
