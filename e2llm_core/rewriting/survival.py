"""Whether a rewriting still says what the rationale said: every claim, and no more."""

import re
from collections import Counter
from collections.abc import Sequence

from e2llm_core.claims.claims import statements_in

MOST_GROWTH = 4
"""A rewriting may be so many times as long as the rationale."""

_MARKUP = re.compile(r"[<>\[\]{}|`*#]")
_NEGATIONS = re.compile(
    r"\b(?:no|not|never|neither|nor|none|without|cannot|hardly|barely|unlike|unlikely|false|wrong|untrue|instead"
    r"|doubt\w*|den(?:y|ies|ied)|contrary|opposite|except|if|unless|whether|would|might|may|could|perhaps)\b|n['’]t\b",
    re.IGNORECASE,
)
"""Words that can turn a sentence into its opposite, or into a guess."""


def lost_in(rewriting: str, rationale: str, labels: Sequence[str]) -> str | None:
    """Say why a rewriting cannot take a rationale's place; None where it can.

    Parameters
    ----------
    rewriting, rationale
        The two texts.
    labels
        All labels of the data set.

    Returns
    -------
    str or None
        It is empty or holds markup, is too long, has other claims, says something of the signal that cannot be read,
        names other labels, or has words that negate or weaken and that the rationale lacks.
    """
    if not rewriting.strip():
        return "is empty"
    if _MARKUP.search(rewriting):
        return "holds markup"
    if len(rewriting) > MOST_GROWTH * len(rationale):
        return "is too long"
    before, after = statements_in(rationale), statements_in(rewriting)
    if Counter(after.claims) != Counter(before.claims):
        return "has other claims"
    if after.unreadable > before.unreadable:
        return "says what cannot be checked"
    if _named(rewriting, labels) != _named(rationale, labels):
        return "names other labels"
    if _words(_NEGATIONS, rewriting) - _words(_NEGATIONS, rationale):
        return "negates or weakens"
    return None


def _named(text: str, labels: Sequence[str]) -> set[str]:
    """Labels that a text names, also with an ending: *sadness* names *sad*."""
    stems = {label: rf"{re.escape(label[:-1])}[yi]" if label.endswith("y") else re.escape(label) for label in labels}
    return {label for label, stem in stems.items() if re.search(rf"\b{stem}\w*", text, re.IGNORECASE)}


def _words(pattern: re.Pattern[str], text: str) -> Counter[str]:
    return Counter(word.lower() for word in pattern.findall(text))
