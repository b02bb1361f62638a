"""Flip: whether a claim's word changes with the signal that it speaks of, and with nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e2llm_core.claims.claims import Claim, Said, said_in, statements_in
from e2llm_core.claims.power import POWER
from e2llm_core.evaluation.faithfulness.asking import Asking
from e2llm_core.evaluation.faithfulness.metrics import (
    FLIP_GENERATION,
    FLIP_LEAKAGE,
    FLIP_LIKELIHOOD,
    FLIP_OTHER,
    FLIP_REACHED,
)
from e2llm_core.evaluation.faithfulness.moves import Moved, Mover
from e2llm_core.evaluation.faithfulness.numbers import Number
from e2llm_core.evaluation.faithfulness.spoken import Spoken

TARGET_SD = 1.5
"""Distance from the reference, on the other side, that a quantity is moved to."""


@dataclass(frozen=True)
class Drawn:
    """A window, a claim about a power that its rationale makes and that holds, and a power that it does not name.

    Attributes
    ----------
    item : int
        Number of the item.
    said : Said
        The claim, in the generated text.
    other : int or None
        Column of the other power; None where the rationale names all of them.
    """

    item: int
    said: Said
    other: int | None

    def place(self, text: str) -> tuple[str, tuple[str, str]]:
        """What stands before the claim's word, and what may follow: the word itself, and its opposite."""
        start, stop = self.said.word_span
        space = " " if text[:start].endswith(" ") else ""  # belongs to the word after it
        return text[: start - len(space)], (space + text[start:stop], space + self.said.opposite)


def drawn(spoken: Spoken, number: int, seed: int) -> list[Drawn]:
    """Draw up to `number` windows from all subjects; sorted by item, and the same for the same seed."""
    rng = np.random.default_rng(seed)
    powers = {place for quantity, place in spoken.column.items() if quantity.kind == POWER.name}
    found: list[Drawn] = []
    for item in rng.permutation(len(spoken.texts)).tolist():
        if len(found) == number:
            break
        named = {spoken.column[claim.quantity] for claim in spoken.claims[item] if claim.quantity in spoken.column}
        usable = [said for said in said_in(spoken.texts[item]) if _holds(spoken, item, said.claim, powers)]
        if usable:
            others = sorted(powers - named)
            other = others[int(rng.integers(len(others)))] if others else None
            found.append(Drawn(item, usable[int(rng.integers(len(usable)))], other))
    return sorted(found, key=lambda one: one.item)


def flips(spoken: Spoken, mover: Mover, asking: Asking, number: int, seed: int) -> list[Number]:
    """Move a named power, or one that is not named, across its reference, and read the word of the claim.

    Only powers can be moved. Windows whose move missed its target are left out, and of `FLIP_OTHER` also those whose
    named power changed sides as well.

    Parameters
    ----------
    spoken : Spoken
        Generated answers of the model.
    mover : Mover
        Mover of the same windows.
    asking : Asking
        Asks the model.
    number : int
        Largest number of windows.
    seed : int
        Seed of the draw.
    """
    chosen = drawn(spoken, number, seed)
    named = _moved(spoken, mover, [(one.item, spoken.column[one.said.claim.quantity]) for one in chosen])
    chosen = [one for one, made in zip(chosen, named.made, strict=True) if made]
    if not chosen:
        return []
    items = np.array([one.item for one in chosen])
    windows, columns = spoken.windows[items], np.array([spoken.column[one.said.claim.quantity] for one in chosen])
    edits = [edit for edit, made in zip(named.edits, named.made, strict=True) if made]
    places = [one.place(spoken.texts[one.item]) for one in chosen]
    prefixes, words = [prefix for prefix, _ in places], [pair for _, pair in places]
    plain = asking.likelihoods("flip-plain", windows, prefixes, words).argmin(axis=1)
    moved = asking.likelihoods("flip-named", windows, prefixes, words, edits).argmin(axis=1)
    found = spoken.mean(FLIP_LIKELIHOOD, moved != plain, items, "likelihood")
    told = [statements_in(text).claims for text in asking.texts("flip-told", windows, edits)]
    again = np.array([_reversed_in(claims, one.said.claim) for claims, one in zip(told, chosen, strict=True)])
    found += spoken.mean(FLIP_GENERATION, again, items, "generation")
    found += _other(spoken, mover, asking, chosen, plain, places)
    after = named.deviations[named.made]
    reached = np.abs(after[np.arange(len(items)), columns])
    found += spoken.mean(FLIP_REACHED, reached, items, "likelihood")
    change = np.abs(after - spoken.deviations[items])
    change[np.arange(len(items)), columns] = 0
    leakage = change.sum(axis=1) / max(1, change.shape[1] - 1)
    return found + spoken.mean(FLIP_LEAKAGE, leakage, items, "likelihood")


def _other(
    spoken: Spoken,
    mover: Mover,
    asking: Asking,
    chosen: list[Drawn],
    plain: np.ndarray,
    places: list[tuple[str, tuple[str, str]]],
) -> list[Number]:
    """Share in which the named claim's word changes when another power is moved."""
    rows = [row for row, one in enumerate(chosen) if one.other is not None]
    moved = _moved(spoken, mover, [(chosen[row].item, chosen[row].other or 0) for row in rows])
    kept = []
    for place, row in enumerate(rows):
        column = spoken.column[chosen[row].said.claim.quantity]
        same_side = (moved.deviations[place, column] > 0) == (spoken.deviations[chosen[row].item, column] > 0)
        if moved.made[place] and same_side:
            kept.append((place, row))
    if not kept:
        return []
    items = np.array([chosen[row].item for _, row in kept])
    nll = asking.likelihoods(
        "flip-other",
        spoken.windows[items],
        [places[row][0] for _, row in kept],
        [places[row][1] for _, row in kept],
        [moved.edits[place] for place, _ in kept],
    )
    changed = nll.argmin(axis=1) != plain[[row for _, row in kept]]
    return spoken.mean(FLIP_OTHER, changed, items, "likelihood")


def _moved(spoken: Spoken, mover: Mover, wanted: list[tuple[int, int]]) -> Moved:
    """Each item's quantity, by its column, at `TARGET_SD` on the other side of its reference."""
    items = np.array([item for item, _ in wanted], dtype=np.int64)
    columns = np.array([column for _, column in wanted], dtype=np.int64)
    targets = np.where(spoken.deviations[items, columns] > 0, -TARGET_SD, TARGET_SD)
    return mover(spoken.windows[items], [spoken.quantities[column] for column in columns], targets)


def _reversed_in(claims: Sequence[Claim], said: Claim) -> bool:
    """Whether a quantity is named again, with the other direction."""
    return any(claim.quantity == said.quantity and claim.above != said.above for claim in claims)


def _holds(spoken: Spoken, item: int, claim: Claim, powers: set[int]) -> bool:
    """Whether a claim is about a power that was measured, on the side that it names of the reference that it names."""
    column = spoken.column.get(claim.quantity)
    return (
        claim.reference == spoken.reference
        and column in powers
        and bool((spoken.deviations[item, column] > 0) == claim.above)
    )
