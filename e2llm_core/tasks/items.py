"""The items of a task: which windows each shows, and what is true of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from storage.windows import Windows

Condition = Literal["eeg", "random_eeg", "text_alone"]
"""What is shown: the EEG, noise in its place, or nothing but the text of the question."""
EEG: Condition = "eeg"
RANDOM_EEG: Condition = "random_eeg"
TEXT_ALONE: Condition = "text_alone"

SEGMENT_FIELDS = ("recording_id", "subject", "session", "trial", "clip", "start", "stop", "position")
"""What is known of each segment that an item shows; `start` and `stop` in samples, `position` of its trial."""


@dataclass(frozen=True)
class Items:
    """Items of one task.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per item: item_id; subject and session, of its first segment; segments, a list with a dict of
        `SEGMENT_FIELDS` for each; label, the true answer; listed, if the question differs from item to item, what it
        says in the place of `LISTED`.
    windows : np.ndarray
        int64 (items, segments): numbers of the windows that each item shows.
    """

    table: pd.DataFrame
    windows: np.ndarray

    @property
    def listed(self) -> tuple[str, ...]:
        """Each item's own part of the question; empty if all are asked the same."""
        return tuple(self.table["listed"]) if "listed" in self.table else ()

    @classmethod
    def of(
        cls, source: Windows, windows: np.ndarray, truth: Sequence[str] | np.ndarray, listed: Sequence[str] = ()
    ) -> "Items":
        """Items that show these windows (items, segments) of one side; what is drawn may be drawn twice."""
        shown = source.describe(windows.ravel())
        names = shown["recording_id"] + "/" + shown["trial"].astype(str) + "/" + shown["start"].astype(str)
        ids = ["+".join(row) for row in names.to_numpy().reshape(windows.shape)]
        if windows.shape[1] > 1 or len(listed):
            ids = [f"{name}#{number}" for number, name in enumerate(ids)]
        known = shown[list(SEGMENT_FIELDS)].to_dict("records")
        width = windows.shape[1]
        segments = [known[first : first + width] for first in range(0, len(known), width)]
        firsts = shown.iloc[::width][["subject", "session"]].reset_index(drop=True)
        table = firsts.assign(item_id=ids, segments=pd.Series(segments, dtype=object), label=np.asarray(truth, object))
        return cls(table if len(listed) == 0 else table.assign(listed=listed), windows)

    def taken(self, numbers: np.ndarray) -> "Items":
        """Some of the items."""
        return Items(self.table.iloc[numbers].reset_index(drop=True), self.windows[numbers])


def every_window(source: Windows) -> Items:
    """Every window, whose label is the answer."""
    numbers = np.arange(len(source))
    return Items.of(source, numbers[:, None], source.table["label"].to_numpy())


def shown(items: pd.DataFrame, place: int = 0) -> pd.DataFrame:
    """The segments in one place of all items: a row each, with the columns `SEGMENT_FIELDS`."""
    return pd.DataFrame([segments[place] for segments in items["segments"]])
