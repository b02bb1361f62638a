"""Reading levels: how several quantities of a segment compare with their reference."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import TextLengths
from e2llm_core.tasks.facts import SegmentFacts, level_of, words_of
from e2llm_core.tasks.readings.reading import Asked, Reading

QUANTITIES_ASKED = 8


class Levels(Reading):
    """The level of each of several quantities."""

    name = "levels"
    wordings = (
        "{0}\nHow do these compare with the average: {listed}?",
        "{0}\nSay far above, above, near, below or far below for each: {listed}.",
        "Levels of {listed} in this EEG? {0}",
    )
    text = TextLengths(question=238, answer=56)
    corpus_share = 0.35

    def asked(self, facts: Sequence[SegmentFacts], rng: np.random.Generator) -> list[Asked]:
        """Any quantities that are known of the segment."""
        (fact,) = facts
        places = rng.permutation(len(fact.quantities))[:QUANTITIES_ASKED]
        return [Asked(words_of(fact.quantities[place]), level_of(float(fact.deviations[place]))) for place in places]
