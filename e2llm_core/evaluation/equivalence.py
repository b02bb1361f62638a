"""Tests of equivalence: whether an interval lies within a margin of a value."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

MARGIN = 0.05
"""Largest distance at which scores between 0 and 1 count as equal."""


class Equivalent(StrEnum):
    """Whether a value is equivalent to what it is compared with."""

    YES = "yes"
    """The whole interval lies within the margin."""
    NO = "no"
    """The whole interval lies outside the margin."""
    CANNOT_TELL = "cannot tell"
    """The interval lies partly within the margin, or there is no interval."""


Unit = Literal["subjects", "clips"]
"""What an interval treats as the sample."""


def judged_over(disjoint_on: Iterable[str]) -> Unit:
    """Unit of a verdict's interval: clips if the split tests known subjects on new clips, otherwise subjects.

    Parameters
    ----------
    disjoint_on
        Axes on which the split's sides are disjoint.
    """
    axes = set(disjoint_on)
    return "clips" if "clip" in axes and "subject" not in axes else "subjects"


def equivalence(low: float | None, high: float | None, centre: float, margin: float = MARGIN) -> Equivalent:
    """Judge whether an interval lies within a margin around a value; a wide interval is inconclusive.

    With a 95 % interval this is stricter than two one-sided tests at 5 %, which ask for the 90 % interval
    (Schuirmann, 1987).

    Parameters
    ----------
    low, high
        Ends of the interval; null if there is none.
    centre
        Expected value.
    margin
        Largest distance from `centre` that counts as equal.
    """
    if low is None or high is None:
        return Equivalent.CANNOT_TELL
    if centre - margin <= low and high <= centre + margin:
        return Equivalent.YES
    if high < centre - margin or centre + margin < low:
        return Equivalent.NO
    return Equivalent.CANNOT_TELL
