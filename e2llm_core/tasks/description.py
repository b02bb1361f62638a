"""Stage 2's dialogue: the signal in words, and the label."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.claims.claims import Claim
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, LabelledWindows, TextLengths, rationale
from e2llm_core.tasks.notes import drawn_segment, notes


class Description(CorpusForm):
    """A segment is described."""

    name = "describe"
    wordings = (
        "{0}\nDescribe this EEG segment.",
        "{0}\nWhat does this segment show?",
        "What can be seen in this EEG? {0}",
    )
    text = TextLengths(question=29, answer=153)
    corpus_share = 0.25

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """The strongest claims about the window, and its label."""
        (window,) = windows
        fact = source.facts(window)
        return self._told(fact.claims, fact.label, rng, words=fact.words(rng))

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The same of a segment in note form."""
        label, claims = drawn_segment(labels, rng)
        return self._told(claims, label, rng, (notes(claims, label),))

    def _told(
        self,
        claims: Sequence[Claim],
        label: str,
        rng: np.random.Generator,
        segments: Sequence[str] = (),
        words: np.random.Generator | None = None,
    ) -> Dialogue:
        return Dialogue(self.name, self.ask_anyhow((), rng, segments), rationale(claims, label, words))
