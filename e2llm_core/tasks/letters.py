"""Letters that stand for the segments or the options of a question, and how answers in letters are read."""

import re
from collections.abc import Sequence

LETTERS = tuple("ABCDEFGHIJ")

_LISTED = re.compile(r"^([A-Z]): (.*)$", re.MULTILINE)
_FIRST = re.compile(r"(?:\(([A-Z])\)|([A-Z])(?=[.):\n]|$))")
_ORDER = re.compile(r"[A-Z](?:(?:\s*[,;<]\s*|\s+)(?:then\s+)?[A-Z])*\.?")


def lettered(texts: Sequence[str]) -> str:
    """Options of a question on lines of their own, each after its letter."""
    return "\n".join(f"{letter}: {text}" for letter, text in zip(LETTERS, texts, strict=False))


def unlettered(listed: str) -> tuple[str, ...]:
    """The options of a text that `lettered` wrote."""
    return tuple(text for _, text in _LISTED.findall(listed))


def named(texts: Sequence[str]) -> str:
    """How a chain of thought begins that says what each letter is: *happy is A, sad is B*."""
    return ", ".join(f"{text} is {letter}" for letter, text in zip(LETTERS, texts, strict=False))


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
