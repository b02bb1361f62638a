"""The global order of training samples: a seeded permutation in O(1) memory.

Sample number `p` (counted from the start of training, over all epochs) is the same whatever the number of
workers; rank r of W takes its residue class of every global batch. The step alone says where to go on.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

_ROUNDS = 6
_MAX_SIZE = 2**62


def _mix(value: np.ndarray, key: np.uint64 | np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: a fixed hash of 64-bit integers."""
    value = (value + key) * np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = value ^ (value >> np.uint64(31))
    return mixed


@dataclass(frozen=True)
class Permutation:
    """A pseudo-random bijection of 0..size-1: a Feistel network with cycle walking.

    Parameters
    ----------
    size : int
        Number of elements, at least 1.
    seed : int
        Equal seeds give equal permutations.
    """

    size: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _MAX_SIZE:
            raise ValueError(f"size must lie in 1..{_MAX_SIZE}, got {self.size}")

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Map `positions` (int64, each in 0..size-1) to their places; same shape."""
        positions = np.asarray(positions, dtype=np.int64)
        if positions.size and not (positions.min() >= 0 and positions.max() < self.size):
            raise ValueError(f"positions must lie in 0..{self.size - 1}")
        half_bits = np.uint64(max(1, -(-(self.size - 1).bit_length() // 2)))
        values = self._encrypt(positions.astype(np.uint64), half_bits)
        while (outside := values >= np.uint64(self.size)).any():
            values[outside] = self._encrypt(values[outside], half_bits)
        return values.astype(np.int64)

    @cached_property
    def _keys(self) -> np.ndarray:
        return np.random.SeedSequence(self.seed).generate_state(_ROUNDS, np.uint64)

    def _encrypt(self, values: np.ndarray, half_bits: np.uint64) -> np.ndarray:
        mask = (np.uint64(1) << half_bits) - np.uint64(1)
        left, right = values >> half_bits, values & mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right, key) & mask)
        return (left << half_bits) | right


def mix(key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Hash uint64 `value` under uint64 `key`; broadcast."""
    return _mix(_mix(value, np.uint64(0)), key)


def permuted(places: np.ndarray, sizes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Map each position by its own permutation: as `Permutation`, for many sizes and keys at once.

    Parameters
    ----------
    places : np.ndarray
        int64 (n,), each in 0..size-1.
    sizes : np.ndarray
        int64 (n,), at least 1.
    keys : np.ndarray
        uint64 (n,) or (1,): equal sizes and keys give one permutation.

    Returns
    -------
    np.ndarray
        int64 (n,).
    """
    half_bits = np.maximum(1, -(-_bit_lengths(sizes - 1) // 2)).astype(np.uint64)
    limits, keys = sizes.astype(np.uint64), np.broadcast_to(keys, places.shape)
    values, outside = places.astype(np.uint64), np.ones(places.shape, dtype=bool)
    while outside.any():
        values[outside] = _feistel(values[outside], half_bits[outside], keys[outside])
        outside = values >= limits
    return values.astype(np.int64)


def _feistel(values: np.ndarray, half_bits: np.ndarray, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for number in range(_ROUNDS):
        left, right = right, left ^ (_mix(right, mix(keys, np.full(1, number, dtype=np.uint64))) & mask)
    joined: np.ndarray = (left << half_bits) | right
    return joined


def _bit_lengths(values: np.ndarray) -> np.ndarray:
    """Exact bit lengths of int64 values >= 0."""
    unique, inverse = np.unique(values, return_inverse=True)
    return np.array([int(value).bit_length() for value in unique], dtype=np.int64)[inverse]


class Order(Protocol):
    """Which samples are in which global batch, for the whole of training."""

    @property
    def size(self) -> int:
        """Samples per epoch."""

    def batch(self, step: int, global_batch: int) -> np.ndarray:
        """Sample ids (global_batch,) of global batch number `step`, counted from 0."""


@dataclass(frozen=True)
class SampleOrder:
    """Which sample is the p-th of training: one fresh permutation per epoch.

    Parameters
    ----------
    size : int
        Number of samples in an epoch.
    seed : int
        Seed of the whole order.
    """

    size: int
    seed: int

    def batch(self, step: int, global_batch: int) -> np.ndarray:
        """Sample ids (global_batch,) of global batch number `step`, counted from 0."""
        if not 1 <= self.size <= _MAX_SIZE:
            raise ValueError(f"size must lie in 1..{_MAX_SIZE}, got {self.size}")
        positions = np.arange(step * global_batch, (step + 1) * global_batch, dtype=np.int64)
        epochs, within = np.divmod(positions, self.size)
        ids = np.empty_like(positions)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            ids[inside] = Permutation(self.size, self._epoch_seed(int(epoch)))(within[inside])
        return ids

    def _epoch_seed(self, epoch: int) -> int:
        return int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class WrittenOrder(SampleOrder):
    """Samples that were written in the order of training: first as they are written, then a permutation per epoch."""

    def batch(self, step: int, global_batch: int) -> np.ndarray:
        """Sample ids (global_batch,) of global batch number `step`, counted from 0."""
        positions = np.arange(step * global_batch, (step + 1) * global_batch, dtype=np.int64)
        return np.where(positions < self.size, positions, super().batch(step, global_batch))
