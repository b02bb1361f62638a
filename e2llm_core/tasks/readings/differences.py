"""Reading differences: in which of two segments each of several quantities is higher."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import Dialogue, Sampler, TextLengths
from e2llm_core.tasks.facts import SMALLEST_DIFFERENCE, SegmentFacts, words_of
from e2llm_core.tasks.readings.reading import Reading, listed
from storage.windows import Windows

QUANTITIES_ASKED = 4


class Differences(Reading):
    """Several quantities of two segments."""

    name = "differences"
    num_segments = 2
    wordings = (
        "First: {0}\nSecond: {1}\nIn which segment is each higher: {listed}?",
        "Compare {0} with {1}. First or second higher: {listed}?",
    )
    text = TextLengths(question=250, answer=45)
    corpus_share = 0.2

    def sampler(self, source: Windows) -> Sampler:
        """A window, and any other of its subject's session."""
        counts = np.diff(source.ends, prepend=0)
        session = source.trials.groupby(["subject", "session"]).ngroup().to_numpy()
        rows = {code: np.flatnonzero(session == code) for code in np.unique(session).tolist()}
        ends = {code: np.cumsum(counts[members]) for code, members in rows.items()}

        def drawn(window: int, rng: np.random.Generator) -> tuple[int, ...]:
            code = session[source.locate([window])[0][0]]
            place = int(rng.integers(ends[code][-1]))
            part = int(np.searchsorted(ends[code], place, side="right"))
            row = rows[code][part]
            return window, int(source.ends[row] - ends[code][part] + place)

        return drawn

    def told(
        self,
        facts: Sequence[SegmentFacts],
        labels: Sequence[str],
        rng: np.random.Generator,
        segments: Sequence[str] = (),
    ) -> Dialogue:
        """Quantities that are known of both segments."""
        first, second = (dict(zip(fact.quantities, fact.deviations.tolist(), strict=True)) for fact in facts)
        both = [q for q in first if q in second and abs(first[q] - second[q]) >= SMALLEST_DIFFERENCE]
        asked = [both[place] for place in rng.permutation(len(both))[:QUANTITIES_ASKED]]
        answers = ["first" if first[quantity] >= second[quantity] else "second" for quantity in asked]
        user = self.ask_anyhow(labels, rng, segments, listed="; ".join(map(words_of, asked)))
        return Dialogue(self.name, user, listed(answers))
