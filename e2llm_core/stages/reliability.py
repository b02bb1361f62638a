"""How well a quantity of one window tells that of its neighbour: what does not repeat is not worth a claim.

The reliability of a quantity is the correlation, over training windows, of its deviation from its reference with that
of the next window of the same trial that does not overlap. Where there are fewer than `FEWEST` such pairs, because
trials have one window only, it is the correlation of the two halves of the windows, stepped up to the length of the
whole by the Spearman-Brown formula (Spearman, 1910; Brown, 1910). Halves of less than `SHORTEST_HALF_SECONDS` resolve
no bands: the reliability is then not known (NaN), and nothing is claimed where a spec asks for any.
"""

from collections.abc import Sequence

import numpy as np

from e2llm_core.claims.measures import SignalMeasures
from e2llm_core.claims.table import DEFAULT_KINDS
from storage.sampling.order import Permutation
from storage.windows import Windows

FEWEST = 8
SHORTEST_HALF_SECONDS = 0.5
_SAMPLE = 4096
_READ = 64


def neighbours(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of windows, each int64 (pairs,): a window, and the next of its trial that does not overlap it.

    Of very many, a fixed sample.
    """
    stride = round(windows.config.stride_seconds * windows.sfreq_hz)
    step = -(-windows.n_times // stride)
    counts = np.diff(windows.ends, prepend=0)
    pairs_of = np.maximum(0, counts - step)
    ends, total = np.cumsum(pairs_of), int(pairs_of.sum())
    chosen = np.arange(total) if total <= _SAMPLE else np.sort(Permutation(total, 0)(np.arange(_SAMPLE)))
    row = np.searchsorted(ends, chosen, side="right")
    first = (windows.ends - counts)[row] + chosen - (ends - pairs_of)[row]
    return first, first + step


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's r of each column of two arrays (n, quantities); 0 where one of them is constant."""
    left, right = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((left**2).sum(axis=0) * (right**2).sum(axis=0))
    found: np.ndarray = np.divide((left * right).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)
    return found


def split_half(windows: Windows, groups: np.ndarray | None, kinds: Sequence[str] = DEFAULT_KINDS) -> np.ndarray:
    """Reliability (quantities,) of a window, from its halves.

    Parameters
    ----------
    windows : Windows
        As the measures need them; a fixed sample of very many.
    groups : np.ndarray, optional
        Of each trial (trials,), the session whose average is taken out; None for one reference of all.
    kinds : sequence of str
        Names of the kinds of claim to measure.
    """
    half = windows.n_times // 2
    measures = SignalMeasures(windows.channels, windows.sfreq_hz, half, kinds)
    if half < SHORTEST_HALF_SECONDS * windows.sfreq_hz:
        return np.full(len(measures.names), np.nan)
    count = len(windows)
    ids = np.arange(count) if count <= _SAMPLE else np.sort(Permutation(count, 0)(np.arange(_SAMPLE)))
    parts = []
    for some in np.array_split(ids, -(-len(ids) // _READ)):
        signal = windows.read(some)
        parts.append([measures(signal[..., :half]), measures(signal[..., -half:])])
    first, second = (np.concatenate(values).astype(np.float64) for values in zip(*parts, strict=True))
    own = np.zeros(len(ids), np.int64) if groups is None else groups[windows.locate(ids)[0]]
    for session in np.unique(own):
        here = own == session
        first[here] -= first[here].mean(axis=0)
        second[here] -= second[here].mean(axis=0)
    found = correlation(first, second)
    stepped_up: np.ndarray = np.where(found > 0, 2 * found / (1 + found), found)
    return stepped_up
