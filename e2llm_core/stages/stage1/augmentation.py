"""Augmentation of stage 1: random polarity and circular shift in time, each window by its own seed."""

from collections.abc import Sequence

import numpy as np

Seeds = Sequence[Sequence[int]]


def augmented(signal: np.ndarray, seeds: Seeds | None) -> np.ndarray:
    """Give windows (batch, n_chans, n_times) a random polarity and circular shift each; None for none."""
    if seeds is None:
        return signal
    draws = [np.random.default_rng(seed).integers([2, signal.shape[-1]]) for seed in seeds]
    moved = [np.roll(row, shift, axis=-1) * (1 - 2 * sign) for row, (sign, shift) in zip(signal, draws, strict=True)]
    return np.stack(moved).astype(np.float32)
