"""Cells of a published table: a number with its interval, formatted as text and parsed back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from storage.errors import InputError

DIGITS = 3
ABSENT = "–"
"""Printed in place of a missing number."""

_NUMBER = r"-?\d+(?:\.\d+)?"
_CELL = re.compile(rf"(?P<value>{_NUMBER})(?: \((?P<low>{_NUMBER}) to (?P<high>{_NUMBER})\))?")

Verdict = Literal["agrees", "differs", "is gone", "is new"]
Place = tuple[str, ...]
"""Position of a cell: the headings of its row, then that of its column if columns have names."""


@dataclass(frozen=True)
class Cell:
    """A number as printed, with its 95 % interval if it has one.

    Attributes
    ----------
    value, low, high
        Value and ends of the interval, rounded to `DIGITS`; both ends are None if there is no interval.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, low: float | None, high: float | None) -> Cell:
        """Make a cell of a result, rounded as it is printed."""
        if low is None or high is None:
            return cls(round(value, DIGITS))
        return cls(round(value, DIGITS), round(low, DIGITS), round(high, DIGITS))

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Parse a cell from the text that `str` gives.

        Raises
        ------
        ValueError
            When the text has another form.
        """
        match = _CELL.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a number with or without an interval, such as 0.512 (0.480 to 0.550)")
        low, high = match["low"], match["high"]
        return cls(float(match["value"]), None if low is None else float(low), None if high is None else float(high))

    def __str__(self) -> str:
        value = f"{self.value:.{DIGITS}f}"
        if self.low is None or self.high is None:
            return value
        return f"{value} ({self.low:.{DIGITS}f} to {self.high:.{DIGITS}f})"

    def agrees_with(self, value: float) -> bool:
        """Whether a reproduced number lies in this cell's interval or, without an interval, equals its value."""
        if self.low is None or self.high is None:
            return value == self.value
        return self.low <= value <= self.high


class Number(BaseModel):
    """One row of ``results`` in a summary (evaluation or cross-validation); its other keys identify the number."""

    model_config = ConfigDict(frozen=True, extra="allow")

    value: float
    ci_low: float | None = None
    ci_high: float | None = None

    def key(self, name: str, place: str) -> Any:
        """Value of one key; `place` is the table that error messages name.

        Raises
        ------
        InputError
            When results have no such key.
        """
        keys = {**dict(self), **(self.model_extra or {})}
        if name not in keys:
            raise InputError(place, f"names {name}, which no result has", f"Results have {', '.join(keys)}.")
        return keys[name]


@dataclass(frozen=True)
class Judgement:
    """Comparison of one published cell with the reproduced one; None: the cell is missing on that side."""

    place: Place
    published: Cell | None
    now: Cell | None

    @property
    def verdict(self) -> Verdict:
        """Whether the reproduced number agrees with the published cell, or on which side the cell is missing."""
        if self.published is None:
            return "is new"
        if self.now is None:
            return "is gone"
        return "agrees" if self.published.agrees_with(self.now.value) else "differs"


def judged(published: Mapping[Place, Cell], now: Mapping[Place, Cell]) -> list[Judgement]:
    """Pair the cells of a page with those of a summary: first in the page's order, then those that the page lacks."""
    places: Sequence[Place] = list(dict.fromkeys((*published, *now)))
    return [Judgement(place, published.get(place), now.get(place)) for place in places]
