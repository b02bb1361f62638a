"""Reading contrasts: which of two quantities of a segment lies further above its reference."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import Dialogue, TextLengths
from e2llm_core.tasks.facts import SMALLEST_DIFFERENCE, SegmentFacts, words_of
from e2llm_core.tasks.readings.reading import Reading, listed

PAIRS_ASKED = 3


class Contrasts(Reading):
    """Several pairs of quantities; the higher one of each is named by its place."""

    name = "contrasts"
    wordings = (
        "{0}\nWhich is higher, the first or the second? {listed}",
        "First or second higher in {0}: {listed}",
    )
    text = TextLengths(question=300, answer=30)
    corpus_share = 0.2

    def told(
        self,
        facts: Sequence[SegmentFacts],
        labels: Sequence[str],
        rng: np.random.Generator,
        segments: Sequence[str] = (),
    ) -> Dialogue:
        """Pairs of quantities that are known of the segment."""
        (fact,) = facts
        first, second = np.triu_indices(len(fact.quantities), 1)
        clear = np.abs(fact.deviations[first] - fact.deviations[second]) >= SMALLEST_DIFFERENCE
        pairs = rng.permutation(np.stack([first[clear], second[clear]], axis=1))[:PAIRS_ASKED]
        pairs = rng.permuted(pairs, axis=1)
        shown = "; ".join(f"{words_of(fact.quantities[a])} or {words_of(fact.quantities[b])}" for a, b in pairs)
        answers = ["first" if fact.deviations[a] >= fact.deviations[b] else "second" for a, b in pairs]
        return Dialogue(self.name, self.ask_anyhow(labels, rng, segments, listed=shown), listed(answers))
