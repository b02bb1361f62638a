"""Scenarios by state and family, those that a text corpus holds apart from those that are tested."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from storage.errors import InputError

_HERE = Path(__file__).parent
_TAUGHT, _HELD_OUT = _HERE / "taught.toml", _HERE / "held_out.toml"


@dataclass(frozen=True)
class Scenario:
    """What happens to a person.

    Attributes
    ----------
    state : str
        State that most people would be in.
    family : str
        Family of scenarios that it is one of, such as *wedding*.
    text : str
        Continues *A person ...*.
    """

    state: str
    family: str
    text: str

    @property
    def plain(self) -> str:
        """The text without regard to case, space and punctuation."""
        return plain(self.text)


def plain(text: str) -> str:
    """A text without regard to case, space and punctuation."""
    return " ".join(re.sub(r"[^\w\s]", "", text.casefold()).split())


def read_scenarios(path: Path) -> tuple[Scenario, ...]:
    """Read a file of scenarios: TOML with a table for each state, which holds a list of texts for each family.

    Raises
    ------
    InputError
        If it is no such file, or holds a text twice.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        found = tuple(
            Scenario(state, family, _text(text))
            for state, families in content.items()
            for family, texts in families.items()
            for text in texts
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError, TypeError) as error:
        remedy = "Write a table for each state, with a list of texts for each family."
        raise InputError(f"scenarios {path}", f"is no file of scenarios: {error}", remedy) from error
    seen: set[str] = set()
    for scenario in found:
        if scenario.plain in seen:
            raise InputError(f"scenarios {path}", f"holds twice: {scenario.text}", "Remove one of them.")
        seen.add(scenario.plain)
    return found


@cache
def taught() -> tuple[Scenario, ...]:
    """Scenarios that the text corpus holds."""
    return read_scenarios(_TAUGHT)


@cache
def held_out() -> tuple[Scenario, ...]:
    """Scenarios that evaluation asks about.

    Raises
    ------
    InputError
        If the text corpus holds one of them.
    """
    return untaught(read_scenarios(_HELD_OUT), str(_HELD_OUT))


def untaught(scenarios: Sequence[Scenario], place: str) -> tuple[Scenario, ...]:
    """The same scenarios, none of which the text corpus may hold.

    Raises
    ------
    InputError
        Naming the first that it holds.
    """
    known = {scenario.plain for scenario in taught()}
    for scenario in scenarios:
        if scenario.plain in known:
            problem = f"training knows: {scenario.text}"
            raise InputError(
                f"scenarios {place}", problem, "Ask about another scenario: this one is in the text corpus."
            )
    return tuple(scenarios)


def taught_families() -> frozenset[tuple[str, str]]:
    """State and family of all that the text corpus holds."""
    return frozenset((scenario.state, scenario.family) for scenario in taught())


def _text(text: object) -> str:
    if not isinstance(text, str) or not text.strip() or "\n" in text or ";" in text:
        raise TypeError(f"{text!r} is not a line of text without a semicolon")
    return text
