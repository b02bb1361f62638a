"""Names of windows that do not depend on the side of a split: recording, trial, and number within the trial."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from storage.errors import InputError
from storage.windows import Windows

_KEYS = ["recording_id", "trial"]


class WindowNames:
    """Translates between numbers and names of the windows of one side.

    Parameters
    ----------
    windows : Windows
        Windows of the side.
    """

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        counts = np.diff(windows.ends, prepend=0)
        rows = windows.trials[_KEYS].assign(first=windows.ends - counts, count=counts)
        self._parts: Mapping[tuple[str, int], pd.DataFrame] = {
            (str(key[0]), int(str(key[1]))): part for key, part in rows[rows["count"] > 0].groupby(_KEYS)
        }
        """Rows of each trial, in time; damage that is left out divides a trial."""

    def named(self, number: int) -> dict[str, Any]:
        """Name of a window, as `storage.corpus.WINDOW` has it."""
        trial = self._windows.trials.iloc[int(self._windows.locate([number])[0][0])]
        part = self._parts[str(trial["recording_id"]), int(trial["trial"])]
        firsts, counts = part["first"].to_numpy(), part["count"].to_numpy()
        row = int(np.searchsorted(firsts, number, side="right")) - 1
        window = int(counts[:row].sum() + number - firsts[row])
        return {"recording_id": str(trial["recording_id"]), "trial": int(trial["trial"]), "window": window}

    def numbers(self, names: Iterable[Mapping[str, Any]], place: str) -> tuple[int, ...]:
        """Numbers of named windows.

        Raises
        ------
        InputError
            When one of them is not among these windows; `place` is where it is named.
        """
        return tuple(self._number(name, place) for name in names)

    def _number(self, name: Mapping[str, Any], place: str) -> int:
        part = self._parts.get((name["recording_id"], name["trial"]))
        ends = np.zeros(1, dtype=int) if part is None else part["count"].to_numpy().cumsum()
        if part is None or not 0 <= name["window"] < ends[-1]:
            raise InputError(
                place,
                f"names a window that the training side does not have: recording {name['recording_id']}, "
                f"trial {name['trial']}, window {name['window']}",
                "Name windows of the split's training side, numbered from 0 within their trial.",
            )
        row = int(np.searchsorted(ends, name["window"], side="right"))
        before = int(ends[row - 1]) if row else 0
        return int(part["first"].iloc[row]) + int(name["window"]) - before
