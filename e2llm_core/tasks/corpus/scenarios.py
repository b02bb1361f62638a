"""Everyday scenarios and the states that people are in, as the text corpus of the shipped stand-in has them.

`e2llm_core.tasks.corpus.states` asks about more of them, and keeps families apart.
"""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, TextLengths
from storage.labels import SEED_VII

_SCENARIOS: dict[str, tuple[str, ...]] = {
    "happy": (
        "is told that the job is hers", "meets an old friend at the station", "wins a prize at the fair",
        "watches her child take a first step", "opens a letter with good news", "dances at a wedding",
    ),
    "sad": (
        "says goodbye at a funeral", "finds the seat beside him empty", "reads the last letter of a friend",
        "has lost an old dog", "moves away from home alone", "looks at pictures of someone who has died",
    ),
    "fear": (
        "hears steps in the dark house", "stands at the edge of a cliff", "sees a snake on the path",
        "waits for the result of a test", "is followed in an empty street", "feels the ground begin to shake",
    ),
    "anger": (
        "is cheated by a salesman", "finds a long scratch on the new car", "is blamed for what another did",
        "sees a bully hit a child", "is lied to by a partner", "has waited in vain for three hours",
    ),
    "disgust": (
        "finds a hair in the soup", "opens a bin full of rotten meat", "steps into something on the pavement",
        "smells sour milk in the cup", "sees mould on the bread", "has to clean a blocked drain",
    ),
    "surprise": (
        "comes home to a party that nobody spoke of", "finds a note in an old coat", "sees a friend thought abroad",
        "hears the magician name the card", "gets a call from a school friend after years", "sees snow in June",
    ),
    "neutral": (
        "waits for the bus as every day", "copies a list of numbers", "walks down the corridor",
        "reads the manual of a printer", "sorts the post", "looks at a blank wall",
    ),
}  # fmt: skip


class Scenarios(CorpusForm):
    """A person in a scenario; no segment is shown."""

    name = "scenarios"
    num_segments = 0
    wordings = (
        "A person {listed}. Which state fits best: {options}?",
        "Someone {listed}. Name the state: {options}.",
        "Options: {options}. What does a person feel who {listed}?",
    )
    text = TextLengths(question=113, answer=6)
    corpus_share = 0.1

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The states that scenarios are known of, whatever the labels."""
        return SEED_VII.names

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """A scenario, and the state that most people would be in."""
        state = str(rng.choice(SEED_VII.names))
        scenario = str(rng.choice(_SCENARIOS[state]))
        return Dialogue(self.name, self.ask_anyhow(labels, rng, listed=scenario), state)
