"""Letters that stand for the segments or the options of a question, and how answers in letters are read."""

import re
from collections.abc import Sequence

LETTERS = ("A", "B", "C", "D", "E")

_FIRST = re.compile(r"(?:\(([A-Z])\)|([A-Z])(?=[.):\n]|$))")
_ORDER = re.compile(r"[A-Z](?:(?:\s*[,;<]\s*|\s+)(?:then\s+)?[A-Z])*\.?")


def letter_of(answer: str, options: Sequence[str]) -> str | None:
    """The letter that an answer begins with: of *A. The EEG shows...* it is A, of *A person...* it is none.

    An answer that begins with anything else is none of them, even where it names a letter later.
    """
    found = _FIRST.match(answer.strip())
    letter = (found[1] or found[2]) if found else None
    return letter if letter in options else None


def order_of(answer: str, options: Sequence[str]) -> str | None:
    """The order that an answer gives as letters and what separates them, and nothing else."""
    text = answer.strip()
    if not _ORDER.fullmatch(text):
        return None
    order = ", ".join(re.findall(r"[A-Z]", text))
    return order if order in options else None
