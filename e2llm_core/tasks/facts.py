"""What is true of a segment, for dialogues about it: deviations of signal quantities, a label, and claims."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.table import quantities_of
from e2llm_core.claims.wording import Reference, Wording, strength_of
from storage.signal.channels import SEED_CHANNELS

LEVELS: tuple[tuple[float, str], ...] = (
    (1.5, "far above"),
    (0.5, "above"),
    (-0.5, "near"),
    (-1.5, "below"),
    (-np.inf, "far below"),
)
"""Words for a deviation, each with the standard deviations that it begins at."""

CLAIMS_PER_RATIONALE = 3
CLAIMS_OF_A_LIST = 6
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
        The claims that a rationale about it makes; none for segments that are drawn.
    outstanding : tuple of Claim
        The claims that a list of what stands out makes; none for segments that are drawn.
    reference : str
        What the deviations are from.
    wording : str
        How claims about it are said.
    """

    quantities: tuple[Quantity, ...]
    deviations: np.ndarray
    label: str
    claims: tuple[Claim, ...] = ()
    outstanding: tuple[Claim, ...] = ()
    reference: Reference = "session"
    wording: Wording = "canonical"

    def claim(self, place: int, above: bool) -> Claim:
        """The claim, true or false, that a quantity is above or below the reference."""
        return claim_of(self.quantities[place], above, float(self.deviations[place]), self.reference, self.wording)

    def words(self, rng: np.random.Generator) -> np.random.Generator | None:
        """The generator that draws the words of claims; None where they are canonical, so that nothing is drawn."""
        return rng if self.wording == "varied" else None

    def levels(self) -> dict[Quantity, str]:
        """Each quantity's deviation in words."""
        return {q: level_of(float(value)) for q, value in zip(self.quantities, self.deviations, strict=True)}


def level_of(deviation: float) -> str:
    """The word for a deviation in standard deviations."""
    return next(word for begin, word in LEVELS if deviation >= begin)


def words_of(quantity: Quantity) -> str:
    """A quantity in the order of speech: region, band, kind."""
    return " ".join(filter(None, (quantity.region, quantity.band, quantity.kind)))


def claim_of(quantity: Quantity, above: bool, deviation: float, reference: Reference, wording: Wording) -> Claim:
    """A claim whose strength is that of a deviation in standard deviations, or plain in canonical wording."""
    return Claim(quantity, above, strength_of(deviation) if wording == "varied" else "plain", reference)


class ClaimChoice(BaseModel):
    """Which claims a rationale makes of a window: those that hold and stand out, and that speak for its label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(CLAIMS_PER_RATIONALE, ge=1, description="claims of a rationale, at most")
    smallest: float = Field(0.5, ge=0, description="standard deviations below which a deviation is not claimed")
    relevance: float = Field(
        0.5, ge=0, description="weight of how far a label's mean deviation lies on the claim's side, beside the size"
    )
    reliability: float = Field(0.5, ge=0, le=1, description="reliability below which a quantity is not claimed")
    wording: Wording = Field("canonical", description="one form, or any form and degree")

    def claims(
        self,
        quantities: Sequence[Quantity],
        deviations: np.ndarray,
        towards: np.ndarray | None = None,
        reliability: np.ndarray | None = None,
        reference: Reference = "session",
        number: int | None = None,
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
        reliability : np.ndarray, optional
            (quantities,); NaN, or None for all of them, where it is not known: no claim, if any is asked for.
        reference : str
            What the deviations are from.
        number : int, optional
            Claims to make instead of the chosen number.

        Returns
        -------
        tuple of Claim
            At most that many, the one that speaks most first. What does not deviate at all is not claimed.
        """
        size = np.abs(deviations)
        allowed = (size >= self.smallest) & (size > 0)
        if self.reliability > 0:
            allowed &= False if reliability is None else reliability >= self.reliability
        if reliability is not None:
            size = size * np.clip(np.nan_to_num(reliability, nan=1.0), 0, 1)
        score = size if towards is None else size + self.relevance * np.sign(deviations) * towards
        places = np.argsort(np.where(allowed, -score, np.inf), kind="stable")
        chosen = places[allowed[places]][: self.number if number is None else number]
        return self._made(quantities, deviations, chosen, reference)

    def of_told(
        self,
        quantities: Sequence[Quantity],
        deviations: np.ndarray,
        told: np.ndarray,
        above: np.ndarray,
        reference: Reference = "session",
        number: int | None = None,
    ) -> tuple[Claim, ...]:
        """Choose the claims about one window of which a projector tells some quantities.

        Parameters
        ----------
        quantities, deviations, reference, number
            As in `claims`.
        told, above : np.ndarray
            int64 and bool (told,): places of the quantities that are told, in their order, and whether as above.

        Returns
        -------
        tuple of Claim
            What is told and holds, in the order in which it is told.
        """
        found = deviations[told]
        holds = (np.abs(found) >= self.smallest) & (np.sign(found) == np.where(above, 1, -1))
        return self._made(quantities, deviations, told[holds][: self.number if number is None else number], reference)

    def _made(
        self, quantities: Sequence[Quantity], deviations: np.ndarray, places: np.ndarray, reference: Reference
    ) -> tuple[Claim, ...]:
        return tuple(
            claim_of(quantities[place], bool(deviations[place] > 0), float(deviations[place]), reference, self.wording)
            for place in places
        )


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
    return SegmentFacts(quantities, deviations, label)


def in_notes(facts: SegmentFacts) -> str:
    """A segment in keywords, as the text corpus shows it."""
    noted = "; ".join(f"{words_of(quantity)} {level}" for quantity, level in facts.levels().items())
    return f"[{noted}; points to {facts.label}]"
