"""Balanced orders of training samples: strata in turn, a seeded permutation inside each, in O(trials) memory.

As with `SampleOrder`, sample number `p` is the same whatever the number of workers, and the step alone resumes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from storage.sampling.order import Order, SampleOrder, mix, permuted

Balance = Literal["none", "class", "subject", "class-and-subject"]
_COLUMNS: dict[Balance, list[str]] = {
    "class": ["label_id"],
    "subject": ["subject"],
    "class-and-subject": ["subject", "label_id"],
}


class Strata:
    """Windows grouped by a property of their trials; known by prefix sums over trials alone.

    Parameters
    ----------
    codes : np.ndarray
        int (n_trials,): stratum 0..n-1 of each trial, in the order in which windows are numbered.
    counts : np.ndarray
        int (n_trials,): windows of each trial.
    """

    def __init__(self, codes: np.ndarray, counts: np.ndarray) -> None:
        codes, counts = np.asarray(codes, dtype=np.int64), np.asarray(counts, dtype=np.int64)
        if codes.shape != counts.shape or codes.ndim != 1:
            raise ValueError(f"{codes.shape} codes for {counts.shape} counts")
        if not counts.sum():
            raise ValueError("no window to draw")
        order = np.argsort(codes, kind="stable")
        order = order[counts[order] > 0]
        self._ends = np.cumsum(counts[order])
        self._begins = self._ends - counts[order]
        self._first_window = (np.cumsum(counts) - counts)[order]
        places = np.flatnonzero(np.diff(codes[order], prepend=-1))
        self._bases = self._begins[places]
        self.sizes: np.ndarray = np.diff(self._bases, append=self._ends[-1])
        """int64 (n_strata,): windows of each stratum that has any."""

    def __len__(self) -> int:
        return len(self.sizes)

    def windows(self, strata: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Window numbers of the `places`-th windows (from 0) of `strata`; int64, same shape."""
        rank = self._bases[strata] + places
        trial = np.searchsorted(self._ends, rank, side="right")
        found: np.ndarray = self._first_window[trial] + (rank - self._begins[trial])
        return found


def sample_of_strata(strata: Strata, most: int, least: int, seed: int) -> np.ndarray:
    """Draw windows without return, from each stratum in proportion to its size.

    Parameters
    ----------
    strata : Strata
        Windows by stratum.
    most : int
        Windows in all, up to one more for each stratum, and whatever `least` adds.
    least : int
        Smallest number from each stratum that has as many.
    seed : int
        Equal seeds give equal samples.

    Returns
    -------
    np.ndarray
        int64 window numbers, ascending, each once.
    """
    sizes = strata.sizes
    counts = np.minimum(sizes, np.maximum(least, -(-sizes * most // sizes.sum())))
    chosen = np.repeat(np.arange(len(sizes)), counts)
    places = np.arange(len(chosen)) - np.repeat(np.cumsum(counts) - counts, counts)
    keys = mix(np.random.SeedSequence(seed).generate_state(1, np.uint64), chosen.astype(np.uint64))
    return np.sort(strata.windows(chosen, permuted(places, sizes[chosen], keys)))


@dataclass(frozen=True)
class BalancedOrder:
    """Strata take turns; each shows all its samples once, in a seeded order, before it shows one again.

    A round is one sample of every stratum, in an order of its own. An epoch is the smallest number of whole rounds with
    as many samples as there are: all strata appear in it equally often.

    Parameters
    ----------
    strata : Strata
        Windows by stratum.
    seed : int
        Seed of the whole order.
    repeats : int
        Samples per window: sample id ``r * num_windows + window`` is repeat `r` of a window.
    """

    strata: Strata
    seed: int
    repeats: int = 1

    @property
    def size(self) -> int:
        """Samples per epoch: whole rounds."""
        total = int(self.strata.sizes.sum()) * self.repeats
        return -(-total // len(self.strata)) * len(self.strata)

    def batch(self, step: int, global_batch: int) -> np.ndarray:
        """Sample ids (global_batch,) of global batch number `step`, counted from 0."""
        positions = np.arange(step * global_batch, (step + 1) * global_batch, dtype=np.int64)
        rounds, turns = np.divmod(positions, len(self.strata))
        strata = self._turns(rounds, turns)
        sizes = self.strata.sizes[strata] * self.repeats
        cycles, places = np.divmod(rounds, sizes)
        keys = mix(mix(self._key, strata.astype(np.uint64)), cycles.astype(np.uint64))
        drawn = permuted(places, sizes, keys)
        repeat, place = np.divmod(drawn, self.strata.sizes[strata])
        ids: np.ndarray = repeat * int(self.strata.sizes.sum()) + self.strata.windows(strata, place)
        return ids

    @cached_property
    def _key(self) -> np.ndarray:
        return np.random.SeedSequence([self.seed, 1]).generate_state(1, np.uint64)

    def _turns(self, rounds: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """Which stratum has this turn of this round."""
        sizes = np.full(len(turns), len(self.strata), dtype=np.int64)
        return permuted(turns, sizes, mix(self._key + np.uint64(1), rounds.astype(np.uint64)))


def training_order(
    balance: Balance, trials: pd.DataFrame, counts: np.ndarray | Sequence[int], seed: int, repeats: int = 1
) -> Order:
    """Order in which windows train.

    Parameters
    ----------
    balance : str
        What appears equally often: nothing in particular, classes, subjects, or classes within subjects.
    trials : pandas.DataFrame
        One row per trial, with `subject` and `label_id`, in the order of the windows.
    counts : array of int
        Windows of each trial.
    seed : int
        Seed of the whole order.
    repeats : int
        Samples per window, as in `BalancedOrder`.
    """
    counts = np.asarray(counts, dtype=np.int64)
    if balance == "none":
        return SampleOrder(int(counts.sum()) * repeats, seed)
    codes = trials.groupby(_COLUMNS[balance], sort=True).ngroup().to_numpy()
    return BalancedOrder(Strata(codes, counts), seed, repeats)
