"""Multiple choice: which of some labels after letters a window expresses, asked in every cyclic order."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from e2llm_core.evaluation.metrics import CLOSED_SET, BlockMetric
from e2llm_core.tasks.circumplex import affects_of
from e2llm_core.tasks.corpus.choice import CHOICE
from e2llm_core.tasks.items import EEG, RANDOM_EEG, TEXT_ALONE, Items
from e2llm_core.tasks.letters import LETTERS, letter_of, lettered, unlettered
from e2llm_core.tasks.odds import normalised
from e2llm_core.tasks.task import Task
from e2llm_core.tasks.trials import TrialKey, TrialWindows
from storage.errors import InputError
from storage.windows import Windows

Offer = Callable[[Sequence[str], int, np.random.Generator], list[str]]
"""Draws some of the labels, in any order. Any of them may be the true one: what is offered does not tell which."""


def uniform(labels: Sequence[str], size: int, rng: np.random.Generator) -> list[str]:
    """Any labels."""
    return [str(label) for label in rng.permutation(labels)[:size]]


def nearest(labels: Sequence[str], size: int, rng: np.random.Generator) -> list[str]:
    """Any label, and those that are nearest to it on the circumplex."""
    affects = dict(zip(labels, affects_of(labels, "task MC"), strict=True))
    at = affects[labels[int(rng.integers(len(labels)))]]
    away = {label: np.hypot(one.valence - at.valence, one.arousal - at.arousal) for label, one in affects.items()}
    return uniform(sorted(labels, key=lambda label: (away[label], label))[:size], size, rng)


def one_option(truth: Sequence[str], answers: Sequence[str | None]) -> float:
    """Whether the answers to all cyclic orders of an item name one option, which is as far from the true one in all."""
    if not set(answers) <= set(truth):
        return 0.0
    places = [[LETTERS.index(str(letter)) for letter in letters] for letters in (truth, answers)]
    return float(len({(given - true) % len(truth) for true, given in zip(*places, strict=True)}) == 1)


def _share_of(letter: str, answers: Sequence[str | None]) -> float:
    return sum(given == letter for given in answers) / len(answers)


CONSISTENCY = (
    BlockMetric("order_consistency", (0.0, 1.0), one_option, lambda size: float(size) ** (1 - size)),
    BlockMetric("first_letter", (0.0, 1.0), lambda true, given: _share_of(min(true), given), lambda size: 1 / size),
    BlockMetric("last_letter", (0.0, 1.0), lambda true, given: _share_of(max(true), given), lambda size: 1 / size),
)
"""Share of windows whose answers to all orders name one option; shares of answers that are the first, last letter."""


class MultipleChoice(Task):
    """A window, and labels after letters; each item is asked in all cyclic orders of its options.

    An answer counts by the letter that it begins with; one that begins with none is wrong. Only the text corpus asks
    it, of segments in note form; no question of this form is trained with EEG.

    Parameters
    ----------
    name : str
        Name of the task.
    size : int or None
        Options of an item; None for all labels.
    offer : callable
        Which labels are offered together.
    words : str
        How the report says it.
    of_session : bool
        Whether they are labels of one session, of which the window is.
    """

    primary_wording = "{0}\n{listed}\nPick the letter before the word for this person's state."
    wordings = CHOICE.wordings
    text = CHOICE.text
    metrics = (*CLOSED_SET, *CONSISTENCY)
    conditions = (EEG, RANDOM_EEG, TEXT_ALONE)
    parse = staticmethod(letter_of)

    def __init__(self, name: str, size: int | None, offer: Offer, words: str, of_session: bool = False) -> None:
        self.name, self._size, self._offer, self._of_session = name, size, offer, of_session
        self.title = f"multiple choice of {size or 'all'} labels{words}"

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """A letter for each label that is offered."""
        return LETTERS[: self._offered(labels)]

    def _offered(self, labels: Sequence[str]) -> int:
        return len(labels) if self._size is None else self._size

    def check_labels(self, labels: Sequence[str], field: str) -> None:
        """Refuse fewer labels than are offered or more than there are letters, and labels that cannot be compared."""
        offered = self._offered(labels)
        if not offered <= min(len(labels), len(LETTERS)):
            raise InputError(
                f"{field}: {self.name}",
                f"{len(labels)} labels, but it offers {offered}, at most {len(LETTERS)}",
                f"Leave {self.name} out of `tasks` for this data set.",
            )
        if self._offer is nearest:
            affects_of(labels, f"{field}: {self.name}")

    def items(self, source: Windows, number: int, seed: int) -> Items:
        """A fixed list of windows, each in every cyclic order of its options.

        The options are drawn first, then which of them is true, uniformly, so that they do not tell. The window is
        drawn as session, trial of the true label and window of the trial, each uniformly.

        Raises
        ------
        InputError
            As `check_labels`; when no session has enough labels.
        """
        labels = source.store.label_set.names
        self.check_labels(labels, "task")
        size, rng, sessions = self._offered(labels), np.random.default_rng([seed, number]), _Sessions(source)
        windows, listed, truth = [], [], []
        for _ in range(max(number // size, 1)):
            session = sessions.any_with(size, self.name, rng) if self._of_session else None
            label = None
            while label is None:
                offered = self._offer(labels if session is None else sorted(session), size, rng)
                label = sessions.any_of(offered, rng)
            window = sessions.draw(label, session, rng)
            for order in range(size):
                turned = [*offered[order:], *offered[:order]]
                windows.append(window)
                listed.append(lettered(turned))
                truth.append(LETTERS[turned.index(label)])
        return Items.of(source, np.array(windows)[:, None], truth, listed=listed)

    def composed(self, probabilities: np.ndarray, labels: Sequence[str], listed: Sequence[str]) -> np.ndarray:
        """Probability of each label that is offered, given that it is one of them."""
        places = [[labels.index(text) for text in unlettered(text)] for text in listed]
        chosen = np.array(places, dtype=int).reshape(len(listed), self._offered(labels))
        return normalised(np.take_along_axis(probabilities[:, 0], chosen, axis=1))


_TrialsOf = Mapping[str, Sequence[TrialKey]]
"""Trials of a session by their label."""


class _Sessions:
    """Windows by session and label."""

    def __init__(self, source: Windows) -> None:
        self._trials = TrialWindows.of(source)
        self._sessions = self._trials.by_session(str)
        self._present = {label for session in self._sessions for label in session}

    def any_with(self, number: int, task: str, rng: np.random.Generator) -> _TrialsOf:
        """Any session that has trials of so many labels."""
        able = [session for session in self._sessions if len(session) >= number]
        if not able:
            problem = f"no session has trials of {number} labels"
            raise InputError(f"task {task}", problem, f"Leave {task} out of `tasks` for this data set.")
        return able[int(rng.integers(len(able)))]

    def any_of(self, labels: Sequence[str], rng: np.random.Generator) -> str | None:
        """Any of some labels that has trials; None if none has."""
        known = [label for label in labels if label in self._present]
        return known[int(rng.integers(len(known)))] if known else None

    def draw(self, label: str, session: _TrialsOf | None, rng: np.random.Generator) -> int:
        """Any window of a label, in this session or in any."""
        if session is None:
            able = [one for one in self._sessions if label in one]
            session = able[int(rng.integers(len(able)))]
        return self._trials.draw(session[label][int(rng.integers(len(session[label])))], rng)


MULTIPLE_CHOICE = (
    MultipleChoice("MC-2-uniform", 2, uniform, ", drawn uniformly"),
    MultipleChoice("MC-2-session", 2, uniform, " of one session", of_session=True),
    MultipleChoice("MC-2-nearest", 2, nearest, ", near in meaning"),
    MultipleChoice("MC-4-uniform", 4, uniform, ", drawn uniformly"),
    MultipleChoice("MC-4-session", 4, uniform, " of one session", of_session=True),
    MultipleChoice("MC-4-nearest", 4, nearest, ", near in meaning"),
    MultipleChoice("MC-all", None, uniform, ""),
)
"""All numbers of options with all ways of choosing them."""
