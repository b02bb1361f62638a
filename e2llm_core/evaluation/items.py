"""The items of each task: tables of windows and of pairs, and the segments behind them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from e2llm_core.tasks.dialogues import DIFFERENT, SAME
from e2llm_core.tasks.pairs import pairs_of
from storage.windows import Windows

Condition = Literal["eeg", "random_eeg"]
"""What is shown: the EEG, or noise in its place."""
EEG: Condition = "eeg"
RANDOM_EEG: Condition = "random_eeg"
_AMPLITUDE_WINDOWS = 32


@dataclass(frozen=True)
class Request:
    """Some items of one task by their numbers; the signal is read where they are answered.

    Attributes
    ----------
    condition : str
        ``eeg`` or ``random_eeg``.
    items : np.ndarray
        int64 (items,): numbers within the task.
    windows : np.ndarray
        int64 (items, segments): numbers of the windows that each item shows.
    """

    condition: Condition
    items: np.ndarray
    windows: np.ndarray


@dataclass(frozen=True)
class Items:
    """Items of one task and the window numbers (items, segments) that they show."""

    table: pd.DataFrame
    windows: np.ndarray

    def requests(self, condition: Condition, size: int) -> list[Request]:
        """All items, `size` at a time."""
        numbers = np.arange(len(self.windows))
        starts = range(0, len(numbers), size)
        return [Request(condition, numbers[at : at + size], self.windows[at : at + size]) for at in starts]


def window_items(source: Windows) -> Items:
    """Every window, asked for its label."""
    table = source.table
    ids = table["recording_id"] + "/" + table["trial"].astype(str) + "/" + table["start"].astype(str)
    return Items(table.assign(item_id=ids), np.arange(len(source))[:, None])


def pair_items(source: Windows, number: int, seed: int) -> Items:
    """A balanced, fixed list of pairs; see `e2llm_core.tasks.pairs.PairSampler`."""
    table = window_items(source).table
    pairs = pairs_of(source).balanced(number, seed)
    first = table.iloc[pairs["first"]].reset_index(drop=True)
    second = table.iloc[pairs["second"]].reset_index(drop=True)
    items = first.assign(
        item_id=first["item_id"] + "+" + second["item_id"] + "#" + pairs.index.astype(str),
        label=np.where(pairs["same"], SAME, DIFFERENT),
        trial_b=second["trial"],
        start_b=second["start"],
        stop_b=second["stop"],
        position_b=second["position"],
    )
    return Items(items, pairs[["first", "second"]].to_numpy())


class Noise:
    """What is shown in place of EEG: white within 0.5-50 Hz, at the amplitude of the first windows' channels.

    An item's noise follows from the seed, the item's number, the place in it and the number of its segments alone: it
    is the same in any request and on any replica.

    Parameters
    ----------
    like : Windows
        The EEG.
    seed : int
        Of the evaluation.
    """

    def __init__(self, like: Windows, seed: int) -> None:
        self._like, self._seed = like, seed
        freqs = np.fft.rfftfreq(like.n_times, 1 / like.sfreq_hz)
        self._band = ((freqs >= 0.5) & (freqs < 50.0)).astype(np.float32)

    @cached_property
    def _gain(self) -> np.ndarray:
        """float32 (n_chans, 1): from white noise in the band to the amplitude of the EEG."""
        amplitude = self._like.read(np.arange(min(_AMPLITUDE_WINDOWS, len(self._like)))).std(axis=(0, 2))
        weights = np.full(len(self._band), 2.0)  # of a frequency and its mirror image
        weights[0] = 1.0
        if self._like.n_times % 2 == 0:
            weights[-1] = 1.0
        kept = float(weights @ self._band) / self._like.n_times
        return (amplitude / np.sqrt(kept)).astype(np.float32)[:, None]

    def segments(self, request: Request) -> np.ndarray:
        """float32 (items, segments, n_chans, n_times) in the unit of the EEG."""
        shape = (len(self._like.channels), self._like.n_times)
        made = np.empty((*request.windows.shape, *shape), dtype=np.float32)
        for row, item in enumerate(request.items):
            for place in range(made.shape[1]):
                rng = np.random.default_rng([self._seed, made.shape[1], int(item), place])
                white = rng.standard_normal(shape, dtype=np.float32)
                made[row, place] = np.fft.irfft(np.fft.rfft(white) * self._band, self._like.n_times) * self._gain
        return made
