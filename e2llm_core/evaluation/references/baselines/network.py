"""Baselines that consist of a small convolutional network, trained on the signal of the windows.

Settings are fixed, and published with the networks' papers; the validation side decides when training ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from e2llm_core.evaluation.references.baselines.base import Baseline, Fitted
from e2llm_core.evaluation.references.windows import BaselineWindows
from storage.windows import Windows

SFREQ_HZ = 128.0
"""Rate that signals with a higher sampling rate are resampled to, as in EEGNet's paper."""
BATCH = 64
MAX_EPOCHS = 40
PATIENCE = 6
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-3
_KEPT_BYTES = 1 << 30


class Network(nn.Module, ABC):
    """A network from windows (batch, n_chans, n_times) to logits (batch, labels)."""

    @abstractmethod
    def forward(self, eeg_BCT: Tensor) -> Tensor:
        """Logits (batch, labels) of windows."""

    def constrain(self) -> None:
        """Apply the paper's limits on the weights, after a step."""


Build = Callable[[int, int, int, float], Network]
"""From n_chans, n_times, labels and the sampling rate in hertz to a network."""


class Signals:
    """Windows of one side at `SFREQ_HZ`; the first ones are kept in memory, the others are read each time.

    Parameters
    ----------
    windows : Windows
        Windows as the model sees them.
    kept_bytes : int
        Memory in bytes for the windows that are kept.
    """

    def __init__(self, windows: Windows, kept_bytes: int = _KEPT_BYTES) -> None:
        self._windows = windows
        ratio = _ratio(windows.sfreq_hz)
        self._up, self._down = ratio.numerator, ratio.denominator
        self.sfreq_hz = windows.sfreq_hz * float(ratio)
        self.shape = (len(windows.channels), -(-windows.n_times * self._up // self._down))
        number = min(len(windows), kept_bytes // (4 * self.shape[0] * self.shape[1]))
        self._kept = np.empty((number, *self.shape), dtype=np.float32)
        self._there = np.zeros(number, dtype=bool)

    def __len__(self) -> int:
        return len(self._windows)

    def read(self, ids: NDArray[np.int64]) -> Tensor:
        """float32 (batch, n_chans, n_times)."""
        read = np.empty((len(ids), *self.shape), dtype=np.float32)
        kept = ids < len(self._kept)
        kept[kept] = self._there[ids[kept]]
        read[kept] = self._kept[ids[kept]]
        if not kept.all():
            new = ids[~kept]
            read[~kept] = fresh = self._resampled(self._windows.read(new))
            room = new < len(self._kept)
            self._kept[new[room]], self._there[new[room]] = fresh[room], True
        return torch.from_numpy(read)

    def _resampled(self, eeg: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._up == self._down:
            return eeg
        return np.asarray(resample_poly(eeg, self._up, self._down, axis=-1, padtype="line"), dtype=np.float32)


class FittedNetwork(Fitted):
    """A trained network."""

    def __init__(self, name: str, windows: BaselineWindows, network: Network) -> None:
        super().__init__(name, windows)
        self.network = network
        self._probabilities: dict[str, NDArray[np.floating]] = {}

    def probabilities(self, side: str) -> NDArray[np.floating]:
        """Softmax (windows, labels) of a side's logits."""
        if side not in self._probabilities:
            signals = Signals(self.windows.data.windows(self.windows.sides[side]), kept_bytes=0)
            self._probabilities[side] = _logits(self.network, signals).double().softmax(dim=-1).numpy()
        return self._probabilities[side]


@dataclass(frozen=True)
class NetworkBaseline(Baseline):
    """A network that is trained with Adam until the validation loss no longer falls; its best epoch is kept.

    The loss is cross-entropy, with classes weighted by their inverse frequency. On a CPU, the same seed gives the same
    network.

    Attributes
    ----------
    build : callable
        Builds the network, see `Build`.
    max_epochs, patience : int
        Largest number of epochs, and the number of epochs without a lower validation loss that ends training.
    """

    build: Build
    max_epochs: int = MAX_EPOCHS
    patience: int = PATIENCE

    def check(self, n_chans: int, n_times: int, sfreq_hz: float) -> None:
        """Refuse windows that are shorter than the network's filters and pools."""
        ratio = _ratio(sfreq_hz)
        try:
            self.build(n_chans, -(-n_times * ratio.numerator // ratio.denominator), 2, sfreq_hz * float(ratio))
        except RuntimeError as error:
            raise ValueError(f"{n_times / sfreq_hz:g} s is shorter than the network's filters and pools") from error

    def fit(self, name: str, windows: BaselineWindows, truth: NDArray[np.object_]) -> FittedNetwork:
        """Train on the training rows; the validation rows choose the epoch."""
        signals, targets = {}, {}
        for side in ("train", "validation"):
            signals[side] = Signals(windows.data.windows(windows.sides[side]), _KEPT_BYTES // 2)
            codes = [windows.labels.index(label) for label in truth[windows.masks[side]]]
            targets[side] = torch.tensor(codes)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(windows.seed)
            shape, sfreq_hz = signals["train"].shape, signals["train"].sfreq_hz
            network = self.build(*shape, len(windows.labels), sfreq_hz)
            self._train(network, signals, targets, len(windows.labels), windows.seed)
        return FittedNetwork(name, windows, network.eval())

    def _train(
        self, network: Network, signals: dict[str, Signals], targets: dict[str, Tensor], num_labels: int, seed: int
    ) -> None:
        weights = _balanced(targets["train"], num_labels)
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        best, lowest, waited = _copy(network), float("inf"), 0
        for epoch in range(self.max_epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(targets["train"]))
            network.train()
            for ids in _batches(order):
                loss = cross_entropy(network(signals["train"].read(ids)), targets["train"][ids], weights)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                network.constrain()
            reached = float(cross_entropy(_logits(network, signals["validation"]), targets["validation"], weights))
            best, lowest, waited = (_copy(network), reached, 0) if reached < lowest else (best, lowest, waited + 1)
            if waited >= self.patience:
                break
        network.load_state_dict(best)


def _ratio(sfreq_hz: float) -> Fraction:
    """Factor that brings a higher sampling rate down to `SFREQ_HZ`; 1 for a lower one."""
    return Fraction(min(SFREQ_HZ / sfreq_hz, 1.0)).limit_denominator(1000)


def _batches(order: NDArray[np.int64]) -> Sequence[NDArray[np.int64]]:
    """Batches of nearly equal size: batch normalisation cannot take a single window."""
    return np.array_split(order, max(1, round(len(order) / BATCH)))


def _balanced(targets: Tensor, num_labels: int) -> Tensor:
    """Weight of each class: the inverse of its frequency, or 0 for a class without training rows."""
    counts = torch.bincount(targets, minlength=num_labels).float()
    return torch.where(counts > 0, len(targets) / (counts.clamp(min=1) * (counts > 0).sum()), 0.0)


@torch.no_grad()
def _logits(network: Network, signals: Signals) -> Tensor:
    network.eval()
    numbers = np.arange(len(signals))
    return torch.cat([network(signals.read(numbers[at : at + BATCH])) for at in range(0, len(numbers), BATCH)])


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
