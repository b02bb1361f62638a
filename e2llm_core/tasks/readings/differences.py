"""Reading differences: in which of two segments each of several quantities is higher."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import Sampler, TextLengths
from e2llm_core.tasks.facts import SMALLEST_DIFFERENCE, SegmentFacts, words_of
from e2llm_core.tasks.readings.reading import Asked, Reading, clear_or_any, higher
from storage.windows import Windows

QUANTITIES_ASKED = 4


class Differences(Reading):
    """Several quantities of two segments, of which the same ones are known."""

    name = "differences"
    num_segments = 2
    wordings = (
        "First: {0}\nSecond: {1}\nIn which segment is each higher: {listed}?",
        "Compare {0} with {1}. First or second higher: {listed}?",
    )
    text = TextLengths(question=143, answer=29)
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

    def asked(self, facts: Sequence[SegmentFacts], rng: np.random.Generator) -> list[Asked]:
        """Quantities that differ clearly between the segments; where none does, one that does not."""
        first, second = (fact.deviations for fact in facts)
        names = [words_of(quantity) for quantity in facts[0].quantities]
        places = clear_or_any(np.abs(first - second) >= SMALLEST_DIFFERENCE, QUANTITIES_ASKED, rng)
        return [Asked(names[place], higher(first[place], second[place])) for place in places]
