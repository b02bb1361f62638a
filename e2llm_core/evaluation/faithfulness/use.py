"""Use: whether the answer follows the claims, or the EEG past them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from e2llm_core.evaluation.faithfulness.asking import Asking
from e2llm_core.evaluation.faithfulness.metrics import USE_CLAIMS, USE_EEG, USE_NONE
from e2llm_core.evaluation.faithfulness.numbers import Number
from e2llm_core.evaluation.faithfulness.spoken import Spoken
from e2llm_core.evaluation.faithfulness.words import reasons_in
from e2llm_core.llm.families.base import Family


@dataclass(frozen=True)
class Ending:
    """Text after forced claims, for each option: conclusion, end of the rationale, and answer.

    Attributes
    ----------
    family : Family
        Family of the language model.
    options : tuple of str
        Closed list of answers.
    conclude : callable
        Returns the last sentence of a rationale that leads to an answer.
    """

    family: Family
    options: tuple[str, ...]
    conclude: Callable[[str], str]

    def after(self, reasons: str) -> tuple[str, tuple[str, ...]]:
        """A prefix that holds the reasons, and the rest of the answer for each option."""
        whole = [self.family.rationale.write(f"{reasons} {self.conclude(option)}") for option in self.options]
        cut = whole[0].index(reasons) + len(reasons)
        return whole[0][:cut], tuple(
            self._end(text[cut:], option) for text, option in zip(whole, self.options, strict=True)
        )

    def at_once(self) -> tuple[str, tuple[str, ...]]:
        """The form of no rationale, and each option."""
        return self.family.rationale.write(""), tuple(self._end("", option) for option in self.options)

    def _end(self, text: str, option: str) -> str:
        return f"{text}{self.family.rationale.before_answer}{option}{self.family.turn_end}"


def uses(spoken: Spoken, asking: Asking, ending: Ending, number: int, seed: int) -> list[Number]:
    """Share of answers that change with another window's claims, with its EEG, and without a rationale.

    The answer is the most likely option after the forced claims, scored with the conclusion that leads to it. The
    reference is the answer after the window's own claims on its own EEG, scored in the same way.

    Parameters
    ----------
    spoken : Spoken
        Generated answers of the model.
    asking : Asking
        Asks the model.
    ending : Ending
        Endings of rationales.
    number : int
        Largest number of windows.
    seed : int
        Seed of the draw.
    """
    reasons = [_reasons(ending, text, spoken.options) for text in spoken.texts]
    pairs = partners(spoken.rows["answer"].tolist(), spoken.subjects, [bool(text) for text in reasons], number, seed)
    if not pairs:
        return []
    items, others = (np.array(side) for side in zip(*pairs, strict=True))
    own, theirs = ([ending.after(reasons[item]) for item in side] for side in (items, others))
    here, there = spoken.windows[items], spoken.windows[others]
    plain = _answers(asking, "use-plain", here, own)
    found = []
    for check, windows, forced in (
        (USE_CLAIMS, here, theirs),
        (USE_EEG, there, own),
        (USE_NONE, here, [ending.at_once()] * len(items)),
    ):
        changed = _answers(asking, check.name.replace("_", "-"), windows, forced) != plain
        found += spoken.mean(check, changed, items, "likelihood")
    return found


def partners(
    answers: Sequence[str | None], subjects: np.ndarray, speaks: Sequence[bool], number: int, seed: int
) -> list[tuple[int, int]]:
    """Draw up to `number` items, each with a partner that has another answer; sorted by item.

    The partner is of the same subject if possible, otherwise of any. Items without a readable answer or without claims
    are left out.

    Parameters
    ----------
    answers, subjects, speaks : sequence
        Of each item: the answer, None if it is invalid; the subject; whether the rationale makes claims.
    number : int
        Largest number of pairs.
    seed : int
        Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    usable = np.array([item for item, answer in enumerate(answers) if answer is not None and speaks[item]], dtype=int)
    given = np.array([answers[item] for item in usable], dtype=object)
    whose = np.asarray(subjects)[usable]
    found: list[tuple[int, int]] = []
    for place in rng.permutation(len(usable)).tolist():
        if len(found) == number:
            break
        another = given != given[place]
        near = another & (whose == whose[place])
        pool = np.flatnonzero(near if near.any() else another)
        if len(pool):
            found.append((int(usable[place]), int(usable[pool[int(rng.integers(len(pool)))]])))
    return sorted(found)


def _reasons(ending: Ending, text: str, options: Sequence[str]) -> str:
    """What a rationale says up to its last claim; empty without claims, or where it names an answer before."""
    rationale, _ = ending.family.split(text)
    reasons = reasons_in(rationale or "")
    return "" if any(option in reasons for option in options) else reasons


def _answers(
    asking: Asking, check: str, windows: np.ndarray, forced: Sequence[tuple[str, tuple[str, ...]]]
) -> np.ndarray:
    """Number (items,) of the most likely option."""
    prefixes, continuations = [prefix for prefix, _ in forced], [ends for _, ends in forced]
    found: np.ndarray = asking.likelihoods(check, windows, prefixes, continuations).argmin(axis=1)
    return found
