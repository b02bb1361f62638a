"""Claims about a signal: made from measurements, written as sentences, read back and checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.table import CLAIM_KINDS
from storage.signal.bands import BANDS
from storage.signal.channels import REGIONS

_SENTENCE_END = re.compile(r"[.!?;\n]")
_REGION_WORDS = sorted({word for region in REGIONS for word in region.split()} - {"left", "right"})
_MENTIONS = ("amplitudes?", "regions?", *BANDS, *_REGION_WORDS)


@dataclass(frozen=True)
class Claim:
    """A statement that one quantity of a window is above or below its average over the session."""

    quantity: Quantity
    above: bool

    def sentence(self) -> str:
        """The claim in words."""
        return CLAIM_KINDS[self.quantity.kind].say(self.quantity, self.above)

    def keywords(self) -> str:
        """The claim in note form."""
        return CLAIM_KINDS[self.quantity.kind].note(self.quantity, self.above)


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
        Sentences in a form of `CLAIM_KINDS`, also about bands and regions that do not exist.
    unreadable : int
        Other sentences that name a power, an activity, bursts, a band or a region.
    """

    claims: tuple[Claim, ...]
    unreadable: int

    def __len__(self) -> int:
        return len(self.claims) + self.unreadable


def statements_in(text: str) -> Statements:
    """Read everything that a text says about the signal, in its rationale or outside of it."""
    kinds = CLAIM_KINDS.values()
    claims = [Claim(quantity, above) for kind in kinds for quantity, above in kind.read(text)]
    rest = reduce(lambda left, kind: kind.cut(left), kinds, text)
    words = (*_MENTIONS, *(word for kind in kinds for word in kind.mentions))
    mention = re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)
    unreadable = sum(mention.search(sentence) is not None for sentence in _SENTENCE_END.split(rest))
    return Statements(tuple(claims), unreadable)
