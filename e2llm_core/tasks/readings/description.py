"""Stage 2's dialogue: the signal in words, and the label."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, EEGForm, LabelledWindows, TextLengths, rationale
from e2llm_core.tasks.notes import drawn_segment


class Description(EEGForm, CorpusForm):
    """A segment is described."""

    name = "describe"
    wordings = (
        "{0}\nDescribe this EEG segment.",
        "{0}\nWhat does this segment show?",
        "What can be seen in this EEG? {0}",
        "{0}\nSay what stands out here.",
        "Look at this EEG and describe it. {0}",
        "Here is a segment: {0}\nWhat is it like?",
    )
    text = TextLengths(question=30, answer=209)
    corpus_share = 0.25

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """The strongest claims about the window, and its label."""
        (window,) = windows
        fact = source.facts(window)
        user = self.ask_anyhow((), rng)
        answer = rationale(fact.claims, fact.label, fact.words(rng), fact.affect)
        return Dialogue(self.name, user, answer, claims=fact.claims)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The same of a segment in note form."""
        noted = drawn_segment(labels, rng)
        user = self.ask_anyhow((), rng, (noted.text,))
        return Dialogue(self.name, user, noted.rationale(rng))
