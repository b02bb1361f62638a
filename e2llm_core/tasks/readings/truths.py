"""Reading truths: which of several claims about a segment hold."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import Dialogue, TextLengths
from e2llm_core.tasks.facts import SMALLEST_DIFFERENCE, SegmentFacts
from e2llm_core.tasks.readings.reading import Reading, listed

CLAIMS_ASKED = 3
HOLDS, FAILS = "true", "false"


class Truths(Reading):
    """Whether each of several claims holds, half of them on average."""

    name = "truths"
    wordings = (
        "{0}\nTrue or false? {listed}",
        "Which of these statements hold for {0}? {listed}",
    )
    text = TextLengths(question=300, answer=25)
    corpus_share = 0.2

    def told(
        self,
        facts: Sequence[SegmentFacts],
        labels: Sequence[str],
        rng: np.random.Generator,
        segments: Sequence[str] = (),
    ) -> Dialogue:
        """Claims about quantities that deviate enough to be claimed."""
        (fact,) = facts
        clear = np.flatnonzero(np.abs(fact.deviations) >= SMALLEST_DIFFERENCE)
        places = rng.permutation(clear if len(clear) else np.arange(len(fact.quantities)))[:CLAIMS_ASKED]
        holds = rng.random(len(places)) < 0.5
        above = (fact.deviations[places] > 0) == holds
        claims = [fact.claim(place, bool(up)) for place, up in zip(places, above, strict=True)]
        said = " ".join(claim.sentence(fact.words(rng)) for claim in claims)
        user = self.ask_anyhow(labels, rng, segments, listed=said)
        return Dialogue(self.name, user, listed([HOLDS if true else FAILS for true in holds]))
