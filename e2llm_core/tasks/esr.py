"""Zero-shot scenario reasoning: which of four everyday scenarios would put a person into the state of a segment."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from e2llm_core.tasks.corpus.states import STATES
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue, TextLengths, conclusion
from e2llm_core.tasks.items import EEG, RANDOM_EEG, TEXT_ALONE, Items
from e2llm_core.tasks.letters import LETTERS, letter_of, lettered, named, unlettered
from e2llm_core.tasks.notes import drawn_segment_of
from e2llm_core.tasks.odds import normalised
from e2llm_core.tasks.scenarios.scenario import Scenario, held_out, taught, taught_families
from e2llm_core.tasks.task import Task
from e2llm_core.tasks.trials import TrialWindows
from storage.errors import InputError
from storage.windows import Windows

_NUMBER = 4
OPTIONS = LETTERS[:_NUMBER]


class ScenarioReasoning(Task, CorpusForm):
    """A segment and four scenarios of different states, one of them the segment's.

    The expansion of the paper's acronym is inferred. It is zero-shot: no question of this form is trained with EEG.
    The text corpus asks it of segments in note form, about other scenarios of the same families; the scenarios that are
    tested are in no corpus. The four states and the true one among them are drawn uniformly, so that text alone tells
    nothing.
    """

    name = "ESR"
    title = "zero-shot scenario reasoning"
    primary_wording = (
        "{0}\n{listed}\nOne of these has just happened to the person of this segment. Give the letter of the likeliest."
    )
    wordings = (
        "{0}\n{listed}\nWhich scenario fits the state of this segment?",
        "Scenarios:\n{listed}\nWhich of them suits {0}?",
        "A person shows {0}. What did the person go through?\n{listed}",
        "{listed}\nFind what leads to the state of {0}.",
        "Here is a segment: {0}\nMatch it with one of:\n{listed}",
        "{0}\nChoose the scenario that would bring somebody into this state.\n{listed}",
    )
    text = TextLengths(question=178, answer=64)
    corpus_share = 0.45
    conditions = (EEG, RANDOM_EEG, TEXT_ALONE)
    text_map = STATES
    parse = staticmethod(letter_of)

    @cached_property
    def scenarios(self) -> tuple[Scenario, ...]:
        """What evaluation asks about: tested scenarios of the families that the text corpus teaches."""
        families = taught_families()
        return tuple(one for one in held_out() if (one.state, one.family) in families)

    @cached_property
    def _state_of(self) -> dict[str, str]:
        return {one.text: one.state for one in self.scenarios}

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The letters of the scenarios, whatever the labels."""
        return OPTIONS

    def check_labels(self, labels: Sequence[str], field: str) -> None:
        """Refuse fewer than four labels of which scenarios are known."""
        known = sorted(set(labels) & {one.state for one in self.scenarios})
        if len(known) < _NUMBER:
            raise InputError(
                f"{field}: {self.name}",
                f"scenarios are known of {len(known)} of the labels {', '.join(labels)}, and it needs {_NUMBER}",
                f"Leave {self.name} out of `tasks` for this data set.",
            )

    def items(self, source: Windows, number: int, seed: int) -> Items:
        """A fixed list, in which every letter and every state is true as often as the number allows.

        Windows are drawn as subject, trial of the state and window of the trial, each uniformly; the other states of an
        item, and the scenario of each state, are drawn uniformly, too.
        """
        trials, rng = TrialWindows.of(source), np.random.default_rng([seed, number])
        present = sorted(set(trials.table["label"]) & set(self._state_of.values()))
        self.check_labels(present, "task")
        places = rng.permutation(np.arange(number) % _NUMBER)
        truths = rng.permutation(np.arange(number) % len(present))
        windows, listed = [], []
        for place, truth in zip(places, truths, strict=True):
            others = rng.permutation(np.delete(np.arange(len(present)), truth))[: _NUMBER - 1]
            states = [present[state] for state in np.insert(others, place, truth)]
            windows.append(self._drawn(trials, states[place], rng))
            listed.append(lettered(_texts(self.scenarios, states, rng)))
        truth_letters = np.array(OPTIONS, dtype=object)[places]
        return Items.of(source, np.array(windows)[:, None], truth_letters, listed=listed)

    def in_words(self, labels: Sequence[str], rng: np.random.Generator) -> Dialogue:
        """The question about a segment in note form, and scenarios that text may teach; three in four dialogues think.

        A chain of thought says what the segment points to, then the state of each scenario.
        """
        known = sorted({one.state for one in taught()})
        states = [str(state) for state in rng.choice(known, _NUMBER, replace=False)]
        place = int(rng.integers(_NUMBER))
        noted = drawn_segment_of(states[place], rng)
        user = self.ask_anyhow((), rng, (noted.text,), lettered(_texts(taught(), states, rng)))
        thinking = f"{conclusion(noted.label)} {named(states)}: {noted.label} is {OPTIONS[place]}."
        return Dialogue(self.name, user, OPTIONS[place], thinking if rng.random() < 0.75 else None)

    def composed(self, probabilities: np.ndarray, labels: Sequence[str], listed: Sequence[str]) -> np.ndarray:
        """Probability of each scenario's state, given that it is one of the four: as if every scenario were known."""
        states = [[labels.index(self._state_of[text]) for text in unlettered(text)] for text in listed]
        places = np.array(states, dtype=int).reshape(len(listed), _NUMBER)
        return normalised(np.take_along_axis(probabilities[:, 0], places, axis=1))

    @staticmethod
    def _drawn(trials: TrialWindows, state: str, rng: np.random.Generator) -> int:
        """Any window of the state."""
        rows = trials.table[trials.table["label"] == state]
        subject = rng.choice(sorted(rows["subject"].unique()))
        rows = rows[rows["subject"] == subject]
        row = rows.iloc[int(rng.integers(len(rows)))]
        return trials.draw((row["subject"], row["session"], row["trial"]), rng)


class UntaughtFamilies(ScenarioReasoning):
    """The same about families of scenarios that no text of this project teaches.

    What a language model answers comes from its own pretraining; the stand-in's holds nothing of them.
    """

    name = "ESR-untaught"
    title = "zero-shot scenario reasoning, families that no text teaches"
    corpus_share = 0.0

    @cached_property
    def scenarios(self) -> tuple[Scenario, ...]:
        """Tested scenarios of the other families."""
        families = taught_families()
        return tuple(one for one in held_out() if (one.state, one.family) not in families)


def _texts(scenarios: Sequence[Scenario], states: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Any scenario of each state."""
    of_state = [[one.text for one in scenarios if one.state == state] for state in states]
    return [texts[int(rng.integers(len(texts)))] for texts in of_state]
