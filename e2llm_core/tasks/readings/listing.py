"""Reading the list: what stands out in a segment, in keywords."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.claims.claims import Claim
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, EEGForm, LabelledWindows, TextLengths
from e2llm_core.tasks.notes import drawn_segment, listed


class Listing(EEGForm, CorpusForm):
    """The strongest deviations of a segment, the largest first, each in a few words."""

    name = "list"
    wordings = (
        "{0}\nList what stands out.",
        "{0}\nWhat deviates most, in keywords?",
        "Keywords for this EEG: {0}",
        "What stands out in {0}? Be brief.",
    )
    text = TextLengths(question=27, answer=126)
    corpus_share = 0.3

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """What deviates most in the window."""
        (window,) = windows
        return self._told(source.facts(window).outstanding, rng)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The same of a segment in note form."""
        noted = drawn_segment(labels, rng)
        return self._told(noted.claims, rng, (noted.text,))

    def _told(self, claims: Sequence[Claim], rng: np.random.Generator, segments: Sequence[str] = ()) -> Dialogue:
        return Dialogue(
            self.name, self.ask_anyhow((), rng, segments), f"{listed(claims) or 'nothing'}.", claims=tuple(claims)
        )
