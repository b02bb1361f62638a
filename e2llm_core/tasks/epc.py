"""Emotion pair comparison: whether two windows express the same state."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from e2llm_core.evaluation.references.controls import SESSION_POSITION_OF_PAIRS
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, LabelledWindows, Sampler, TextLengths
from e2llm_core.tasks.items import Items
from e2llm_core.tasks.notes import drawn_pair, drawn_segment, notes
from e2llm_core.tasks.pairs import DIFFERENT, SAME, pairs_of
from e2llm_core.tasks.task import Task
from storage.windows import Windows

if TYPE_CHECKING:
    import pandas as pd

    from e2llm_core.evaluation.references.inputs import ReferenceInputs


class PairComparison(Task, CorpusForm):
    """Pairs of windows of one session, half of them of one label; three in four dialogues have a chain of thought."""

    name = "EPC"
    title = "emotion pair comparison"
    num_segments = 2
    wordings = (
        "First: {0}\nSecond: {1}\nDo the two segments express the same or different states?",
        "Compare {0} with {1}. Same or different?",
    )
    text = TextLengths(question=54, answer=34)
    corpus_share = 0.45
    controls = (SESSION_POSITION_OF_PAIRS,)

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Same or different, whatever the labels."""
        return SAME, DIFFERENT

    def items(self, source: Windows, number: int, seed: int) -> Items:
        """A balanced, fixed list of pairs; see `e2llm_core.tasks.pairs.PairSampler`."""
        pairs = pairs_of(source, self.name).balanced(number, seed)
        truth = np.where(pairs["same"], SAME, DIFFERENT)
        return Items.of(source, pairs[["first", "second"]].to_numpy(), truth)

    def sampler(self, source: Windows) -> Sampler:
        """Pairs, whichever window's turn it is."""
        pairs = pairs_of(source, self.name)
        return lambda window, rng: pairs.draw(rng)[:2]

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """Whether the two labels are one."""
        first, second = windows
        return self.told(source.label(first), source.label(second), rng)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The same of two segments in note form, with one claim each."""
        _, first = drawn_segment(labels, rng)
        _, second = drawn_segment(labels, rng)
        label_a, label_b = drawn_pair(labels, rng)
        return self.told(label_a, label_b, rng, (notes(first[:1], label_a), notes(second[:1], label_b)))

    def told(self, first: str, second: str, rng: np.random.Generator, segments: Sequence[str] = ()) -> Dialogue:
        """A dialogue about two segments of these labels."""
        user = self.ask_anyhow((), rng, segments)
        both = f"There is {first} in both."
        thinking = both if first == second else f"There is {first} in the first, {second} in the second."
        answer = SAME if first == second else DIFFERENT
        return Dialogue(self.name, user, answer, thinking if rng.random() < 0.75 else None)

    def references(self, inputs: "ReferenceInputs", items: Items) -> "dict[str, Callable[[], pd.DataFrame]]":
        """The baselines."""
        return inputs.compared(self.name, items, self.items)
