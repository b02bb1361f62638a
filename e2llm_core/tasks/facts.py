"""What is true of a segment, for dialogues about it: deviations of signal quantities, a label, and claims."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.table import quantities_of
from storage.signal.channels import SEED_CHANNELS

LEVELS: tuple[tuple[float, str], ...] = (
    (1.5, "far above"),
    (0.5, "above"),
    (-0.5, "near"),
    (-1.5, "below"),
    (-np.inf, "far below"),
)
"""Words for a deviation, each with the standard deviations that it begins at."""

CLAIMS_PER_RATIONALE = 2
SMALLEST_DIFFERENCE = 0.5
"""Standard deviations: nearer to its reference, nothing is claimed; nearer to each other, no question asks which of two
is higher."""

_QUANTITIES = quantities_of(SEED_CHANNELS)
_NOTED = (4, 8)
_CENTRES = (2.0, 1.0, 0.0, -1.0, -2.0)
"""A deviation for each level: what the notes do not say decides no answer."""


@dataclass(frozen=True)
class SegmentFacts:
    """Facts about one segment.

    Attributes
    ----------
    quantities : tuple of Quantity
        What is known of it.
    deviations : np.ndarray
        float (quantities,): deviations from the reference, in standard deviations.
    label : str
        The true label.
    claims : tuple of Claim
        The claims that a rationale about it makes.
    """

    quantities: tuple[Quantity, ...]
    deviations: np.ndarray
    label: str
    claims: tuple[Claim, ...]

    def levels(self) -> dict[Quantity, str]:
        """Each quantity's deviation in words."""
        return {q: level_of(float(value)) for q, value in zip(self.quantities, self.deviations, strict=True)}


def level_of(deviation: float) -> str:
    """The word for a deviation in standard deviations."""
    return next(word for begin, word in LEVELS if deviation >= begin)


def words_of(quantity: Quantity) -> str:
    """A quantity in the order of speech: region, band, kind."""
    return " ".join(filter(None, (quantity.region, quantity.band, quantity.kind)))


class ClaimChoice(BaseModel):
    """Which claims a rationale makes of a window: those that hold and stand out, and that speak for its label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(CLAIMS_PER_RATIONALE, ge=1, description="claims of a rationale, at most")
    smallest: float = Field(0.0, ge=0, description="standard deviations below which a deviation is not claimed")
    relevance: float = Field(
        0.0, ge=0, description="weight of how far a label's mean deviation lies on the claim's side, beside the size"
    )

    def claims(
        self, quantities: Sequence[Quantity], deviations: np.ndarray, towards: np.ndarray | None = None
    ) -> tuple[Claim, ...]:
        """Choose the claims about one window.

        Parameters
        ----------
        quantities : sequence of Quantity
            What was measured.
        deviations : np.ndarray
            (quantities,) in standard deviations.
        towards : np.ndarray, optional
            (quantities,): mean deviations of the window's label, less those of all labels.

        Returns
        -------
        tuple of Claim
            At most `number`, in the quantities' order.
        """
        size = np.abs(deviations)
        score = size if towards is None else size + self.relevance * np.sign(deviations) * towards
        places = np.argsort(np.where(size >= self.smallest, -score, np.inf), kind="stable")[: self.number]
        chosen = np.sort(places[size[places] >= self.smallest])
        return tuple(Claim(quantities[place], bool(deviations[place] > 0)) for place in chosen)


_CHOICE = ClaimChoice(number=3, smallest=SMALLEST_DIFFERENCE)


def drawn_facts(labels: Sequence[str], rng: np.random.Generator, like: SegmentFacts | None = None) -> SegmentFacts:
    """Facts that are drawn at random, for the text corpus: the label knows nothing of the deviations.

    Parameters
    ----------
    labels : sequence of str
        Labels to draw from.
    rng : np.random.Generator
        Where the draws come from.
    like : SegmentFacts, optional
        Facts about another segment; the same quantities are known of this one.
    """
    if like is None:
        number = int(rng.integers(*_NOTED, endpoint=True))
        quantities = tuple(_QUANTITIES[place] for place in rng.choice(len(_QUANTITIES), number, replace=False))
    else:
        quantities = like.quantities
    deviations = rng.choice(_CENTRES, len(quantities))
    label = str(labels[int(rng.integers(len(labels)))])
    return SegmentFacts(quantities, deviations, label, _CHOICE.claims(quantities, deviations))


def in_notes(facts: SegmentFacts) -> str:
    """A segment in keywords, as the text corpus shows it."""
    noted = "; ".join(f"{words_of(quantity)} {level}" for quantity, level in facts.levels().items())
    return f"[{noted}; points to {facts.label}]"
