"""Emotion pair comparison: whether two windows express the same state."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from e2llm_core.evaluation.references.controls import session_position_of
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, LabelledWindows, Sampler, TextLengths
from e2llm_core.tasks.items import Items
from e2llm_core.tasks.notes import drawn_pair, drawn_segment_of
from e2llm_core.tasks.pairs import DIFFERENT, OPTIONS, SAME, pairs_of
from e2llm_core.tasks.task import TrainedTask
from storage.windows import Windows

if TYPE_CHECKING:
    import pandas as pd

    from e2llm_core.evaluation.references.inputs import ReferenceInputs


_NOTED_OF_A_PAIR = 3


def compared(labels: Sequence[str], listed: str = "") -> str:
    """The answer about two segments of these labels."""
    return SAME if labels[0] == labels[1] else DIFFERENT


class PairComparison(TrainedTask, CorpusForm):
    """Pairs of windows of one session, half of them of one label; three in four dialogues have a chain of thought."""

    name = "EPC"
    title = "emotion pair comparison"
    num_segments = 2
    primary_wording = "First: {0}\nSecond: {1}\nDo the two segments express the same or different states?"
    wordings = (
        "Compare {0} with {1}. Same or different?",
        "A: {0}\nB: {1}\nIs the state of the person the same in both of them, or different?",
        "Here are two segments, {0} and {1}. Say whether their states are the same or different.",
        "Same or different: what {0} expresses and what {1} expresses?",
        "One: {0}\nTwo: {1}\nAnswer same if the person is in one state, else different.",
        "Look at {0}, then at {1}. Are the person's states different, or the same?",
        "First: {0}\nThen: {1}\nThe same state, or a different one?",
    )
    text = TextLengths(question=61, answer=40)
    corpus_share = 0.45
    controls = (session_position_of(compared, OPTIONS),)

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Same or different, whatever the labels."""
        return OPTIONS

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
        """The same of two segments in note form."""
        first, second = drawn_pair(labels, rng)
        texts = [drawn_segment_of(label, rng, _NOTED_OF_A_PAIR).text for label in (first, second)]
        return self.told(first, second, rng, texts)

    def told(self, first: str, second: str, rng: np.random.Generator, segments: Sequence[str] = ()) -> Dialogue:
        """A dialogue about two segments of these labels; a chain of thought names both, then compares them."""
        user = self.ask_anyhow((), rng, segments)
        answer = compared((first, second))
        decision = "are alike" if answer == SAME else "differ"
        thinking = f"First {first}, second {second}: the two {decision}."
        return Dialogue(self.name, user, answer, thinking if rng.random() < 0.75 else None)

    def composed(self, probabilities: np.ndarray, labels: Sequence[str], listed: Sequence[str]) -> np.ndarray:
        """Whether both segments have one label, given that half of the pairs do, of labels that are equally likely."""
        same, by_chance = (probabilities[:, 0] * probabilities[:, 1]).sum(axis=1), 1 / len(labels)
        weights = np.stack([same * (1 - by_chance), (1 - same) * by_chance], axis=1)
        chances: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
        return chances

    def references(self, inputs: "ReferenceInputs", items: Items) -> "dict[str, Callable[[], pd.DataFrame]]":
        """The same as for other tasks, but that a baseline compares by the better of two rules (`Fitted.compare`)."""
        return super().references(inputs, items) | inputs.compared(self.name, items, self.items)
