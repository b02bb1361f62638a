"""What the forms of stage 2 share: lists of small questions about a segment, whose answers its EEG alone decides."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, LabelledWindows
from e2llm_core.tasks.facts import SegmentFacts, drawn_facts, in_notes


class Reading(CorpusForm):
    """A list of questions about one or two segments, answered by a list: one answer for each, in their order."""

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """A training dialogue about what was measured in these windows."""
        return self.told([source.facts(window) for window in windows], source.labels, rng)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The same about segments in note form, of which the same quantities are known."""
        first = drawn_facts(labels, rng)
        facts = [first, *(drawn_facts(labels, rng, like=first) for _ in range(self.num_segments - 1))]
        return self.told(facts, labels, rng, [in_notes(fact) for fact in facts])

    @abstractmethod
    def told(
        self,
        facts: Sequence[SegmentFacts],
        labels: Sequence[str],
        rng: np.random.Generator,
        segments: Sequence[str] = (),
    ) -> Dialogue:
        """A dialogue about segments of which these facts are true; texts may replace the segments."""


def listed(answers: Sequence[str]) -> str:
    """Several answers as one text."""
    return "; ".join(answers) + "."
