"""Reading levels: how several quantities of a segment compare with their reference."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import Dialogue, TextLengths
from e2llm_core.tasks.facts import SegmentFacts, words_of
from e2llm_core.tasks.readings.reading import Reading, listed

QUANTITIES_ASKED = 8


class Levels(Reading):
    """The level of each of several quantities, in the order of the question."""

    name = "levels"
    wordings = (
        "{0}\nHow do these compare with the average: {listed}?",
        "{0}\nSay far above, above, near, below or far below for each: {listed}.",
        "Levels of {listed} in this EEG? {0}",
    )
    text = TextLengths(question=270, answer=70)
    corpus_share = 0.35

    def told(
        self,
        facts: Sequence[SegmentFacts],
        labels: Sequence[str],
        rng: np.random.Generator,
        segments: Sequence[str] = (),
    ) -> Dialogue:
        """A question about quantities that are known of the segment."""
        (fact,) = facts
        places = rng.permutation(len(fact.quantities))[:QUANTITIES_ASKED]
        asked = [fact.quantities[place] for place in places]
        levels = fact.levels()
        user = self.ask_anyhow(labels, rng, segments, listed="; ".join(map(words_of, asked)))
        return Dialogue(self.name, user, listed([levels[quantity] for quantity in asked]))
