"""States that people are in, in scenarios of families that text may teach: what a language model knows from reading."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.corpus.scenarios import Scenarios
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, TextLengths
from e2llm_core.tasks.question import LISTED, Question
from e2llm_core.tasks.scenarios.scenario import taught


class States(CorpusForm):
    """The state of a person in a scenario, out of some in any order; no segment is shown."""

    name = "states"
    num_segments = 0
    wordings = Scenarios.wordings
    text = TextLengths(question=113, answer=6)
    corpus_share = 0.15

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The labels."""
        return tuple(labels)

    def question(self, labels: Sequence[str]) -> Question:
        """The question about any scenario, in the first of its wordings."""
        return Question(self.ask(labels, listed=LISTED), self.options(labels), num_segments=0)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """A scenario that text may teach, and the state that most people would be in, out of all that it teaches."""
        scenario = taught()[int(rng.integers(len(taught())))]
        states = rng.permutation(sorted({one.state for one in taught()})).tolist()
        return Dialogue(self.name, self.ask_anyhow(states, rng, listed=scenario.text), scenario.state)


STATES = States()
