"""Reading contrasts: which of two quantities of a segment lies further above its reference."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import TextLengths
from e2llm_core.tasks.facts import SMALLEST_DIFFERENCE, SegmentFacts, words_of
from e2llm_core.tasks.readings.reading import Asked, Reading, clear_or_any, higher

PAIRS_ASKED = 3


class Contrasts(Reading):
    """Several pairs of quantities; the higher one of each is named by its place."""

    name = "contrasts"
    wordings = (
        "{0}\nWhich is higher, the first or the second? {listed}",
        "First or second higher in {0}: {listed}",
    )
    text = TextLengths(question=188, answer=22)
    corpus_share = 0.2

    def asked(self, facts: Sequence[SegmentFacts], rng: np.random.Generator) -> list[Asked]:
        """Pairs that differ clearly; where none does, one that does not."""
        (fact,) = facts
        values, names = fact.deviations, [words_of(quantity) for quantity in fact.quantities]
        pairs = np.stack(np.triu_indices(len(values), 1), axis=1)
        clear = np.abs(values[pairs[:, 0]] - values[pairs[:, 1]]) >= SMALLEST_DIFFERENCE
        drawn = rng.permuted(pairs[clear_or_any(clear, PAIRS_ASKED, rng)], axis=1)
        return [Asked(f"{names[a]} or {names[b]}", higher(values[a], values[b])) for a, b in drawn]
