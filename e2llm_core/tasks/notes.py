"""Text in place of an EEG segment in the text corpus: a label and claims in note form, drawn at random.

A note is built as `e2llm_core.model.projector.WordedProjector` tells a segment: what it points to, then what stands
out, the strongest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.table import CLAIM_KINDS, quantities_of
from e2llm_core.claims.wording import STRENGTHS, Reference, Strength
from e2llm_core.tasks.dialogue import rationale
from e2llm_core.tasks.facts import CLAIMS_PER_RATIONALE
from storage.signal.channels import SEED_CHANNELS

NOTE_OPENING, NOTE_SEPARATOR = "[points to", ";"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
"""Words before the items of a note, the strongest first."""

_COMMON, _EVERY = quantities_of(SEED_CHANNELS), quantities_of(SEED_CHANNELS, CLAIM_KINDS)
_COMMON_SHARE, _VARIED_SHARE = 0.7, 0.2
_NOTED = (1, 6)
_REFERENCES: tuple[Reference, ...] = get_args(Reference)
_REFERENCE_SHARES = (0.7, 0.15, 0.15)


@dataclass(frozen=True)
class Noted:
    """A segment in words.

    Attributes
    ----------
    label : str
        What it points to.
    claims : tuple of Claim
        What stands out, the strongest first.
    varied : bool
        Whether the claims are said in any form and with their strength.
    """

    label: str
    claims: tuple[Claim, ...]
    varied: bool

    @property
    def text(self) -> str:
        """The segment in note form."""
        return f"{NOTE_OPENING} {self.label}{NOTE_SEPARATOR} {listed(self.claims)}]"

    def rationale(self, rng: np.random.Generator) -> str:
        """Chain of thought about it: as many claims as a rationale has, of those that stand out most."""
        return rationale(self.claims[:CLAIMS_PER_RATIONALE], self.label, rng if self.varied else None)


def listed(claims: Sequence[Claim]) -> str:
    """Claims in keywords, counted: at most as many as there are `ORDINALS`."""
    items = (f"{ordinal} {claim.keywords()}" for ordinal, claim in zip(ORDINALS, claims, strict=False))
    return f"{NOTE_SEPARATOR} ".join(items)


def drawn_segment(labels: Sequence[str], rng: np.random.Generator) -> Noted:
    """Draw a segment: its label, and claims that know nothing of it."""
    return drawn_segment_of(str(labels[int(rng.integers(len(labels)))]), rng)


def drawn_segment_of(label: str, rng: np.random.Generator, at_most: int = _NOTED[1]) -> Noted:
    """Draw a segment of a label, with at most this many claims that know nothing of it."""
    known = _COMMON if rng.random() < _COMMON_SHARE else _EVERY
    number = int(rng.integers(_NOTED[0], at_most, endpoint=True))
    varied = bool(rng.random() < _VARIED_SHARE)
    reference = _REFERENCES[int(rng.choice(len(_REFERENCES), p=_REFERENCE_SHARES))]
    strengths: list[Strength] = ["plain"] * number
    if varied:
        strengths = [STRENGTHS[place] for place in np.sort(rng.integers(len(STRENGTHS), size=number))]
    drawn = (known[place] for place in rng.choice(len(known), number, replace=False))
    claims = (
        Claim(quantity, bool(rng.random() < 0.5), strength, reference)
        for quantity, strength in zip(drawn, strengths, strict=True)
    )
    return Noted(label, tuple(claims), varied)


def drawn_pair(labels: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    """Two labels, the same one in half of the cases."""
    first, second = rng.choice(len(labels), 2, replace=False)
    return labels[first], labels[first] if rng.random() < 0.5 else labels[second]
