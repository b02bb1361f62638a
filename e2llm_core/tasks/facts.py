"""What is true of a segment, for dialogues about it: a label, and claims."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.wording import Reference, Wording, strength_of
from e2llm_core.tasks.circumplex import Affect

CLAIMS_PER_RATIONALE = 3
CLAIMS_OF_A_LIST = 6


@dataclass(frozen=True)
class SegmentFacts:
    """Facts about one segment.

    Attributes
    ----------
    label : str
        The true label.
    claims : tuple of Claim
        The claims that a rationale about it makes.
    outstanding : tuple of Claim
        The claims that a list of what stands out makes.
    wording : str
        How claims about it are said.
    affect : Affect, optional
        Where its label lies on the circumplex, where a rationale says so.
    """

    label: str
    claims: tuple[Claim, ...]
    outstanding: tuple[Claim, ...]
    wording: Wording = "canonical"
    affect: Affect | None = None

    def words(self, rng: np.random.Generator) -> np.random.Generator | None:
        """The generator that draws the words of claims; None where they are canonical, so that nothing is drawn."""
        return rng if self.wording == "varied" else None


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
    affect: bool = Field(False, description="whether a rationale begins with its label's valence and arousal")

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
        return tuple(self._claim(quantities[place], float(deviations[place]), reference) for place in places)

    def _claim(self, quantity: Quantity, deviation: float, reference: Reference) -> Claim:
        strength = strength_of(deviation) if self.wording == "varied" else "plain"
        return Claim(quantity, deviation > 0, strength, reference)
