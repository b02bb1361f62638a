"""Chances that sum to 1."""

import numpy as np


def normalised(chances: np.ndarray) -> np.ndarray:
    """Rows (items, options) in proportion to what is given; equal where all of a row is 0."""
    above = chances + np.finfo(float).tiny
    found: np.ndarray = above / above.sum(axis=1, keepdims=True)
    return found
