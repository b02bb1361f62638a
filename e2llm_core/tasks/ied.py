"""Basic emotion prediction: which of the labels a window expresses."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.evaluation.references.controls import NEAREST_TRIAL, SESSION_ONLY, SESSION_POSITION
from e2llm_core.evaluation.references.fitted_controls import DECODED, PERMUTED_LABELS
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, LabelledWindows, TextLengths, rationale
from e2llm_core.tasks.items import Items, every_window
from e2llm_core.tasks.notes import drawn_segment
from e2llm_core.tasks.task import Task
from storage.windows import Windows


class BasicEmotion(Task, CorpusForm):
    """Every window of a side, asked for its label; half of the training dialogues have a chain of thought."""

    name = "IED"
    title = "basic emotion prediction"
    primary_wording = "{0}\nWhich of these does the segment express: {options}?"
    wordings = (
        "{0}\nName the state of the person: {options}.",
        "Options: {options}. Which one fits this EEG? {0}",
        "What does this person express? {0} Answer with one of {options}.",
        "{0}\nPick a label for this segment out of {options}.",
        "Read the EEG and decide among {options}. {0}",
        "Here is some EEG: {0}\nChoose what fits it best from {options}.",
        "{0} The person is in one of these states: {options}. In which one?",
        "Of {options}, which does this recording point to? {0}",
    )
    text = TextLengths(question=93, answer=117)
    corpus_share = 0.3
    speaks_of_claims = True
    controls = (SESSION_ONLY, SESSION_POSITION, NEAREST_TRIAL)
    fitted_controls = (PERMUTED_LABELS, *DECODED)

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The labels."""
        return tuple(labels)

    def items(self, source: Windows, number: int, seed: int) -> Items:
        """Every window, however many are asked for."""
        return every_window(source)

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """The window's label, after the strongest claims about it or at once."""
        (window,) = windows
        fact = source.facts(window)
        user, thinks = self.ask_anyhow(source.labels, rng), rng.random() < 0.5
        if not thinks:
            return Dialogue(self.name, user, fact.label)
        thinking = rationale(fact.claims, fact.label, fact.words(rng), fact.affect)
        return Dialogue(self.name, user, fact.label, thinking, fact.claims)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The same of a segment in note form."""
        noted = drawn_segment(labels, rng)
        thinking = noted.rationale(rng)
        user = self.ask_anyhow(labels, rng, (noted.text,))
        return Dialogue(self.name, user, noted.label, thinking if rng.random() < 0.5 else None)

    def composed(self, probabilities: np.ndarray, labels: Sequence[str], listed: Sequence[str]) -> np.ndarray:
        """The segment's label."""
        return probabilities[:, 0]
