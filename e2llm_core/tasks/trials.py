"""Windows of trials, for tasks that draw trials."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd

from storage.windows import Windows

Group = TypeVar("Group")
TrialKey = tuple[str, str, int]
"""Subject, session and number of a trial."""


class TrialWindows:
    """The windows of one side of a split, by trial.

    Parameters
    ----------
    trials : pandas.DataFrame
        One row per trial, or per part of one, in the order of the windows: subject, session, trial and others.
    counts : np.ndarray
        Windows of each row; they are numbered in its order.

    Attributes
    ----------
    table : pandas.DataFrame
        The trials that have windows, a row each.
    """

    def __init__(self, trials: pd.DataFrame, counts: np.ndarray) -> None:
        parts = trials.assign(count=counts, first=np.cumsum(counts) - counts)
        parts = parts[parts["count"] > 0]
        self._parts = {
            key: (rows["first"].to_numpy(), rows["count"].to_numpy().cumsum())
            for key, rows in parts.groupby(["subject", "session", "trial"])
        }
        self.table = parts.drop_duplicates(["subject", "session", "trial"])

    @classmethod
    def of(cls, windows: Windows) -> "TrialWindows":
        """The same of some windows."""
        return cls(windows.trials, np.diff(windows.ends, prepend=0))

    def by_session(self, group_of: Callable[[str], Group]) -> list[dict[Group, list[TrialKey]]]:
        """Trials of each session, by the group that their label is in."""
        sessions = []
        for key, rows in self.table.groupby(["subject", "session"]):
            groups: dict[Group, list[TrialKey]] = {}
            for trial, label in zip(rows["trial"], rows["label"], strict=True):
                groups.setdefault(group_of(label), []).append((*key, trial))
            sessions.append(groups)
        return sessions

    def draw(self, trial: TrialKey, rng: np.random.Generator) -> int:
        """Draw any window of a trial."""
        firsts, ends = self._parts[trial]
        place = rng.integers(ends[-1])
        part = np.searchsorted(ends, place, side="right")
        return int(firsts[part] + place - (ends[part - 1] if part else 0))
