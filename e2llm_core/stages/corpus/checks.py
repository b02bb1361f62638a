"""What a corpus must not hold: windows, clips or wordings that its stage is tested on."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from e2llm_core.tasks.dialogue import SEGMENT
from e2llm_core.tasks.registry import TASKS
from storage.errors import InputError
from storage.splits import AXES, Split

WORDINGS = "wordings held out for evaluation"


class LeakCheck:
    """Counts rows that hold what is held out.

    Parameters
    ----------
    split : Split
        Sides of the store.
    trials : pandas.DataFrame
        All trials of the store.
    """

    def __init__(self, split: Split, trials: pd.DataFrame) -> None:
        keys = ["recording_id", "trial"]
        self._known = trials.set_index(keys)[list({*AXES.values()} - {"recording_id"})]
        held = [side.holds(trials) for name, side in split.sides.items() if name != "train"]
        tested = trials[pd.DataFrame(held).any().to_numpy()]
        self._tested = set(tested[keys].itertuples(index=False, name=None))
        self._values = {axis: set(tested[AXES[axis]]) for axis in split.disjoint_on}
        self._wordings = [_pattern(task.primary_wording) for task in TASKS.values() if task.primary_wording]

    def of(self, row: Mapping[str, Any]) -> set[str]:
        """What of it a row holds."""
        found = set()
        for window in row["windows"]:
            key = (window["recording_id"], window["trial"])
            if key in self._tested:
                found.add("windows of other sides")
            known = self._known.loc[key] if key in self._known.index else None
            for axis, values in self._values.items():
                value = key[0] if axis == "recording" else None if known is None else known[AXES[axis]]
                if value in values:
                    found.add(f"{axis}s of other sides")
        if any(wording.fullmatch(row["user"]) for wording in self._wordings):
            found.add(WORDINGS)
        return found

    @property
    def kinds(self) -> tuple[str, ...]:
        """All that is looked for."""
        return ("windows of other sides", *(f"{axis}s of other sides" for axis in self._values), WORDINGS)

    def counted(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """Number of rows that hold each."""
        counts = Counter(kind for row in rows for kind in self.of(row))
        return {kind: counts[kind] for kind in self.kinds}


def check_others(rows: Iterable[Mapping[str, Any]], place: str, check: LeakCheck) -> None:
    """Refuse others' dialogues that cannot be trained on.

    Raises
    ------
    InputError
        When a row shows another number of windows than it has places for, or holds what is held out.
    """
    for number, row in enumerate(rows):
        if row["user"].count(SEGMENT) != len(row["windows"]):
            raise InputError(
                f"{place}: row {number}",
                f"names {len(row['windows'])} windows and has {row['user'].count(SEGMENT)} times {SEGMENT} in `user`",
                f"Write {SEGMENT} once for each window.",
            )
        if found := check.of(row):
            raise InputError(
                f"{place}: row {number}",
                f"holds {', '.join(sorted(found))}",
                "Leave it out: what is trained on it would be tested on what it has seen.",
            )


def _pattern(wording: str) -> re.Pattern[str]:
    """Any question in a wording, whatever stands in its places."""
    return re.compile(".+?".join(re.escape(text) for text in re.split(r"\{\w*\}", wording)), re.DOTALL)
