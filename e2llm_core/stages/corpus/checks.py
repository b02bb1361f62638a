"""What a corpus must not hold: windows, clips, wordings or scenarios that its stage is tested on."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from e2llm_core.stages.corpus.names import WindowNames
from e2llm_core.stages.data import EEGData
from e2llm_core.tasks.dialogue import SEGMENT
from e2llm_core.tasks.registry import TASKS
from e2llm_core.tasks.scenarios.scenario import held_out, plain
from storage.corpus import read_others
from storage.errors import InputError
from storage.splits import AXES, Split

WORDINGS = "wordings held out for evaluation"
SCENARIOS = "scenarios held out for evaluation"
_RESERVED = re.compile(r"<\|\w*\|?>?|</?think>")


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
        columns = list(AXES.values())
        known = trials.drop_duplicates(keys).set_index(keys, drop=False)[columns]
        self._known: dict[tuple[str, int], dict[str, Any]] = known.to_dict("index")
        held = [side.holds(trials) for name, side in split.sides.items() if name != "train"]
        tested = trials[pd.DataFrame(held).any().to_numpy()]
        self._tested = set(tested[keys].itertuples(index=False, name=None))
        self._values = {axis: set(tested[AXES[axis]]) for axis in split.disjoint_on}
        self._wordings = [_pattern(task.primary_wording) for task in TASKS.values() if task.primary_wording]
        self._scenarios = re.compile(rf"\b(?:{'|'.join(re.escape(one.plain) for one in held_out())})\b")

    def of(self, row: Mapping[str, Any]) -> set[str]:
        """What of it a row holds."""
        found = set()
        for window in row["windows"]:
            key = (window["recording_id"], window["trial"])
            if key in self._tested:
                found.add("windows of other sides")
            known = self._known.get(key, {})
            found |= {f"{axis}s of other sides" for axis, held in self._values.items() if known.get(AXES[axis]) in held}
        if any(wording.search(_plain(row["user"])) for wording in self._wordings):
            found.add(WORDINGS)
        said = " ".join(plain(row[column] or "") for column in ("user", "thinking", "answer"))
        if self._scenarios.search(said):
            found.add(SCENARIOS)
        return found

    @property
    def kinds(self) -> tuple[str, ...]:
        """All that is looked for."""
        return ("windows of other sides", *(f"{axis}s of other sides" for axis in self._values), WORDINGS, SCENARIOS)

    def counted(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """Number of rows that hold each."""
        counts = Counter(kind for row in rows for kind in self.of(row))
        return {kind: counts[kind] for kind in self.kinds}


def others_of(data: EEGData, name: str, content: bytes) -> list[dict[str, Any]]:
    """Read a file of others' dialogues.

    Parameters
    ----------
    data : EEGData
        Store and split that they are about.
    name : str
        Name of the file, as the rows' `source` and in errors.
    content : bytes
        Parquet, as `storage.corpus.read_others` takes it.

    Raises
    ------
    InputError
        When it cannot be read; when a row has another number of places than of windows, holds a token of chat
        templates, names a window that the training side does not have, or holds what is held out.
    """
    rows = read_others(f"others: {name}", content)
    check, names = LeakCheck(data.split, data.store.trials), WindowNames(data.windows(data.split.train))
    for number, row in enumerate(rows):
        place, places = f"others: {name}: row {number}", row["user"].count(SEGMENT)
        if places != len(row["windows"]):
            problem = f"names {len(row['windows'])} windows and has {places} times {SEGMENT} in `user`"
            raise InputError(place, problem, f"Write {SEGMENT} once for each window.")
        texts = f"{row['thinking'] or ''}{row['answer']}"
        if found := _RESERVED.findall(row["user"] + texts) or re.findall(SEGMENT, texts):
            raise InputError(place, f"holds {found[0]}", "Remove it: the family's template writes such tokens.")
        if held := check.of(row):
            remedy = "Leave it out: what is trained on it would be tested on what it has seen."
            raise InputError(place, f"holds {', '.join(sorted(held))}", remedy)
        names.numbers(row["windows"], place)
    return [row | {"source": name} for row in rows]


def _pattern(wording: str) -> re.Pattern[str]:
    """Any question in a wording, whatever stands in its places."""
    return re.compile(".+?".join(re.escape(text) for text in re.split(r"\{\w*\}", _plain(wording))))


def _plain(text: str) -> str:
    """A text without regard to case and space."""
    return " ".join(text.casefold().split())
