"""The words of a text that give the direction of its claims."""

import re
from dataclasses import dataclass

from e2llm_core.claims.claims import Claim, statements_in
from e2llm_core.claims.table import CLAIM_KINDS

_OPPOSITES = {word: other for kind in CLAIM_KINDS.values() for word, other in (kind.words, kind.words[::-1])}
_WORD = re.compile(rf"\b(?:{'|'.join(map(re.escape, _OPPOSITES))})\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")


@dataclass(frozen=True)
class SaidClaim:
    """A claim in a text.

    Attributes
    ----------
    claim : Claim
        Claim as read.
    start, stop : int
        Position of the word in the text.
    word, opposite : str
        The word, and the word that reverses the claim.
    """

    claim: Claim
    start: int
    stop: int
    word: str
    opposite: str


def said_claims(text: str) -> list[SaidClaim]:
    """Claims of a text with their words, in the order of the text.

    A word belongs to a claim if its opposite in its place reverses that claim and no other.
    """
    before = statements_in(text).claims
    found = []
    for match in _WORD.finditer(text):
        word, opposite = match.group(), _OPPOSITES[match.group().lower()]
        after = statements_in(text[: match.start()] + opposite + text[match.end() :]).claims
        if len(after) != len(before):
            continue
        changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        if len(changed) == 1 and _reverses(*changed[0]):
            found.append(SaidClaim(changed[0][0], match.start(), match.end(), word, opposite))
    return found


def _reverses(claim: Claim, other: Claim) -> bool:
    return claim.quantity == other.quantity and claim.above != other.above


def reasons_in(rationale: str) -> str:
    """The rationale up to the end of its last claim's sentence, without the conclusion; empty without claims."""
    claims = said_claims(rationale)
    if not claims:
        return ""
    end = _SENTENCE_END.search(rationale, claims[-1].stop)
    return rationale if end is None else rationale[: end.end()].rstrip()
