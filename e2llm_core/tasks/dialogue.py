"""A dialogue about segments, and what every form of one has: wordings, and what a training sample of it says.

`<eeg>` stands for one segment. A task may also have a wording that no training dialogue has: `e2llm_core.tasks.task`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from e2llm_core.claims.claims import Claim
from e2llm_core.tasks.circumplex import Affect
from e2llm_core.tasks.facts import SegmentFacts
from storage.windows import Windows

SEGMENT = "<eeg>"


@dataclass(frozen=True)
class Dialogue:
    """A question about segments and its answer.

    Attributes
    ----------
    task, user, answer : str
        Form of the dialogue, question and answer.
    thinking : str or None
        Chain of thought; None: the answer comes at once.
    claims : tuple of Claim
        What chain of thought and answer claim of the signal, in the order of the text.
    """

    task: str
    user: str
    answer: str
    thinking: str | None = None
    claims: tuple[Claim, ...] = ()

    def messages(self) -> list[dict[str, str]]:
        """The prompt in chat form."""
        return [{"role": "user", "content": self.user}]


@dataclass(frozen=True)
class TextLengths:
    """Mean characters of a form's texts, for the planner.

    Attributes
    ----------
    question : int
        A question without its segments.
    answer : int
        An answer with its chain of thought.
    """

    question: int
    answer: int


Sampler = Callable[[int, np.random.Generator], tuple[int, ...]]
"""Draws the windows of a training dialogue; given the window whose turn it is."""


class LabelledWindows(Protocol):
    """Windows of one side of a split, as dialogues speak of them."""

    labels: tuple[str, ...]
    """Class names of the data set."""

    def label(self, window: int) -> str:
        """Label of a window."""

    def facts(self, window: int) -> SegmentFacts:
        """What was measured in a window, with its label and its claims."""


class DialogueForm(ABC):
    """A form of dialogue: how it asks, and the answers to choose from.

    Attributes
    ----------
    name : str
        As dialogues, metrics and results name it.
    num_segments : int
        Segments of a dialogue.
    wordings : tuple of str
        Templates of the question in training, with ``{0}``, ``{1}``, ... for the segments, ``{options}`` and, where
        several things are asked about, ``{listed}``. Evaluation uses the first.
    text : TextLengths
        Mean lengths of its texts.
    """

    name: str
    num_segments: ClassVar[int] = 1
    wordings: ClassVar[tuple[str, ...]]
    text: ClassVar[TextLengths]

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The answers to choose from, for a data set of these labels; none where the answer is free text."""
        return ()

    def ask(self, labels: Sequence[str], segments: Sequence[str] = (), wording: int = 0, listed: str = "") -> str:
        """The question; texts may replace the segments."""
        shown = segments or (SEGMENT,) * self.num_segments
        return self.wordings[wording].format(*shown, options=", ".join(self.options(labels)), listed=listed)

    def ask_anyhow(
        self, labels: Sequence[str], rng: np.random.Generator, segments: Sequence[str] = (), listed: str = ""
    ) -> str:
        """The question in any of its wordings."""
        return self.ask(labels, segments, int(rng.integers(len(self.wordings))), listed)


class EEGForm(DialogueForm):
    """A form that stage 2 or 3 trains: about segments of EEG."""

    @abstractmethod
    def dialogue(self, source: LabelledWindows, windows: Sequence[int], rng: np.random.Generator) -> Dialogue:
        """A training dialogue about these windows, `num_segments` of them."""

    def sampler(self, source: Windows) -> Sampler:
        """How training dialogues are drawn from one side of a split: about each window in turn.

        Raises
        ------
        InputError
            Where the data do not allow the form.
        """
        return lambda window, rng: (window,)


class CorpusForm(DialogueForm):
    """A form that the text corpus holds, with words in the segments' places.

    Attributes
    ----------
    corpus_share : float
        Share of this form in the corpus, relative to the other forms.
    """

    corpus_share: ClassVar[float]

    @abstractmethod
    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """A dialogue of the corpus, of labels and claims that are drawn at random."""


def rationale(
    claims: Sequence[Claim], label: str, words: np.random.Generator | None = None, affect: Affect | None = None
) -> str:
    """Chain of thought about one segment: signal claims, then what they point to.

    Parameters
    ----------
    claims : sequence of Claim
        What is claimed, in order.
    label : str
        What the claims point to.
    words : np.random.Generator, optional
        Draws the claims' words; None says each in its canonical form.
    affect : Affect, optional
        Where the state lies on the circumplex, said before everything else.
    """
    opening = () if affect is None else (f"The state is {affect.words}.",)
    return " ".join([*opening, *(claim.sentence(words) for claim in claims), conclusion(label)])


def conclusion(label: str) -> str:
    """The last sentence of a rationale about one segment."""
    return f"This points to {label}."
