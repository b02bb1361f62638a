"""Reading truths: which of several claims about a segment hold."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import TextLengths
from e2llm_core.tasks.facts import SMALLEST_DIFFERENCE, SegmentFacts
from e2llm_core.tasks.readings.reading import Asked, Reading, clear_or_any

CLAIMS_ASKED = 3
HOLDS, FAILS = "true", "false"


class Truths(Reading):
    """Whether each of several claims holds, half of them on average."""

    name = "truths"
    wordings = (
        "{0}\nTrue or false? {listed}",
        "Which of these statements hold for {0}? {listed}",
    )
    text = TextLengths(question=234, answer=19)
    corpus_share = 0.2
    separator = " "

    def asked(self, facts: Sequence[SegmentFacts], rng: np.random.Generator) -> list[Asked]:
        """Claims about quantities that deviate enough to be claimed; where none does, one that does not hold."""
        (fact,) = facts
        clear = np.abs(fact.deviations) >= SMALLEST_DIFFERENCE
        found = []
        for place in clear_or_any(clear, CLAIMS_ASKED, rng):
            above = bool(rng.random() < 0.5)
            holds = clear[place] and (fact.deviations[place] > 0) == above
            sentence = fact.claim(place, above).sentence(fact.words(rng))
            found.append(Asked(sentence, HOLDS if holds else FAILS))
        return found
