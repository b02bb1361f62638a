"""Claims about a signal: made from measurements, written as sentences, read back and checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.table import CLAIM_KINDS, CLAIM_TABLE
from e2llm_core.claims.wording import AVERAGES, DEGREES, Reference, Strength
from storage.errors import InputError
from storage.signal.bands import BANDS
from storage.signal.channels import REGIONS

_SENTENCE_END = re.compile(r"[.!?;\n]")
_REGION_WORDS = sorted({word for region in REGIONS for word in region.split()} - {"left", "right"})
_AVERAGES = (r"session(?:'s)? average", "average of this session", "average person", "population average")
_MENTIONS = ("amplitudes?", "regions?", *BANDS, *_REGION_WORDS, *_AVERAGES)


@dataclass(frozen=True)
class Claim:
    """A statement that one quantity of a window is above or below a reference.

    Attributes
    ----------
    quantity : Quantity
        What was measured.
    above : bool
        Direction.
    strength : str
        How far from the reference.
    reference : str
        The session, the session so far, or the population that the model was fitted to.
    """

    quantity: Quantity
    above: bool
    strength: Strength = "plain"
    reference: Reference = "session"

    def sentence(self, rng: np.random.Generator | None = None) -> str:
        """The claim in words: the canonical form, or a random one."""
        kind = CLAIM_KINDS[self.quantity.kind]
        return kind.say(self.quantity, self.above, self.strength, self.reference, rng)

    def keywords(self) -> str:
        """The claim in note form."""
        return CLAIM_KINDS[self.quantity.kind].note(self.quantity, self.above, self.strength, self.reference)

    def to_dict(self) -> dict[str, Any]:
        """The claim as JSON has it, with the version of the table of claims."""
        return {
            "table": CLAIM_TABLE,
            "kind": self.quantity.kind,
            "band": self.quantity.band,
            "region": self.quantity.region,
            "above": self.above,
            "strength": self.strength,
            "reference": self.reference,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], place: str) -> "Claim":
        """Read what `to_dict` gave.

        Parameters
        ----------
        content : mapping
            One claim.
        place : str
            File to name in an error.

        Raises
        ------
        InputError
            When it is of another version of the table of claims, or no claim at all.
        """
        require_table(content.get("table"), place, "Write the claims again with this version.")
        try:
            quantity = Quantity(content["kind"], content["band"], content["region"])
            claim = cls(quantity, content["above"], content["strength"], content["reference"])
            known = claim.quantity.kind in CLAIM_KINDS and claim.strength in DEGREES and claim.reference in AVERAGES
        except (KeyError, TypeError):
            known = False
        if not known or set(content) != set(claim.to_dict()) or not isinstance(claim.above, bool):
            raise InputError(place, f"holds what is no claim: {dict(content)}", "Write the claims again.")
        return claim


def require_table(version: object, place: str, remedy: str) -> None:
    """Raise `InputError` where a file is of another version of the table of claims than `CLAIM_TABLE`."""
    if version != CLAIM_TABLE:
        said = "no version of the table of claims" if version is None else f"version {version} of the table of claims"
        raise InputError(place, f"names {said}; this is version {CLAIM_TABLE}", remedy)


@dataclass(frozen=True)
class Said:
    """A claim in a text.

    Attributes
    ----------
    claim : Claim
        What is claimed, also about bands and regions that do not exist.
    span : tuple of int
        Its first character in the text and the one after its last, without a full stop.
    word_span : tuple of int
        The same of the word that it turns on, without its degree.
    opposite : str
        The word that in its place reverses the claim.
    """

    claim: Claim
    span: tuple[int, int]
    word_span: tuple[int, int]
    opposite: str


@dataclass(frozen=True)
class Statements:
    """What a rationale says about the signal.

    Attributes
    ----------
    claims : tuple of Claim
        Sentences in a form of `CLAIM_KINDS`, in the order of the text, also about bands and regions that do not exist.
    unreadable : int
        Other sentences that name what claims are about, a band or a region.
    """

    claims: tuple[Claim, ...]
    unreadable: int

    def __len__(self) -> int:
        return len(self.claims) + self.unreadable


def said_in(text: str) -> list[Said]:
    """Every claim in a text, in order; of two that overlap, the one that begins first, or is longer."""
    found: list[Said] = []
    for kind in CLAIM_KINDS.values():
        bare = kind.bands[0] if len(kind.bands) == 1 else ""
        for form in kind.forms:
            for read in form.find(text):
                quantity = Quantity(kind.name, read.band or bare, read.region)
                claim = Claim(quantity, read.above, read.strength, read.reference)
                found.append(Said(claim, read.span, read.word_span, read.opposite))
    kept: list[Said] = []
    for said in sorted(found, key=lambda said: (said.span[0], -said.span[1])):
        if not kept or said.span[0] >= kept[-1].span[1]:
            kept.append(said)
    return kept


def statements_in(text: str) -> Statements:
    """Read everything that a text says about the signal, in its rationale or outside of it."""
    said = said_in(text)
    rest = text
    for one in reversed(said):
        rest = rest[: one.span[0]] + rest[one.span[1] :]
    words = (*_MENTIONS, *(word for kind in CLAIM_KINDS.values() for word in kind.mentions))
    mention = re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)
    unreadable = sum(mention.search(sentence) is not None for sentence in _SENTENCE_END.split(rest))
    return Statements(tuple(one.claim for one in said), unreadable)
