"""Claims about a signal: made from measurements, written as sentences, read back and checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e2llm_core.language.measures import Quantity

_POWER = re.compile(r"(\w+) power over the ([\w ]+?) region is (above|below) the session average", re.IGNORECASE)
_BURSTS = re.compile(r"(\w+) activity over the ([\w ]+?) region (comes in bursts|is steady)", re.IGNORECASE)


@dataclass(frozen=True)
class Claim:
    """A statement that one quantity is above or below its average."""

    quantity: Quantity
    above: bool

    def sentence(self) -> str:
        """The claim in words."""
        band, region = self.quantity.band.capitalize(), self.quantity.region
        if self.quantity.kind == "power":
            return f"{band} power over the {region} region is {'above' if self.above else 'below'} the session average."
        return f"{band} activity over the {region} region {'comes in bursts' if self.above else 'is steady'}."

    def keywords(self) -> str:
        """The claim in note form."""
        words = ("bursts", "steady") if self.quantity.kind == "bursts" else ("above", "below")
        return f"{self.quantity.band} {self.quantity.region} {words[0 if self.above else 1]}"


def strongest(quantities: Sequence[Quantity], deviations: np.ndarray, number: int) -> list[Claim]:
    """The claims with the largest of the deviations (quantities,), `number` of them, in the quantities' order."""
    order = np.sort(np.argsort(-np.abs(deviations))[:number])
    return [Claim(quantities[place], bool(deviations[place] > 0)) for place in order]


def claims_in(text: str) -> list[Claim]:
    """Every claim that a text makes, in no particular order."""
    found = [
        Claim(Quantity("power", band.lower(), region.lower()), word.lower() == "above")
        for band, region, word in _POWER.findall(text)
    ]
    return found + [
        Claim(Quantity("bursts", band.lower(), region.lower()), word.lower() == "comes in bursts")
        for band, region, word in _BURSTS.findall(text)
    ]


def share_that_holds(claims: Sequence[Claim], quantities: Sequence[Quantity], deviations: np.ndarray) -> float | None:
    """Share of claims that agree with the measured deviations (quantities,).

    A claim about a quantity that does not exist is false. None when there is no claim.
    """
    if not claims:
        return None
    value = dict(zip(quantities, deviations, strict=True))
    holds = [claim.quantity in value and (value[claim.quantity] > 0) == claim.above for claim in claims]
    return float(np.mean(holds))
