"""Requests to the replicas, a few items at a time, and the noise that can replace the EEG of these items."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from e2llm_core.evaluation.faithfulness.edits import BandEdit
from e2llm_core.tasks.items import TEXT_ALONE, Condition, Items
from storage.windows import Windows

_AMPLITUDE_WINDOWS = 32


@dataclass(frozen=True)
class Request:
    """A few items of one task, by number; the signal is read where they are answered.

    Attributes
    ----------
    condition : str
        What is shown.
    items : np.ndarray
        int64 (items,): numbers within the task.
    windows : np.ndarray
        int64 (items, segments): numbers of the windows that each item shows; no segments where none is shown.
    edits : tuple of BandEdit or None
        Change of each item's signals before normalisation; empty if no signal is changed.
    listed : tuple of str
        Each item's own part of the question; empty if all are asked the same.
    """

    condition: Condition
    items: np.ndarray
    windows: np.ndarray
    edits: tuple[BandEdit | None, ...] = ()
    listed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forced:
    """Items whose answer has already begun, and the continuations to score.

    Attributes
    ----------
    request : Request
        The items.
    prefixes : tuple of str
        Beginning of each item's answer, as the model would generate it.
    continuations : tuple of tuple of str
        Texts to score after each prefix; equally many for every item.
    """

    request: Request
    prefixes: tuple[str, ...]
    continuations: tuple[tuple[str, ...], ...]

    @property
    def items(self) -> np.ndarray:
        """int64 (items,): numbers within the task."""
        return self.request.items


def requests_of(items: Items, condition: Condition, size: int) -> list[Request]:
    """All items of a task under one condition, `size` at a time."""
    windows = items.windows[:, :0] if condition == TEXT_ALONE else items.windows
    return split_request(Request(condition, np.arange(len(windows)), windows, listed=items.listed), size)


def split_request(whole: Request, size: int) -> list[Request]:
    """The same items, `size` at a time."""
    parts = [slice(at, at + size) for at in range(0, len(whole.items), size)]
    return [
        Request(whole.condition, whole.items[at], whole.windows[at], whole.edits[at], whole.listed[at]) for at in parts
    ]


class Noise:
    """Noise that is shown in place of EEG: white within 0.5-50 Hz, with the channel amplitudes of the first windows.

    The noise of a segment depends only on the seed, the number of its item, its position in the item and the number of
    segments of the item: it is the same in any request and on any replica.

    Parameters
    ----------
    like : Windows
        Windows of the EEG that the noise replaces.
    seed : int
        Seed of the evaluation.
    """

    def __init__(self, like: Windows, seed: int) -> None:
        self._like, self._seed = like, seed
        freqs = np.fft.rfftfreq(like.n_times, 1 / like.sfreq_hz)
        self._band = ((freqs >= 0.5) & (freqs < 50.0)).astype(np.float32)

    @cached_property
    def _gain(self) -> np.ndarray:
        """float32 (n_chans, 1): factors that scale white noise in the band to the amplitude of the EEG."""
        amplitude = self._like.read(np.arange(min(_AMPLITUDE_WINDOWS, len(self._like)))).std(axis=(0, 2))
        weights = np.full(len(self._band), 2.0)  # each frequency and its mirror image
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
