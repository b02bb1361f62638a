"""What the forms of stage 2 share: lists of small questions about a segment, whose answers its EEG alone decides."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, LabelledWindows
from e2llm_core.tasks.facts import SMALLEST_DIFFERENCE, SegmentFacts, drawn_facts, in_notes

FIRST, SECOND, NEITHER = "first", "second", "neither"
"""Answers to which of two is higher."""


class Asked(NamedTuple):
    """A small question in words, and its answer."""

    question: str
    answer: str


class Reading(CorpusForm):
    """A list of questions about one or two segments, answered by a list: one answer for each, in their order.

    Attributes
    ----------
    separator : str
        What stands between two questions.
    """

    separator: ClassVar[str] = "; "

    @abstractmethod
    def asked(self, facts: Sequence[SegmentFacts], rng: np.random.Generator) -> list[Asked]:
        """Questions about segments of which these facts are true, at least one, and their answers."""

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """A training dialogue about what was measured in these windows."""
        return self.told([source.facts(window) for window in windows], rng)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The same about segments in note form, of which the same quantities are known."""
        first = drawn_facts(labels, rng)
        facts = [first, *(drawn_facts(labels, rng, like=first) for _ in range(self.num_segments - 1))]
        return self.told(facts, rng, [in_notes(fact) for fact in facts])

    def told(self, facts: Sequence[SegmentFacts], rng: np.random.Generator, segments: Sequence[str] = ()) -> Dialogue:
        """A dialogue about segments of which these facts are true; texts may replace the segments."""
        questions, answers = zip(*self.asked(facts, rng), strict=True)
        user = self.ask_anyhow((), rng, segments, listed=self.separator.join(questions))
        return Dialogue(self.name, user, "; ".join(answers) + ".")


def higher(first: float, second: float) -> str:
    """Which of two deviations is higher: neither, where they differ by less than `SMALLEST_DIFFERENCE`."""
    if abs(first - second) < SMALLEST_DIFFERENCE:
        return NEITHER
    return FIRST if first > second else SECOND


def clear_or_any(clear: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Draw up to `number` places that are clear, in random order; one of all places where none is.

    Parameters
    ----------
    clear : np.ndarray
        bool (places,).
    number : int
        Largest number of places.
    rng : np.random.Generator
        Where the draws come from.
    """
    drawn: np.ndarray = rng.permutation(np.flatnonzero(clear))[:number]
    return drawn if len(drawn) else rng.integers(len(clear), size=1)
