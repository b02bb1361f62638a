"""Words of claims: how far from the reference, which reference, and the forms of a sentence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from storage.normalisation.rules import Adaptation

Strength = Literal["slight", "plain", "strong"]
"""How far a quantity lies from its reference, in the words of a sentence."""
Reference = Literal["session", "so far", "population"]
"""What a quantity is compared with."""

STRENGTHS: tuple[Strength, ...] = ("strong", "plain", "slight")
"""From the largest deviation to the smallest."""

STRONG, SLIGHT = 1.5, 1.0
"""Deviations in standard deviations: from the first on a claim is strong, below the second it is slight."""

REFERENCE_OF: dict[Adaptation, Reference] = {
    "none": "population",
    "causal": "so far",
    "transductive-unlabelled": "session",
}
"""The reference that each rule of adaptation allows."""

DEGREES: dict[Strength, tuple[str, ...]] = {
    "plain": ("",),
    "strong": ("much", "clearly", "far", "markedly"),
    "slight": ("slightly", "a little", "somewhat"),
}
"""Words before *above* or *higher*; the first one is canonical."""

AVERAGES: dict[Reference, tuple[str, ...]] = {
    "session": ("the session average", "the average of this session", "this session's average"),
    "so far": (
        "the average so far in this session",
        "the average of this session so far",
        "this session's average so far",
    ),
    "population": ("the average person's", "the population average", "the average across people"),
}
"""Words for each reference; no two are equal, and the first one is canonical."""

NOTED: dict[Reference, str] = {"session": "", "so far": " vs so far", "population": " vs people"}
"""The same in note form."""

Wording = Literal["canonical", "varied"]
"""How claims are said in training: in the canonical form without a degree, or in any form and with their strength."""

T = TypeVar("T")

_STRENGTH_OF = {word: strength for strength, words in DEGREES.items() for word in words}
_REFERENCE_OF = {words: reference for reference, every in AVERAGES.items() for words in every}
_REGION = r"\w+(?: \w+)?"


def strength_of(deviation: float) -> Strength:
    """The word for a deviation in standard deviations."""
    size = abs(deviation)
    return "strong" if size >= STRONG else "slight" if size < SLIGHT else "plain"


def degree(strength: Strength, word: str, rng: np.random.Generator | None = None) -> str:
    """A word of direction with its degree before it: *much above*."""
    return f"{pick(DEGREES[strength], rng)} {word}".lstrip()


def pick(options: Sequence[T], rng: np.random.Generator | None) -> T:
    """The first of some options, or a random one."""
    return options[0] if rng is None else options[int(rng.integers(len(options)))]


@dataclass(frozen=True)
class Read:
    """A sentence that was found in a text.

    Attributes
    ----------
    band, region : str
        As named there, existing or not; empty where the form names none.
    above : bool
        Direction.
    strength, reference : str
        As the words say.
    span : tuple of int
        First character, and the one after the last; without a full stop.
    word_span : tuple of int
        The same of the word that gives the direction, without its degree.
    opposite : str
        The word that in its place gives the other direction.
    """

    band: str
    region: str
    above: bool
    strength: Strength
    reference: Reference
    span: tuple[int, int]
    word_span: tuple[int, int]
    opposite: str


@dataclass(frozen=True)
class Form:
    """One form of a sentence.

    Attributes
    ----------
    text : str
        Plain words without a full stop; slots ``{word}``, ``{average}`` and, where they vary, ``{band}`` and
        ``{region}``.
    words : tuple of (str, str)
        Values of ``{word}`` above and below the reference; the first pair is canonical.
    session : str
        Canonical words for the session's average in this form alone; empty for the first of `AVERAGES`.
    """

    text: str
    words: tuple[tuple[str, str], ...]
    session: str = ""

    def say(
        self,
        band: str,
        region: str,
        above: bool,
        strength: Strength,
        reference: Reference,
        rng: np.random.Generator | None = None,
    ) -> str:
        """The sentence; its words are the first ones, or drawn."""
        word = degree(strength, pick(self.words, rng)[not above], rng)
        own = (self.session,) if self.session and reference == "session" else ()
        average = pick((*own, *AVERAGES[reference]), rng)
        sentence = self.text.format(band=band, region=region, word=word, average=average)
        return f"{sentence[0].upper()}{sentence[1:]}."

    @cached_property
    def _references(self) -> dict[str, Reference]:
        own: dict[str, Reference] = {self.session: "session"} if self.session else {}
        return _REFERENCE_OF | own

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        degrees = any_of([word for word in _STRENGTH_OF if word])
        words = any_of([word for pair in self.words for word in pair])
        slots = {
            "band": r"(?P<band>\w+)",
            "region": f"(?P<region>{_REGION}?)",
            "word": f"(?:(?P<degree>{degrees}) )?(?P<word>{words})",
            "average": f"(?P<average>{any_of(list(self._references))})",
        }
        return re.compile(rf"\b{self.text.format(**slots)}(?!\w)", re.IGNORECASE)

    def find(self, text: str) -> list[Read]:
        """Every sentence of this form in a text, in order."""
        above, below = dict(self.words), {low: high for high, low in self.words}
        found = []
        for match in self._pattern.finditer(text):
            said = {name: (value or "").lower() for name, value in match.groupdict().items()}
            found.append(
                Read(
                    said.get("band", ""),
                    said.get("region", ""),
                    said["word"] in above,
                    _STRENGTH_OF[said["degree"]],
                    self._references[said["average"]],
                    match.span(),
                    match.span("word"),
                    above.get(said["word"]) or below[said["word"]],
                )
            )
        return found


def any_of(words: Sequence[str]) -> str:
    """Regular expression for any of some words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
