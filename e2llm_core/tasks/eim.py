"""Emotion individual matching: which of three segments of one person shows a described state."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.evaluation.references.controls import session_position_of
from e2llm_core.tasks.dialogue import Dialogue, TextLengths
from e2llm_core.tasks.items import Items
from e2llm_core.tasks.letters import LETTERS, letter_of, named
from e2llm_core.tasks.sets import SetTask
from storage.windows import Windows

_NUMBER = SetTask.num_segments
OPTIONS = LETTERS[:_NUMBER]


def matching(labels: Sequence[str], state: str) -> str:
    """The answer about segments of these labels: the first of the state, or the first of all where none is."""
    return OPTIONS[labels.index(state) if state in labels else 0]


class IndividualMatching(SetTask):
    """Three segments of one session, of different labels, one of which is asked for.

    The expansion of the paper's acronym is inferred. Half of the dialogues have a chain of thought.
    """

    name = "EIM"
    title = "emotion individual matching"
    primary_wording = "A: {0}\nB: {1}\nC: {2}\nGive the letter of the segment that expresses this state: {listed}."
    wordings = (
        "A: {0} B: {1} C: {2}\nWhere is the person in this state: {listed}?",
        "Three segments of a person: A {0}, B {1}, C {2}. Find the one of the state {listed}.",
        "{0} is A, {1} is B and {2} is C. Which fits the state {listed} best?",
        "State: {listed}.\nA: {0}\nB: {1}\nC: {2}\nName the segment that shows it.",
        "The state {listed} is in one of these: A {0}, B {1}, C {2}. In which one?",
        "Look for {listed}: A is {0}, B is {1}, C is {2}.",
    )
    text = TextLengths(question=56, answer=25)
    controls = (session_position_of(matching, OPTIONS),)
    parse = staticmethod(letter_of)

    def groups(self, labels: Sequence[str]) -> dict[str, int]:
        """Every label is one of its own."""
        return {label: place for place, label in enumerate(labels)}

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The letters of the segments, whatever the labels."""
        return OPTIONS

    def items(self, source: Windows, number: int, seed: int) -> Items:
        """A fixed list of sets, in which every letter is true as often as the number allows."""
        rng, sets = np.random.default_rng([seed, number]), self.sets(source)
        places = rng.permutation(np.arange(number) % _NUMBER)
        windows = np.stack([rng.permutation(sets.draw(rng)) for _ in range(number)])
        labels = source.describe(windows[np.arange(number), places])["label"].to_numpy()
        return Items.of(source, windows, np.array(OPTIONS, dtype=object)[places], listed=labels)

    def told(self, labels: Sequence[str], rng: np.random.Generator, segments: Sequence[str] = ()) -> Dialogue:
        """Which segment has the label of one of them; a chain of thought names the labels first."""
        state = labels[int(rng.integers(_NUMBER))]
        user, answer = self.ask_anyhow((), rng, segments, listed=state), matching(labels, state)
        thinking = f"{named(labels)}: {state} is {answer}."
        return Dialogue(self.name, user, answer, thinking if rng.random() < 0.5 else None)

    def composed(self, probabilities: np.ndarray, labels: Sequence[str], listed: Sequence[str]) -> np.ndarray:
        """Probability of each segment, given that one of them is of the state."""
        state = np.array([labels.index(label) for label in listed], dtype=int)
        single = probabilities[np.arange(len(state))[:, None], np.arange(_NUMBER), state[:, None]]
        odds = np.clip(single, 1e-12, 1) / np.clip(1 - single, 1e-12, 1)
        chances: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
        return chances
