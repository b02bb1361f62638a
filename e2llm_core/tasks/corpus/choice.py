"""Multiple choice: labels after letters, of which the answer names the letter."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, TextLengths, conclusion
from e2llm_core.tasks.letters import LETTERS, lettered, named
from e2llm_core.tasks.notes import drawn_segment


class Choice(CorpusForm):
    """Some of the labels, in any order, each on a line after its letter; three in four dialogues think."""

    name = "choice"
    wordings = (
        "{0}\nWhich option fits this segment?\n{listed}",
        "{listed}\nName the letter that suits {0}.",
        "Segment: {0}\n{listed}\nOne of these is its state. Which letter?",
        "Choose a letter for {0} out of:\n{listed}",
        "Look at this EEG. {0}\n{listed}\nAnswer with the letter of its state.",
    )
    text = TextLengths(question=82, answer=70)
    corpus_share = 0.2

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """A segment in note form, its label among two or more."""
        number = int(rng.integers(2, min(len(labels), len(LETTERS)), endpoint=True))
        noted = drawn_segment(labels, rng)
        others = rng.permutation([label for label in labels if label != noted.label])[: number - 1].tolist()
        place = int(rng.integers(number))
        offered = [*others[:place], noted.label, *others[place:]]
        user = self.ask_anyhow((), rng, (noted.text,), lettered(offered))
        thinking = f"{conclusion(noted.label)} {named(offered)}: {noted.label} is {LETTERS[place]}."
        return Dialogue(self.name, user, LETTERS[place], thinking if rng.random() < 0.75 else None)


CHOICE = Choice()
