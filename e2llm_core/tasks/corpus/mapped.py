"""Labels of another set: a segment points to one state, and the options are coarser ones, one of which holds it."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.circumplex import AFFECTS
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, TextLengths
from e2llm_core.tasks.ied import BasicEmotion
from e2llm_core.tasks.notes import drawn_segment_of

_SETS = (
    ("negative", "neutral", "positive"),
    ("negative", "positive"),
    ("unpleasant", "neutral", "pleasant"),
    ("unpleasant", "pleasant"),
)


class Mapped(CorpusForm):
    """The question for one of the labels, by valence instead; half of the dialogues have a chain of thought."""

    name = "mapped"
    wordings = BasicEmotion.wordings
    text = TextLengths(question=66, answer=127)
    corpus_share = 0.15

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The labels."""
        return tuple(labels)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """A segment in note form that points to a state of known valence, whatever the labels."""
        options = _SETS[int(rng.integers(len(_SETS)))]
        states = [state for state, affect in AFFECTS.items() if affect.tone is not None or len(options) > 2]
        state = str(rng.choice(states))
        answer = {-1: options[0], None: options[1], 1: options[-1]}[AFFECTS[state].tone]
        noted = drawn_segment_of(state, rng)
        user = self.ask_anyhow(rng.permutation(options).tolist(), rng, (noted.text,))
        thinking = f"{noted.rationale(rng)} {state} is {answer}."
        return Dialogue(self.name, user, answer, thinking if rng.random() < 0.5 else None)


MAPPED = Mapped()
