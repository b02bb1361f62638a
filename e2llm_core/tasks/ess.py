"""Emotion sequence sorting: the order of three segments from the most unpleasant state to the most pleasant."""

from collections.abc import Sequence
from functools import cache
from itertools import combinations, permutations

import numpy as np

from e2llm_core.evaluation.metrics import CLOSED_SET, PointsMetric
from e2llm_core.evaluation.references.controls import session_position_of
from e2llm_core.tasks.circumplex import affects_of
from e2llm_core.tasks.dialogue import Dialogue, TextLengths
from e2llm_core.tasks.items import Items
from e2llm_core.tasks.letters import LETTERS, named, order_of
from e2llm_core.tasks.sets import SetTask
from storage.errors import InputError
from storage.labels import SEED_VII
from storage.windows import Windows

_NUMBER = SetTask.num_segments
_PLACES = tuple(permutations(range(_NUMBER)))
ORDERS = tuple(", ".join(LETTERS[place] for place in places) for places in _PLACES)
"""The answers: letters of the segments, the most unpleasant first."""

_APART = 0.2
"""Least difference in valence of two states that are sorted; the norms differ by less between studies."""


def levels_of(labels: Sequence[str], field: str = "task ESS") -> dict[str, int]:
    """Level of each label's valence: labels that differ by less than `_APART` from the next are on one level.

    Raises
    ------
    InputError
        When a label has no known valence.
    """
    valence = {label: affect.valence for label, affect in zip(labels, affects_of(labels, field), strict=True)}
    level, levels, last = 0, {}, None
    for label in sorted(valence, key=lambda label: (valence[label], label)):
        level += last is not None and valence[label] - last >= _APART
        levels[label], last = level, valence[label]
    return levels


def ordered(labels: Sequence[str], listed: str = "") -> str:
    """The answer about segments of these labels; of equal valence, the first comes first."""
    affects = affects_of(labels, "task ESS")
    return ", ".join(LETTERS[place] for place in sorted(range(len(labels)), key=lambda place: affects[place].valence))


@cache
def tau(truth: str, answer: str | None) -> float:
    """Kendall's tau between two orders, from -1 to 1; an answer that is none counts as -1."""
    from scipy.stats import kendalltau

    if answer is None:
        return -1.0
    ranks = [[order.index(letter) for letter in LETTERS[:_NUMBER]] for order in (truth, answer)]
    return float(kendalltau(*ranks).statistic)


TAU = PointsMetric("kendall_tau", (-1.0, 1.0), tau, expected=0.0)


class SequenceSorting(SetTask):
    """Three segments of one session, of different levels of valence, in any order.

    The expansion of the paper's acronym is inferred. What is sorted by is the valence that norms give to the *labels*
    (`e2llm_core.tasks.circumplex`), not a rating of the person. Half of the dialogues have a chain of thought.
    """

    name = "ESS"
    title = "emotion sequence sorting, by valence of the labels"
    primary_wording = "A: {0}\nB: {1}\nC: {2}\nSort the three from the least pleasant state to the most pleasant one."
    wordings = (
        "A: {0} B: {1} C: {2}\nWhich order goes from unpleasant to pleasant?",
        "Three segments: A {0}, B {1}, C {2}. Order their states, unpleasant ones first.",
        "{0} is A, {1} is B and {2} is C. Name them from negative to positive.",
        "Put A {0}, B {1} and C {2} in order, from the worst feeling to the best.",
        "A: {0}\nB: {1}\nC: {2}\nWhat is their order by pleasantness, the lowest first?",
        "A: {0}\nB: {1}\nC: {2}\nBegin with the segment that felt worst and end with the one that felt best.",
    )
    text = TextLengths(question=67, answer=44)
    metrics = (TAU, *CLOSED_SET)
    controls = (session_position_of(ordered, ORDERS, (TAU,)),)
    parse = staticmethod(order_of)

    def groups(self, labels: Sequence[str]) -> dict[str, int]:
        """Levels of valence."""
        return levels_of(labels)

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Every order, whatever the labels."""
        return ORDERS

    def check_labels(self, labels: Sequence[str], field: str) -> None:
        """Refuse labels of unknown valence, and fewer than three levels."""
        if len(set(levels_of(labels, f"{field}: {self.name}").values())) < _NUMBER:
            raise InputError(
                f"{field}: {self.name}",
                f"{', '.join(labels)} are fewer than {_NUMBER} levels of valence",
                f"Leave {self.name} out of `tasks` for this data set.",
            )

    def items(self, source: Windows, number: int, seed: int) -> Items:
        """A fixed list of sets, in which every order is true as often as the number allows."""
        rng, sets = np.random.default_rng([seed, number]), self.sets(source)
        orders = rng.permutation(np.arange(number) % len(ORDERS))
        windows = np.empty((number, _NUMBER), dtype=np.int64)
        for row, order in enumerate(orders):
            windows[row, list(_PLACES[order])] = sets.draw(rng)
        return Items.of(source, windows, np.array(ORDERS, dtype=object)[orders])

    def corpus_labels(self, labels: Sequence[str]) -> Sequence[str]:
        """Labels of known valence, whatever others there are."""
        return SEED_VII.names

    def told(self, labels: Sequence[str], rng: np.random.Generator, segments: Sequence[str] = ()) -> Dialogue:
        """The order of the segments; a chain of thought names the labels first."""
        user, order = self.ask_anyhow((), rng, segments), ordered(labels)
        sorted_labels = (labels[LETTERS.index(letter)] for letter in order.split(", "))
        thinking = f"{named(labels)}: {', then '.join(sorted_labels)}."
        return Dialogue(self.name, user, order, thinking if rng.random() < 0.5 else None)

    def composed(self, probabilities: np.ndarray, labels: Sequence[str], listed: Sequence[str]) -> np.ndarray:
        """Probability of each order, given that the levels differ."""
        levels = levels_of(labels)
        number = max(levels.values()) + 1
        of_level = np.zeros((*probabilities.shape[:2], number))
        for place, label in enumerate(labels):
            of_level[:, :, levels[label]] += probabilities[:, :, place]
        ascending = list(combinations(range(number), _NUMBER))
        found = np.stack([_chance_of(of_level, places, ascending) for places in _PLACES], axis=1)
        return found / found.sum(axis=1, keepdims=True)


def _chance_of(of_level: np.ndarray, places: Sequence[int], ascending: Sequence[Sequence[int]]) -> np.ndarray:
    """Probability (items,) that the segments in these places have ascending levels, never 0."""
    each = [of_level[:, places, levels].prod(axis=1) for levels in ascending]
    chance: np.ndarray = np.sum(each, axis=0) + np.finfo(float).tiny
    return chance
