"""The items of each task: tables of windows and of pairs, and the segments behind them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from e2llm_core.language.dialogues import DIFFERENT, SAME
from e2llm_core.language.pairs import pairs_of
from storage.windows import Windows


@dataclass(frozen=True)
class Items:
    """Items of one task and the window numbers (items, segments) that they show."""

    table: pd.DataFrame
    windows: np.ndarray

    def segments(self, source: Windows, start: int, stop: int) -> np.ndarray:
        """float32 (items, segments, n_chans, n_times) of items `start`..`stop`."""
        numbers = self.windows[start:stop]
        read = source.read(numbers.ravel())
        return read.reshape(*numbers.shape, *read.shape[1:])


def window_items(source: Windows) -> Items:
    """Every window, asked for its label."""
    table = source.table
    ids = table["recording_id"] + "/" + table["trial"].astype(str) + "/" + table["start"].astype(str)
    return Items(table.assign(item_id=ids), np.arange(len(source))[:, None])


def pair_items(source: Windows, number: int, seed: int) -> Items:
    """A balanced, fixed list of pairs; see `e2llm_core.language.pairs.PairSampler`."""
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


def random_segments(count: int, like: Windows, seed: int) -> np.ndarray:
    """Noise in place of EEG: white within 0.5-50 Hz, at the amplitude of the first windows' channels.

    Returns
    -------
    np.ndarray
        float32 (count, n_chans, n_times) in the unit of `like`.
    """
    rng = np.random.default_rng([seed, count])
    amplitude = like.read(np.arange(min(32, len(like)))).std(axis=(0, 2))
    noise = rng.normal(size=(count, len(like.channels), like.n_times)).astype(np.float32)
    freqs = np.fft.rfftfreq(like.n_times, 1 / like.sfreq_hz)
    band = (freqs >= 0.5) & (freqs < 50.0)
    shaped = np.fft.irfft(np.fft.rfft(noise) * band, like.n_times)
    return (shaped / shaped.std() * amplitude[:, None]).astype(np.float32)
