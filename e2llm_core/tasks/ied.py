"""Basic emotion prediction: which of the labels a window expresses."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.evaluation.references.controls import NEAREST_TRIAL, SESSION_ONLY, SESSION_POSITION
from e2llm_core.evaluation.references.fitted_controls import DECODED, PERMUTED_LABELS
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, LabelledWindows, TextLengths, rationale
from e2llm_core.tasks.items import Items, every_window
from e2llm_core.tasks.notes import drawn_segment
from e2llm_core.tasks.task import Task, TrainedTask
from storage.windows import Windows


def named_option(answer: str, options: Sequence[str]) -> str | None:
    """The option that an answer names, whatever its case and a last full stop."""
    said = answer.strip().removesuffix(".").casefold()
    return next((option for option in options if option.casefold() == said), None)


class LabelQuestion(Task, CorpusForm):
    """A question for the label of a window, asked about every window of a side."""

    controls = (SESSION_ONLY, SESSION_POSITION, NEAREST_TRIAL)

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The labels."""
        return tuple(labels)

    def items(self, source: Windows, number: int, seed: int) -> Items:
        """Every window, however many are asked for."""
        return every_window(source)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The label of a segment in note form; half of the dialogues have a chain of thought."""
        noted = drawn_segment(labels, rng)
        thinking = noted.rationale(rng)
        user = self.ask_anyhow(labels, rng, (noted.text,))
        return Dialogue(self.name, user, noted.label, thinking if rng.random() < 0.5 else None)

    def composed(self, probabilities: np.ndarray, labels: Sequence[str], listed: Sequence[str]) -> np.ndarray:
        """The segment's label."""
        return probabilities[:, 0]


class BasicEmotion(LabelQuestion, TrainedTask):
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
    fitted_controls = (PERMUTED_LABELS, *DECODED)

    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """The window's label, after the strongest claims about it or at once."""
        (window,) = windows
        fact = source.facts(window)
        user, thinks = self.ask_anyhow(source.labels, rng), rng.random() < 0.5
        if not thinks:
            return Dialogue(self.name, user, fact.label)
        thinking = rationale(fact.claims, fact.label, fact.words(rng), fact.affect)
        return Dialogue(self.name, user, fact.label, thinking, fact.claims)


class OpenEmotion(LabelQuestion):
    """The same without naming the labels: an answer counts if it is one of them, whatever its case and last stop.

    Its chance level is that of drawing a label; a model that says other words lies below it. Only the text corpus asks
    it, of segments in note form; no question of this form is trained with EEG.
    """

    name = "IED-open"
    title = "basic emotion prediction, labels not named"
    primary_wording = "{0}\nSay in one word how this person is."
    wordings = (
        "{0}\nWhat does this person feel?",
        "How does the person of {0} feel?",
        "Name a word for the state that this EEG shows. {0}",
        "{0}\nWhich emotion is this?",
        "Tell me the state of this person: {0}",
    )
    text = TextLengths(question=31, answer=121)
    corpus_share = 0.1
    parse = staticmethod(named_option)
