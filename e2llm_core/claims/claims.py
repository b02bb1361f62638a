"""Claims about a signal: made from measurements, written as sentences, read back and checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from e2llm_core.claims.measures import Quantity
from storage.signal.bands import BANDS
from storage.signal.channels import REGIONS

_FORMS: dict[Literal["power", "bursts"], re.Pattern[str]] = {
    "power": re.compile(r"(\w+) power over the ([\w ]+?) region is (above|below) the session average", re.IGNORECASE),
    "bursts": re.compile(r"(\w+) activity over the ([\w ]+?) region bursts (more|less) than average", re.IGNORECASE),
}
_ABOVE = frozenset({"above", "more"})
_SENTENCE_END = re.compile(r"[.!?;\n]")
_SIGNAL_WORD = re.compile(
    rf"\b(?:powers?|activit(?:y|ies)|burst\w*|amplitudes?|session average|regions?|{'|'.join(BANDS)}"
    rf"|{'|'.join(sorted({word for region in REGIONS for word in region.split()} - {'left', 'right'}))})\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Claim:
    """A statement that one quantity of a window is above or below its average over the session."""

    quantity: Quantity
    above: bool

    def sentence(self) -> str:
        """The claim in words."""
        band, region = self.quantity.band.capitalize(), self.quantity.region
        if self.quantity.kind == "power":
            return f"{band} power over the {region} region is {'above' if self.above else 'below'} the session average."
        return f"{band} activity over the {region} region bursts {'more' if self.above else 'less'} than average."

    def keywords(self) -> str:
        """The claim in note form."""
        words = ("bursts more", "bursts less") if self.quantity.kind == "bursts" else ("above", "below")
        return f"{self.quantity.band} {self.quantity.region} {words[0 if self.above else 1]}"


def strongest(quantities: Sequence[Quantity], deviations: np.ndarray, number: int) -> list[Claim]:
    """The claims with the largest of the deviations (quantities,), `number` of them, in the quantities' order."""
    order = np.sort(np.argsort(-np.abs(deviations))[:number])
    return [Claim(quantities[place], bool(deviations[place] > 0)) for place in order]


@dataclass(frozen=True)
class Statements:
    """What a rationale says about the signal.

    Attributes
    ----------
    claims : tuple of Claim
        Sentences of the two forms that are measured, also about bands and regions that do not exist.
    unreadable : int
        Other sentences that name a power, an activity, bursts, a band or a region.
    """

    claims: tuple[Claim, ...]
    unreadable: int

    def __len__(self) -> int:
        return len(self.claims) + self.unreadable


def statements_in(text: str) -> Statements:
    """Read everything that a text says about the signal, in its rationale or outside of it."""
    claims = [
        Claim(Quantity(kind, band.lower(), region.lower()), word.lower() in _ABOVE)
        for kind, pattern in _FORMS.items()
        for band, region, word in pattern.findall(text)
    ]
    for pattern in _FORMS.values():
        text = pattern.sub("", text)
    unreadable = sum(_SIGNAL_WORD.search(sentence) is not None for sentence in _SENTENCE_END.split(text))
    return Statements(tuple(claims), unreadable)
